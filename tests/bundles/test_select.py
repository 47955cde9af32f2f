"""Selection through the bundle's config: what is written, that training takes it, and what a user can get wrong."""

from __future__ import annotations

import csv
import json
import shutil

import matplotlib.image
import pytest

from common.checkpoints import save_atomically
from common.data.splits import SplitError
from common.files import WriteError
from common.lineage import read_lineage
from common.networks import UNet2d

PRETRAIN = {f"patient00{number}" for number in range(1, 5)}  # patient005 is for validation, 6 and 7 for the test


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with an encoder."""
    folder = tmp_path_factory.mktemp("weights")
    save_atomically(UNet2d(num_classes=4).state_dict(), folder / "pretrained_encoder.pt")
    return folder


def run(phantom, folder, weights, **options):
    phantom.run("select", folder, pretrained_dir=weights, **options)
    return json.loads((folder / "select" / "selection.json").read_text(encoding="utf-8"))


def fail(phantom, folder, weights, **options):
    error = phantom.fail("select", folder, pretrained_dir=weights, **options)
    assert not list(folder.rglob("selection*")) and not list(folder.rglob("report.html"))
    return error


def rows_of(folder):
    with open(folder / "select" / "selection.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_is_written(phantom, weights, tmp_path):
    chosen = run(phantom, tmp_path, weights, number=2)
    assert sorted(path.name for path in (tmp_path / "select").iterdir()) == [
        "report.html",
        *(f"selection.{kind}" for kind in ("csv", "json", "png")),
    ]
    page = (tmp_path / "select" / "report.html").read_text(encoding="utf-8")
    assert all(f"Open the slices of {name}" in page for name in PRETRAIN) and f"to label next: {chosen[0]}" in page
    rows = rows_of(tmp_path)
    assert {row["id"] for row in rows} == PRETRAIN and [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["id"] for row in rows[:2]] == chosen
    assert [row["state"] for row in rows] == ["chosen", "chosen", "left", "left"]
    assert all(float(row["distance_to_neighbours"]) > 0 for row in rows)
    assert {row["nearest"] for row in rows[2:]} <= set(chosen) and float(rows[3]["distance_to_nearest"]) > 0
    assert all(row["image"] == str(phantom.image(row["id"])) for row in rows)
    assert matplotlib.image.imread(tmp_path / "select" / "selection.png")[..., :3].std() > 0.1


def test_a_selection_can_be_gone_on_with(phantom, weights, tmp_path):
    """Of four volumes asked for in one go or one after the other, each stands for itself only."""
    all_of_them = run(phantom, tmp_path / "all", weights, number=4, pictures=False)
    first = run(phantom, tmp_path / "first", weights, number=1, pictures=False)
    selection = tmp_path / "first" / "select" / "selection.json"
    second = run(phantom, tmp_path / "second", weights, number=2, pictures=False, labelled=str(selection))
    assert first == all_of_them[:1] and second == all_of_them[:3]
    assert [row["state"] for row in rows_of(tmp_path / "second")] == ["labelled", "chosen", "chosen", "left"]
    assert run(phantom, tmp_path / "ids", weights, number=2, labelled=first) == second


def test_a_labelled_volume_need_not_be_one_to_pretrain_on(phantom, weights, tmp_path):
    split = json.loads(phantom.split_path.read_text())
    split["pretrain"].remove("patient001")
    (tmp_path / "splits.json").write_text(json.dumps(split))
    options = {"labelled": ["patient001"], "split_path": tmp_path / "splits.json"}
    chosen = run(phantom, tmp_path, weights, **options)
    assert chosen[0] == "patient001" and len(chosen) == 2 and len(rows_of(tmp_path)) == 4


def test_training_takes_a_selection(phantom, weights, tmp_path):
    chosen = run(phantom, tmp_path, weights, number=2, pictures=False)
    selection = str(tmp_path / "select" / "selection.json")
    phantom.run("train", tmp_path, initialisation="random", steps=1, labelled=selection)
    volumes = read_lineage(tmp_path / "models" / "model.pt")["volumes"]
    assert {row[0] for row in volumes["labelled"]} == set(chosen)
    assert {row[0] for row in volumes["validation"]} == {"patient005"}
    # The same volumes as a list are the same run; others are not.
    phantom.run("train", tmp_path, initialisation="random", steps=1, labelled=list(chosen))
    others = sorted(PRETRAIN - set(chosen))
    error = phantom.fail("train", tmp_path, initialisation="random", steps=1, labelled=others)
    assert "data_sha256: labelled changed" in str(error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"number": 5}, "number must be at most 4, the unlabelled volumes, got 5: ask for fewer"),
        ({"number": 0}, "number must be a whole number from 1, got 0"),
        (
            {"number": 2, "labelled": ["patient001", "patient002", "patient003"]},
            "at least 2 unlabelled volumes to choose",
        ),
        ({"number": 3, "labelled": ["patient001", "patient002"]}, "number must be at most 2"),
        ({"labelled": ["patient099"]}, "got patient099 that the dataset does not have"),
        ({"labelled": ["patient006"]}, "must not be for the test, got patient006"),
        ({"labelled": ["patient005"]}, "must not be for the validation, got patient005"),
        ({"labelled": "gone.json"}, "got 'gone.json', which cannot be read"),
    ],
)
def test_what_cannot_be_chosen(phantom, weights, tmp_path, options, message):
    error = fail(phantom, tmp_path, weights, **options)
    assert isinstance(error, SplitError) and message in str(error)


@pytest.mark.parametrize("labelled", [["patient006"], ["patient005"], []])
def test_what_cannot_be_trained_on(phantom, tmp_path, labelled):
    error = phantom.fail("train", tmp_path, initialisation="random", labelled=labelled)
    assert isinstance(error, SplitError) and "labelled" in str(error)


def test_no_encoder(phantom, tmp_path):
    error = fail(phantom, tmp_path, tmp_path)
    assert f"{tmp_path / 'pretrained_encoder.pt'}: there is no such file" in str(error)


def test_number_of_partitions(phantom, weights, tmp_path):
    assert "num_partitions must be a whole number from 1, got 0" in str(
        fail(phantom, tmp_path, weights, num_partitions=0)
    )


@pytest.fixture
def broken(phantom, tmp_path):
    """The dataset with a file that cannot be read."""
    shutil.copytree(phantom.dataset_dir, tmp_path / "data")
    path = tmp_path / "data" / "training" / "patient003" / "patient003_frame01.nii.gz"
    path.write_bytes(path.read_bytes()[:100])
    return {"dataset_dir": tmp_path / "data", "dataset#num_workers": 0}


def test_volumes_that_cannot_be_read_are_named_and_left_out(phantom, weights, tmp_path, broken, capsys):
    assert len(run(phantom, tmp_path, weights, number=3, **broken)) == 3
    assert {row["id"] for row in rows_of(tmp_path)} == PRETRAIN - {"patient003"}
    assert "1 of 4 volumes cannot be used:" in (said := capsys.readouterr().out) and "patient003_frame01" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"number": 4}, "at most 3, the unlabelled volumes that can be read, got 4"),
        ({"labelled": ["patient003"]}, "labelled volumes must be readable, got patient003"),
    ],
)
def test_too_few_that_can_be_read(phantom, weights, tmp_path, broken, options, message):
    assert message in str(fail(phantom, tmp_path, weights, **broken, **options))


def test_nothing_is_written_by_half(phantom, weights, tmp_path, monkeypatch):
    def refuse(*_):
        raise WriteError(28, "no room")

    monkeypatch.setattr("common.selection.draw_selection", refuse)
    assert "no room" in str(fail(phantom, tmp_path, weights))
