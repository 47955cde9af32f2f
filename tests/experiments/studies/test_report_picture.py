"""The picture of a report, taken by a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from experiments.studies.report_picture import chromium, report_picture
from tests.common.report.made_up import make_report, write_made_up


@pytest.mark.browser
def test_the_table_and_an_opened_volume_are_side_by_side(tmp_path):
    pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    if not Path(chromium()).is_file():
        pytest.skip(f"there is no {chromium()}; the variable CHROMIUM may name another")
    report = write_made_up(tmp_path / "report.html", make_report(4, shape=(6, 60, 80)))
    report_picture(str(report), "patient002", str(tmp_path / "out" / "report.png"), width=900)
    with Image.open(tmp_path / "out" / "report.png") as picture:
        assert picture.width == 900 and len(picture.convert("RGB").getcolors(2**16)) > 20
