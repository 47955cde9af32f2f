"""What weights were made from: kept in their file, read from it, and compared with what they are evaluated on."""

from __future__ import annotations

import json
import time
import zipfile

import pytest
import torch
from ignite.engine import Engine
from monai.handlers import CheckpointLoader

from common.checkpoints import CheckpointError, content_hash, read_weights, save_atomically
from common.data.content import Content
from common.data.leaks import LABELLED, PRETRAINING, SELF_TRAINING, TEST, VALIDATION, LeakError
from common.engines import SaveWeights
from common.lineage import RECORD, Lineage, find_overlap, read_lineage


def volume(name, label=None):
    return Content(name, f"hash of {name}", label, f"/data/{name}.nii.gz")


def network():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2)


def save(path, lineage):
    SaveWeights(network(), str(path), lineage=lineage).save()
    return path


@pytest.fixture
def chain(tmp_path):
    """An encoder, a teacher made from it, and a student of the teacher."""
    encoder = save(tmp_path / "encoder.pt", Lineage("pretrain_global", {PRETRAINING: [volume("p1"), volume("p2")]}))
    taught = {LABELLED: [volume("t1", "label")], VALIDATION: [volume("v1", "label")]}
    teacher = save(tmp_path / "teacher.pt", Lineage("train", taught, [encoder]))
    learnt = {LABELLED: [volume("s1", "label")], SELF_TRAINING: [volume("u1")]}
    return save(tmp_path / "student.pt", Lineage("train", learnt, [encoder, teacher], {"seed": 3, "lr": 0.1}))


def test_round_trip(chain, tmp_path):
    record = read_lineage(chain)
    assert record["stage"] == "train" and record["settings"] == {"seed": 3, "lr": 0.1}
    assert record["volumes"][LABELLED] == [["s1", "hash of s1", "label"]]
    encoder, teacher = (content_hash(tmp_path / f"{name}.pt") for name in ("encoder", "teacher"))
    assert record["made_from"] == {encoder: "encoder.pt", teacher: "teacher.pt"}
    assert set(record["ancestors"]) == {encoder, teacher}  # each once, though there are two ways to the encoder
    assert record["ancestors"][teacher]["made_from"] == {encoder: "encoder.pt"}


@pytest.mark.parametrize("mmap", [False, True])
def test_state_dict_is_what_it_would_be_without(chain, mmap):
    loaded = torch.load(chain, weights_only=True, mmap=mmap)
    expected = network().state_dict()
    assert list(loaded) == list(expected) and all(torch.equal(loaded[name], expected[name]) for name in expected)
    assert set(read_weights(chain)) == set(expected)
    with zipfile.ZipFile(chain) as archive:
        assert archive.testzip() is None


def test_monais_loader_reads_it(chain):
    restored = torch.nn.Linear(3, 2)
    engine = Engine(lambda engine, batch: None)
    CheckpointLoader(str(chain), {"model": restored}).attach(engine)
    engine.run([0])
    assert torch.equal(restored.weight, network().weight)


def test_equal_runs_give_equal_bytes(tmp_path, monkeypatch):
    volumes = [volume("b"), volume("a")]
    one = save(tmp_path / "1" / "model.pt", Lineage("train", {LABELLED: volumes}, settings={"seed": 0}))
    later = time.time() + 60  # the date in an archive has steps of two seconds
    monkeypatch.setattr("zipfile.time.time", lambda: later)
    moved = [entry._replace(path="/elsewhere") for entry in reversed(volumes)]
    other = save(tmp_path / "2" / "model.pt", Lineage("train", {LABELLED: moved}, settings={"seed": 0}))
    assert one.read_bytes() == other.read_bytes()
    third = save(tmp_path / "3" / "model.pt", Lineage("train", {LABELLED: volumes}, settings={"seed": 1}))
    assert one.read_bytes() != third.read_bytes()


def test_weights_loaded_later_are_added(tmp_path, chain):
    lineage = Lineage("train", {LABELLED: [volume("s2", "label")]})
    before = lineage.records()
    lineage.start_from(chain)
    assert lineage.records() != before
    record = read_lineage(save(tmp_path / "next.pt", lineage))
    assert set(record["made_from"].values()) == {"student.pt"} and len(record["ancestors"]) == 3


def test_what_is_not_there_is_ignored(tmp_path):
    assert json.loads(Lineage("train", {}, ["", None, tmp_path / "gone.pt"]).records()[RECORD])["made_from"] == {}


