"""Tables as CSV files."""

from __future__ import annotations

import pytest

from common.tables import write_table


def test_a_table_is_written(tmp_path):
    write_table(tmp_path / "new" / "a.csv", [{"id": "ä, b", "x": 0.5}, {"id": "c", "x": None}], ["id", "x"])
    text = (tmp_path / "new" / "a.csv").read_bytes().decode("utf-8")
    assert text.splitlines() == ["id,x", '"ä, b",0.5', "c,"]


def test_a_row_with_more_than_the_columns_leaves_what_was_there(tmp_path):
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(ValueError, match="fields not in fieldnames"):
        write_table(tmp_path / "a.csv", [{"id": 1}, {"id": 2, "y": 1}], ["id"])
    assert (tmp_path / "a.csv").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
