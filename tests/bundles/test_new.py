"""A new bundle, and the command that writes configs anew."""

from __future__ import annotations

import json
import shutil

import pytest

from bundles.facts import FACTS_FILE, FactsError
from bundles.new import new, propose_split
from bundles.write import describe, write
from common.data.volume_files import DatasetError
from tests.places import BUNDLE


@pytest.fixture
def facts(prostate_phantom, tmp_path):
    content = json.loads((prostate_phantom.bundle / FACTS_FILE).read_text())
    path = tmp_path / "facts.json"
    path.write_text(json.dumps({**content, "dataset_dir": str(prostate_phantom.dataset_dir)}))
    return path


def items(labelled, unlabelled=0):
    images = [{"id": f"p{number}", "image": f"p{number}.nii.gz"} for number in range(labelled + unlabelled)]
    return [{**item, "label": "l.nii.gz"} for item in images[:labelled]] + images[labelled:]


@pytest.mark.parametrize(
    ("labelled", "test", "trained", "validation"),
    [
        (2, ["p1"], ["p0"], []),
        (3, ["p2"], ["p0"], ["p1"]),
        (10, ["p6", "p7", "p8", "p9"], ["p0"], ["p1"]),
    ],
)
def test_proposed_split(labelled, test, trained, validation):
    split = propose_split(items(labelled, unlabelled=2))
    assert split["test"] == test
    assert split["draws"] == {"1": {"c1": {"labelled": trained, "validation": validation}}}
    assert split["pretrain"] == [f"p{n}" for n in range(labelled + 2) if f"p{n}" not in test]


def test_one_label_is_not_enough():
    with pytest.raises(FactsError, match="At least two volumes must have a label.*got p0 of 4 volumes"):
        propose_split(items(1, unlabelled=3))


def test_makes_a_whole_bundle(facts, tmp_path, capsys):
    new("liver", str(facts), str(tmp_path), title="Liver lesions in CT")
    made = tmp_path / "bundle_liver"
    files = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    ours = {str(path.relative_to(BUNDLE)) for folder in ("configs",) for path in (BUNDLE / folder).iterdir()}
    assert files == ours | {"LICENSE", "dataset.json", "docs/README.md", "docs/data_license.txt", "models/.gitkeep"}
    assert "Liver lesions in CT" in json.loads((made / "configs" / "metadata.json").read_text())["name"]
    assert "TO WRITE" in capsys.readouterr().out
    write(str(made), check=True)
    assert "All configs are what" in capsys.readouterr().out


def test_makes_a_bundle_of_photographs(cityscapes_phantom, tmp_path, capsys):
    content = json.loads((cityscapes_phantom.bundle / FACTS_FILE).read_text())
    path = tmp_path / "facts.json"
    path.write_text(json.dumps({**content, "dataset_dir": str(cityscapes_phantom.dataset_dir)}))
    new("streets", str(path), str(tmp_path))
    assert "`python -m bundles draw " in capsys.readouterr().out
    page = (tmp_path / "bundle_streets" / "docs" / "README.md").read_text()
    assert "in photographs. Its encoder" in page and "contrastive loss (GR)" in page and "clinical" not in page
    metadata = json.loads((tmp_path / "bundle_streets" / "configs" / "metadata.json").read_text())
    assert metadata["network_data_format"]["inputs"]["image"]["num_channels"] == 3
    assert "24/25 person" in metadata["label_classes"] and "photographs" in metadata["description"]


@pytest.mark.parametrize("name", ["Liver", "1liver", "my-liver", "../liver", ""])
def test_names_that_no_folder_should_have(facts, tmp_path, name):
    with pytest.raises(FactsError, match="name must begin with a lower-case letter"):
        new(name, str(facts), str(tmp_path))


@pytest.mark.parametrize("fact", ["datalist", "further_frames", "end_systole"])
def test_functions_that_there_are_not(facts, tmp_path, fact):
    content = json.loads(facts.read_text())
    ventricles = content["class_names"][1:] if fact == "end_systole" else []
    facts.write_text(json.dumps({**content, fact: "$datalists.gone", "ventricles": ventricles}))
    with pytest.raises(FactsError, match=rf"{fact} must name a function of common.data.datalists, got .*gone"):
        new("liver", str(facts), str(tmp_path))


def test_a_folder_that_is_there_is_left_alone(facts, tmp_path):
    (tmp_path / "bundle_liver").mkdir()
    with pytest.raises(FactsError, match="bundle_liver is there already"):
        new("liver", str(facts), str(tmp_path))
    assert list((tmp_path / "bundle_liver").iterdir()) == []


def test_nothing_is_left_where_the_dataset_is_not_there(facts, tmp_path):
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "dataset_dir": str(tmp_path / "gone")}))
    with pytest.raises(DatasetError, match="dataset_dir .*gone' of the facts cannot be listed"):
        new("liver", str(facts), str(tmp_path))
    assert not (tmp_path / "bundle_liver").exists()


def test_what_changes_is_said_and_written_once(tmp_path, capsys):
    copy = tmp_path / "bundle_copy"
    shutil.copytree(BUNDLE, copy, ignore=shutil.ignore_patterns("models", "cache", "output"))
    facts = json.loads((copy / FACTS_FILE).read_text())
    (copy / FACTS_FILE).write_text(
        json.dumps({**facts, "spacing_mm": 2.0, "class_names": ["background", "heart"], "ventricles": ["heart"]})
    )
    with pytest.raises(SystemExit) as status:
        write(str(copy), check=True)
    assert status.value.code == 1
    said = capsys.readouterr().out
    assert f"{copy}/configs/train.json: spacing_mm changed; class_names changed" in said
    assert "metadata.json: network_data_format#outputs#pred#num_channels changed" in said
    assert json.loads((copy / "configs" / "train.json").read_text())["spacing_mm"] == facts["spacing_mm"]
    write(str(copy))
    config = json.loads((copy / "configs" / "train.json").read_text())
    assert (config["spacing_mm"], config["class_names"]) == (2.0, ["background", "heart"])
    write(str(copy), check=True)


@pytest.mark.parametrize("text", [None, "{"])
def test_metadata_that_cannot_be_read_are_not_made_up(tmp_path, text):
    copy = tmp_path / "bundle_copy"
    shutil.copytree(BUNDLE, copy, ignore=shutil.ignore_patterns("models", "cache", "output"))
    path = copy / "configs" / "metadata.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(FactsError, match="metadata.json must be the JSON that says what the bundle is.*put it back"):
        write(str(copy))
    assert path.exists() == (text is not None)


def test_a_bundle_that_there_is_not():
    with pytest.raises(
        FactsError, match="name must be acdc, cityscapes, mmwhs, prostate or a folder with a dataset.json, got 'x'"
    ):
        write("x")


@pytest.mark.parametrize(
    ("old", "new_text", "said"),
    [
        (None, "{}", "new"),
        ('{"a": 1}', '{ "a": 1 }', "another layout"),
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', "another order"),
        ('{"a": {"b": 1}, "c": 1}', '{"a": {"b": 2}, "d": 1}', "a#b changed; c is gone; d is new"),
        ("not JSON", "{}", "another text"),
    ],
)
def test_differences(old, new_text, said):
    assert describe(old, new_text) == said