# --- overlap ---------------------------------------------------------------------------------------------------------


def no_others():
    raise AssertionError("must not be read")


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("s1", "labelled of train"),
        ("u1", "self-training of train"),
        ("t1", "labelled of train"),
        ("v1", "validation of train"),
        ("p2", "pre-training of pretrain_global"),
    ],
)
def test_every_volume_that_had_a_part_is_found(chain, name, use):
    renamed = volume(name)._replace(id="renamed")
    with pytest.raises(LeakError) as caught:
        find_overlap(chain, TEST, [volume("x"), renamed], no_others)
    for part in ("1 of the 2 evaluated volumes", f"renamed ({use} as {name})", "--allow_overlap True", str(chain)):
        assert part in str(caught.value)
    overlap = find_overlap(chain, TEST, [volume("x"), renamed], no_others, allow=True)
    assert overlap == {"volumes": {"renamed": [f"{use} as {name}"]}, "not_recorded": []}


def test_volumes_that_had_no_part(chain, caplog):
    assert find_overlap(chain, TEST, [volume("x")], no_others) == {"volumes": {}, "not_recorded": []}
    assert not caplog.records


def test_weights_that_do_not_say_are_compared_with_the_split(tmp_path, caplog):
    save_atomically(network().state_dict(), tmp_path / "model.pt")
    others = {LABELLED: [volume("a")._replace(id="copy")]}
    evaluated = [volume("x")]
    overlap = find_overlap(tmp_path / "model.pt", TEST, evaluated, lambda: others)
    assert overlap == {"volumes": {}, "not_recorded": ["model.pt"]}
    assert "model.pt: not recorded" in caplog.text
    with pytest.raises(LeakError, match=r"a \(labelled of the split as copy\)"):
        find_overlap(tmp_path / "model.pt", TEST, [volume("a")], lambda: others)


def test_an_ancestor_that_does_not_say_is_named(tmp_path):
    save_atomically(network().state_dict(), tmp_path / "encoder.pt")
    model = save(tmp_path / "model.pt", Lineage("train", {LABELLED: [volume("a")]}, [tmp_path / "encoder.pt"]))
    assert find_overlap(model, TEST, [volume("x")], dict)["not_recorded"] == ["encoder.pt"]


def test_missing_or_damaged_weights_are_left_to_who_reads_them(tmp_path):
    (tmp_path / "cut.pt").write_bytes(b"PK no archive")
    assert read_lineage(tmp_path / "gone.pt") is None and read_lineage(tmp_path / "cut.pt") is None


@pytest.mark.parametrize(
    "record",
    ["{", "[]", '{"version": 2}', '{"version": 1}', '{"version": 1, "stage": "a", "volumes": {"b": [1]}}'],
)
def test_a_record_of_another_form_is_refused(tmp_path, record):
    save_atomically(network().state_dict(), tmp_path / "model.pt", {RECORD: record.encode()})
    with pytest.raises(CheckpointError, match=f"model.pt: its {RECORD} is not"):
        read_lineage(tmp_path / "model.pt")


def test_test_volumes_that_a_teacher_knows_are_refused_before_training(chain):
    lineage = Lineage("train", {LABELLED: [volume("new", "label")]}, [chain])
    lineage.check_leaks([volume("x")])
    with pytest.raises(LeakError, match="pre-training .of the earlier pretrain_global."):
        lineage.check_leaks([volume("p1")._replace(id="renamed")])


def test_many_volumes_take_little_time_and_room(tmp_path):
    volumes = [Content(f"volume_{number}", f"{number:064x}", None, "") for number in range(5000)]
    started = time.monotonic()
    path = save(tmp_path / "model.pt", Lineage("pretrain_global", {PRETRAINING: volumes}))
    record = read_lineage(path)
    assert len(record["volumes"][PRETRAINING]) == 5000
    assert time.monotonic() - started < 5 and path.stat().st_size < 5000 * 110


@pytest.mark.parametrize("subset", ["labelled", "validation", "pretrain"])
def test_weights_that_do_not_say_are_evaluated_on_the_test_only(tmp_path, subset):
    model = tmp_path / "model.pt"
    save_atomically({}, model)
    with pytest.raises(LeakError, match=f"model.pt does not say .* those of {subset} .* --allow_overlap True"):
        find_overlap(model, subset, [volume("x")], dict)
    assert find_overlap(model, subset, [volume("x")], dict, allow=True)["not_recorded"] == ["model.pt"]
