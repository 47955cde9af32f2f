"""Licence, manual and model card of a release, and the layout that `push_to_hf_hub` uploads."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import monai.bundle.scripts
import pytest
import yaml

from release.documents import relink
from tests.places import REPOSITORY

from .made_up_repository import NAME, PARTS

FRONT_MATTER = re.compile(r"---\n(.*?)\n---\n(.*)", re.DOTALL)


def split_card(text):
    header, body = FRONT_MATTER.fullmatch(text).groups()
    return header, body


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see [`x`](data_license.txt).", "see [`x`](docs/data_license.txt)."),
        ("see [x](pictures/a.png)", "see [x](docs/pictures/a.png)"),
        ("see [x](../configs/train.json)", "see [x](configs/train.json)"),
        ("see [`r/README.md`](../../r/README.md), which", "see `r/README.md` of the bundle's source, which"),
        ("[a](https://example.org/a) and [b](#b)", "[a](https://example.org/a) and [b](#b)"),
        ("a[0](x) is code", "a[0](docs/x) is code"),
    ],
)
def test_links_stay_right(text, expected):
    assert relink(text, "docs", ".") == expected


def test_links_lead_to_files_of_the_release(exported, released):
    bundles, out = exported
    for folder in (released / NAME, *(out / bundle for bundle in bundles)):
        for path in folder.rglob("*.md"):
            links = re.findall(r"\]\((?!\w+:|#)([^)]+)\)", path.read_text(encoding="utf-8"))
            assert links or path.name != "README.md" or path.parent.name == "models"
            assert all((path.parent / link).is_file() for link in links), (path, links)


def test_every_release_explains_its_commands_and_options(exported):
    bundles, out = exported
    for bundle in bundles:
        text = "".join(path.read_text(encoding="utf-8") for path in (out / bundle / "docs").glob("*.md"))
        for option in ("`weight_averaging`", "`num_labelled`, `draw`", "torchrun", "output_dir/resume.pt"):
            assert option in text, (bundle, option)


def assert_says_what_it_is(body):
    """Check that a card's text has terms, metrics and limits."""
    for text in (
        "CC BY-NC-SA 4.0",
        "non-commercial use only",
        "| 0.500 | 0.250 | 0.750 | 0.500 |",
        "lowest: patient007, 0.500",
        "Not for clinical use",
        "## Limitations",
        *PARTS,
    ):
        assert text in body, text
    assert re.findall("^# .*", body, re.MULTILINE) == [body.strip().splitlines()[0]]  # one title


def test_model_card(released):
    header, body = split_card((released / NAME / "README.md").read_text(encoding="utf-8"))
    content = yaml.safe_load(header)
    assert content["license"] == "cc-by-nc-sa-4.0" and content["library_name"] == "monai"
    assert {"monai", "medical"} <= set(content["tags"])
    assert_says_what_it_is(body)


def test_licences(released):
    bundle = released / NAME
    assert (bundle / "LICENSE-Apache-2.0").read_bytes() == (REPOSITORY / "LICENSE").read_bytes()
    text = (bundle / "LICENSE").read_text(encoding="utf-8")
    assert "Weights" in text and "cc-by-nc-sa-4.0" in text and "Apache-2.0" in text
    assert (bundle / "docs" / "data_license.txt").is_file()


class Hub:
    """Stands in for the hub's client: notes what would be uploaded."""

    def __init__(self, token=None):
        pass

    def create_repo(self, **_):
        pass

    def create_tag(self, repo_id, tag, exist_ok):
        self.seen["tag"] = tag

    def upload_folder(self, repo_id, folder_path):
        folder = Path(folder_path)
        self.seen["files"] = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        self.seen["card"] = (folder / "README.md").read_text(encoding="utf-8")
        return f"https://example.org/{repo_id}"


def test_layout_that_is_uploaded(released, tmp_path, monkeypatch):
    shutil.copytree(released / NAME, tmp_path / NAME)
    hub = type("Module", (), {"HfApi": type("Api", (Hub,), {"seen": {}})})
    monkeypatch.setattr(monai.bundle.scripts, "huggingface_hub", hub)
    before = {path.relative_to(tmp_path / NAME).as_posix() for path in (tmp_path / NAME).rglob("*") if path.is_file()}
    url = monai.bundle.push_to_hf_hub(repo=f"org/{NAME}", name=NAME, bundle_dir=str(tmp_path), version="1.2.3")
    seen = hub.HfApi.seen
    assert url == f"https://example.org/org/{NAME}" and seen["tag"] == "1.2.3"
    assert seen["files"] == before  # at the top of what is uploaded: what is in the bundle's folder
    assert {"configs/metadata.json", "configs/inference.json", "models/model.pt", "LICENSE", "README.md"} <= before
    header, body = split_card(seen["card"])
    # MONAI takes the licence from the text of LICENSE: not to be that of the code, since it would hold for the weights.
    assert "license: unknown" in header and "library_name: monai" in header
    assert_says_what_it_is(body)
