from __future__ import annotations

import errno
import io
import os
import pickle
import random
import zipfile

import pytest
import torch

from common import checkpoints
from common.checkpoints import CheckpointError, checked_archive, read_weights, save_atomically
from common.files import WriteError
from common.networks import GlobalPretrainingNet, UNet2d


@pytest.fixture
def encoder_file(tmp_path):
    torch.manual_seed(1)
    network = UNet2d(4)
    path = tmp_path / "pretrained_encoder.pt"
    checkpoints.save_atomically(checkpoints.select_parts(network.state_dict(), ["encoder."]), path)
    return path


def test_encoder_is_handed_over_and_the_rest_stays(encoder_file, caplog):
    source = checkpoints.read_weights(encoder_file)
    torch.manual_seed(2)
    network = UNet2d(3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with caplog.at_level("INFO"):
        assert checkpoints.load_pretrained(network, encoder_file) is network
    parameters = {name for name, _ in network.named_parameters()}
    for name, value in network.state_dict().items():
        expected = source[name] if name.startswith("encoder.") and name in parameters else before[name]
        assert torch.equal(value, expected), name
    assert "48 of the network's" in caplog.text and "885,552 values" in caplog.text


def test_statistics_stay_fresh(tmp_path):
    network = UNet2d(4)
    network(torch.rand(2, 1, 32, 32))
    checkpoints.save_atomically(network.state_dict(), tmp_path / "model.pt")
    fresh = checkpoints.load_pretrained(UNet2d(4), tmp_path / "model.pt")
    assert (fresh.encoder.levels[0][0][1].running_mean == 0).all()
    whole = checkpoints.load_model(UNet2d(4), tmp_path / "model.pt")
    assert torch.equal(whole.encoder.levels[0][0][1].running_mean, network.encoder.levels[0][0][1].running_mean)


def test_inner_unet_keeps_its_names(encoder_file):
    network = GlobalPretrainingNet(UNet2d(4), (64, 64), 8)
    checkpoints.load_pretrained(network.unet, encoder_file, ["encoder."])
    assert torch.equal(
        network.state_dict()["unet.encoder.levels.0.0.0.weight"],
        checkpoints.read_weights(encoder_file)["encoder.levels.0.0.0.weight"],
    )


def test_wanted_part_that_is_missing(encoder_file):
    with pytest.raises(CheckpointError, match=r"not in the file, such as 'decoder\.blocks\.0"):
        checkpoints.load_pretrained(UNet2d(4), encoder_file, ["encoder.", "decoder.blocks.0."])


def test_wrong_class_count(tmp_path):
    checkpoints.save_atomically(UNet2d(3).state_dict(), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="another number of classes"):
        checkpoints.load_model(UNet2d(4), tmp_path / "model.pt")


def test_partial_file_is_no_model(encoder_file):
    with pytest.raises(CheckpointError, match="not in the file"):
        checkpoints.load_model(UNet2d(4), encoder_file)


def test_file_of_another_network(tmp_path):
    checkpoints.save_atomically(torch.nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="that the network lacks"):
        checkpoints.load_model(UNet2d(4), tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not in the network"):
        checkpoints.load_pretrained(UNet2d(4), tmp_path / "other.pt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps({"a": 1})], ids=["empty", "text", "pickle"])
def test_damaged_file(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.pt"):
        checkpoints.read_weights(tmp_path / "model.pt")


SMALL = {"encoder.weight": torch.arange(40.0), "encoder.count": torch.tensor(7), "half": torch.ones(3, 5).bfloat16()}


def zip_regions(content):
    """Name every byte of an archive of `torch.save` by what it is."""
    regions = ["end of the archive"] * len(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start = archive.start_dir
        for record in archive.infolist():
            begin = record.header_offset
            name, extra = (int.from_bytes(content[begin + at : begin + at + 2], "little") for at in (26, 28))
            data = begin + 30 + name + extra
            end = data + record.file_size
            kinds = [
                ("header", begin, begin + 30),
                ("name", begin + 30, begin + 30 + name),
                ("padding", data - extra, data),
            ]
            for kind, first, last in [*kinds, ("content", data, end), ("descriptor", end, end + 24)]:
                regions[first:last] = [kind] * (last - first)
            size = 46 + len(record.filename) + len(record.extra)
            regions[start : start + size] = ["directory"] * size
            start += size
    return regions


@pytest.mark.parametrize("way", ["torch", "ours", "with another record"])
def test_a_flipped_byte_is_found_or_has_no_effect(tmp_path, way):
    path = tmp_path / "model.pt"
    torch.save(SMALL, path) if way == "torch" else save_atomically(SMALL, path)
    if way == "with another record":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("lineage.json", "{}")
    content, generator = path.read_bytes(), random.Random(0)
    places: dict[str, list[int]] = {}
    for place, region in enumerate(zip_regions(content)):
        places.setdefault(region, []).append(place)
    assert len(places) >= 6
    found = dict.fromkeys(places, 0)
    for region, all_places in places.items():
        for place in generator.sample(all_places, min(25, len(all_places))):
            damaged = bytearray(content)
            damaged[place] ^= 1 << generator.randrange(8)
            path.write_bytes(damaged)
            try:
                weights = read_weights(path)
            except CheckpointError as error:
                assert str(path) in str(error)
                found[region] += 1
            else:
                assert set(weights) == set(SMALL), (region, place)
                for name, value in SMALL.items():
                    assert torch.equal(weights[name], value) and weights[name].dtype == value.dtype, (region, place)
    assert found["content"] == found["name"] == 25


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_short(tmp_path, share):
    path = tmp_path / "model.pt"
    save_atomically(SMALL, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"model\.pt: is damaged, or not an archive .* Copy it again"):
        read_weights(path)


def test_checked_archive_holds_what_the_file_does(tmp_path):
    save_atomically(SMALL, tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "model.pt") as old, zipfile.ZipFile(checked_archive(tmp_path / "model.pt")) as new:
        assert new.namelist() == old.namelist()
        assert all(new.read(name) == old.read(name) for name in old.namelist())


def test_files_without_checksums_are_refused(tmp_path):
    torch.save(SMALL, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert set(torch.load(tmp_path / "old.pt", weights_only=True)) == set(SMALL)
    with pytest.raises(CheckpointError, match=r"rewritten by torch\.save\(torch\.load\(OLD\), NEW\)"):
        read_weights(tmp_path / "old.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("below", [None, "model"])
def test_weights_that_are_not_finite(tmp_path, value, below):
    weights = {**SMALL, "head.bias": torch.tensor([0.0, value])}
    save_atomically({below: weights} if below else weights, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"model\.pt: 'head\.bias' holds 1 values that are NaN or infinite, of 2"):
        read_weights(tmp_path / "model.pt")


def test_file_that_must_not_be_read(tmp_path, monkeypatch):
    save_atomically(SMALL, tmp_path / "model.pt")

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(zipfile, "ZipFile", refuse)
    with pytest.raises(CheckpointError, match="cannot be read .Permission denied.; get the right"):
        read_weights(tmp_path / "model.pt")


def test_full_disk_is_said_in_words(tmp_path, monkeypatch):
    def fill(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_bytes", fill)
    with pytest.raises(WriteError, match=r"models cannot be written to: its disk is full \([0-9,.]+ MiB free\)"):
        save_atomically(SMALL, tmp_path / "models" / "model.pt")
    assert os.listdir(tmp_path / "models") == []


def test_objects_are_refused(tmp_path):
    torch.save({"model": UNet2d(2)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="loaded safely"):
        checkpoints.read_weights(tmp_path / "model.pt")


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        checkpoints.load_model(UNet2d(4), tmp_path / "model.pt")


def test_failed_saving_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.pt"
    checkpoints.save_atomically({"a": torch.ones(1)}, path)
    with pytest.raises(Exception, match="pickle|local object"):
        checkpoints.save_atomically({"a": lambda: None}, path)
    assert checkpoints.read_checkpoint(path)["a"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("best", ValueError, "initialisation must be"),
        ("encoder_decoder", CheckpointError, r"run pretrain_local.json .* --initialisation encoder or random"),
    ],
)
def test_initialise_errors(tmp_path, name, error, message):
    with pytest.raises(error, match=message):
        checkpoints.initialise(UNet2d(4), name, tmp_path)


def test_initialisation_needs_the_parts_it_is_named_after(encoder_file):
    encoder_file.rename(encoder_file.with_name("pretrained_encoder_decoder.pt"))
    with pytest.raises(CheckpointError, match=r"not in the file, such as 'decoder\.blocks\.0"):
        checkpoints.initialise(UNet2d(4), "encoder_decoder", encoder_file.parent)
    checkpoints.save_atomically({"head.1.weight": UNet2d(4).head[1].weight}, encoder_file)
    with pytest.raises(CheckpointError, match=r"not in the file, such as 'encoder"):
        checkpoints.initialise(UNet2d(4), "encoder", encoder_file.parent)


def test_first_decoder_blocks_are_handed_over(tmp_path):
    source = UNet2d(4).state_dict()
    parts = ["encoder.", "decoder.blocks.0.", "decoder.blocks.1."]
    path = tmp_path / "pretrained_encoder_decoder.pt"
    checkpoints.save_atomically(checkpoints.select_parts(source, parts), path)
    network = checkpoints.initialise(UNet2d(4), "encoder_decoder", tmp_path)
    weight = "decoder.blocks.{}.up.1.weight"
    same = [torch.equal(network.state_dict()[weight.format(k)], source[weight.format(k)]) for k in range(5)]
    assert same == [True, True, False, False, False]


def test_content_hash(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert checkpoints.content_hash(tmp_path / "a") == checkpoints.content_hash(tmp_path / "b")
    (tmp_path / "b").write_bytes(b"y")
    assert checkpoints.content_hash(tmp_path / "a") != checkpoints.content_hash(tmp_path / "b")
    assert checkpoints.content_hash(tmp_path / "missing") is None


@pytest.mark.parametrize("initialisation", ["encoder", "random"])
def test_only_what_is_to_be_fine_tuned_accepts_parts(encoder_file, initialisation):
    encoder = checkpoints.read_weights(encoder_file)
    network = checkpoints.initialise(UNet2d(4), initialisation, encoder_file.parent)
    network.load_state_dict(encoder, strict=False)
    with pytest.raises(ValueError, match="can be fine-tuned, not segmented with"):
        UNet2d(4).load_state_dict(encoder, strict=False)


def test_initialise(encoder_file):
    network = checkpoints.initialise(UNet2d(4), "encoder", encoder_file.parent)
    name = "encoder.levels.3.0.0.weight"
    assert torch.equal(network.state_dict()[name], checkpoints.read_weights(encoder_file)[name])
    torch.manual_seed(3)
    random = UNet2d(4)
    before = random.head[1].weight.clone()
    assert torch.equal(checkpoints.initialise(random, "random", "nowhere").head[1].weight, before)
