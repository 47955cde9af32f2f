from __future__ import annotations

import pickle

import pytest
import torch

from common import checkpoints
from common.checkpoints import CheckpointError
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
    with pytest.raises(Exception, match="pickle"):
        checkpoints.save_atomically({"a": lambda: None}, path)
    assert checkpoints.read_checkpoint(path)["a"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [("best", ValueError, "initialisation must be"), ("encoder_decoder", CheckpointError, "--initialisation random")],
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
