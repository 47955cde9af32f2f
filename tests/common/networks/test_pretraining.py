from __future__ import annotations

import pytest
import torch

from common.networks import (
    GlobalPretrainingNet,
    JointPretrainingNet,
    LocalHead,
    LocalPretrainingNet,
    UNet2d,
    region_starts,
    regions,
)


def trainable(network):
    return {name for name, value in network.named_parameters() if value.requires_grad}


def test_global_net_trains_encoder_and_head_only():
    unet = UNet2d(4)
    network = GlobalPretrainingNet(unet, (64, 96), hidden_features=10)
    names = trainable(network)
    assert {name.split(".")[0] for name in names} == {"unet", "global_head"}
    assert {name for name in names if name.startswith("unet.")} == {
        f"unet.encoder.{name}" for name, _ in unet.encoder.named_parameters()
    }
    assert network(torch.rand(3, 1, 64, 96)).shape == (3, 128)


def test_global_head_of_the_authors_program_has_neither_bias_nor_norm():
    network = GlobalPretrainingNet(UNet2d(4), (64, 64), hidden_features=10, head_norm=False)
    names = [name for name, _ in network.global_head.named_parameters()]
    assert names == ["layers.1.weight", "layers.4.weight"]


@pytest.mark.parametrize("image_size", [(60, 64), (64,), (0, 64)])
def test_image_size_must_be_divisible(image_size):
    with pytest.raises(ValueError, match="multiples of 32"):
        GlobalPretrainingNet(UNet2d(4), image_size)


@pytest.mark.parametrize("num_blocks", [1, 3, 5])
def test_local_net_trains_first_blocks_and_head_only(num_blocks):
    network = LocalPretrainingNet(UNet2d(4), num_blocks)
    network(torch.rand(2, 1, 256, 256)).sum().backward()
    with_gradient = {name for name, value in network.named_parameters() if value.grad is not None}
    assert with_gradient == trainable(network)
    parts = {".".join(name.split(".")[:4]) for name in with_gradient if name.startswith("unet.")}
    assert parts == {f"unet.decoder.blocks.{index}" for index in range(num_blocks)}
    assert network.pretrained_prefixes() == ["encoder.", *(f"decoder.blocks.{i}." for i in range(num_blocks))]


@pytest.mark.parametrize("num_blocks", [1, 3, 5])
def test_dense_strategies_have_a_vector_for_each_pixel(num_blocks):
    unet = UNet2d(4)
    size = (num_channels := unet.encoder.levels[5 - num_blocks][0][0].out_channels, *[64 >> (5 - num_blocks)] * 2)
    local = LocalPretrainingNet(unet, num_blocks, strategy="LE")
    assert local(torch.rand(2, 1, 64, 64)).shape == (2, *size)
    assert {tuple(value.shape) for value in local.local_head.parameters()} == {
        (num_channels, num_channels, 1, 1),
        (num_channels,),
    }
    joint = JointPretrainingNet(unet, (64, 64), num_blocks, hidden_features=10, strategy="LX")
    assert joint((torch.rand(3, 1, 64, 64), torch.rand(2, 1, 64, 64)))[1].shape == (2, *size)


def test_local_net_can_train_the_encoder_too():
    network = LocalPretrainingNet(UNet2d(4), 2, strategy="LE", freeze_encoder=False)
    network(torch.rand(2, 1, 64, 64)).square().sum().backward()
    with_gradient = {name for name, value in network.named_parameters() if value.grad is not None}
    assert with_gradient == trainable(network)
    assert {name.split(".")[1] for name in with_gradient if name.startswith("unet.")} == {"encoder", "decoder"}


@pytest.mark.parametrize("num_blocks", [1, 3, 5])
def test_joint_net_trains_encoder_first_blocks_and_both_heads(num_blocks):
    network = JointPretrainingNet(UNet2d(4), (64, 96), num_blocks, hidden_features=10)
    embeddings, regions = network((torch.rand(3, 1, 64, 96), torch.rand(2, 1, 256, 256)))
    assert embeddings.shape == (3, 128) and regions.shape == (2, 17, 128)
    (embeddings.sum() + regions.sum()).backward()
    with_gradient = {name for name, value in network.named_parameters() if value.grad is not None}
    assert with_gradient == trainable(network)
    assert {name.split(".")[0] for name in with_gradient} == {"unet", "global_head", "local_head"}
    prefixes = ["encoder.", *(f"decoder.blocks.{i}." for i in range(num_blocks))]
    assert network.pretrained_prefixes() == prefixes
    assert {name for name in with_gradient if name.startswith("unet.")} == {
        f"unet.{name}" for name, _ in network.unet.named_parameters() if name.startswith(tuple(prefixes))
    }


def test_joint_net_does_what_the_two_others_do():
    unet = UNet2d(4)
    joint = JointPretrainingNet(unet, (64, 64), 2, region_size=1, hidden_features=10, head_norm=False).train()
    images, local_images = torch.rand(3, 1, 64, 64), 2 * torch.rand(4, 1, 64, 64)
    embeddings, regions = joint((images, local_images))
    alone = GlobalPretrainingNet(unet, (64, 64), hidden_features=10, head_norm=False).train()
    alone.global_head = joint.global_head
    local = LocalPretrainingNet(unet, 2, region_size=1).train()
    local.local_head = joint.local_head
    # With the statistics of each batch by itself, or one of the two would be another.
    torch.testing.assert_close(embeddings, alone(images))
    torch.testing.assert_close(regions, local(local_images))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_batch_norm_of_the_frozen_encoder(mode):
    network = LocalPretrainingNet(UNet2d(4), encoder_batch_norm=mode).train()
    norm = network.unet.encoder.levels[0][0][1]
    before = norm.running_mean.clone()
    network(torch.rand(2, 1, 192, 192))
    assert torch.equal(before, norm.running_mean) == (mode == "eval")
    assert network.unet.decoder.blocks[0].up[2].training


@pytest.mark.parametrize("region_size", [1, 3])
def test_region_vectors_come_from_their_windows(region_size):
    """Changing the map inside one window changes exactly the vectors of the windows that hold the place."""
    torch.manual_seed(0)  # of the few hidden units none may be active there
    head = LocalHead(8, region_size).eval()
    features = torch.rand(1, 8, 48, 48)
    changed = features.clone()
    changed[0, :, 23, 23] += 1.0
    difference = (head(features) - head(changed)).abs().sum(dim=2)[0]
    starts = region_starts(48, region_size)
    holds = ((starts <= 23) & (23 < starts + region_size)).all(dim=1)
    assert holds.any()
    assert torch.equal(difference > 0, holds)


@pytest.mark.parametrize("region_size", [1, 3])
def test_a_step_makes_no_table_of_regions(region_size, monkeypatch):
    head = LocalHead(8, region_size).eval()
    features = torch.rand(2, 8, 24, 40)
    first = head(features)
    monkeypatch.setattr(regions, "region_starts", None)  # cannot be called
    assert torch.equal(head(features), first)


def test_region_vector_is_flattened_row_by_row_with_channels_last():
    head = LocalHead(2, 3).eval()
    head.layers = torch.nn.Identity()
    features = torch.arange(2.0 * 16 * 16).reshape(1, 2, 16, 16)
    with torch.no_grad():
        head.projection.weight.copy_(torch.eye(128, 18))
    vector = head(features)[0, 1, :18]
    row, column = region_starts(16, 3)[1].tolist()
    expected = features[0, :, row : row + 3, column : column + 3].permute(1, 2, 0).flatten()
    assert torch.equal(vector, expected)


def test_mean_of_a_region():
    head = LocalHead(2, 3, region_vector="mean").eval()
    head.layers = torch.nn.Identity()
    features = torch.rand(1, 2, 16, 16)
    row, column = region_starts(16, 3)[4].tolist()
    assert torch.allclose(head(features)[0, 4], features[0, :, row : row + 3, column : column + 3].mean(dim=(1, 2)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_blocks": 0}, "num_blocks must be 1 to 5"),
        ({"num_blocks": 6}, "num_blocks must be 1 to 5"),
        ({"region_size": 2}, "region_size must be one of"),
        ({"region_vector": "max"}, "region_vector must be"),
        ({"encoder_batch_norm": "off"}, "encoder_batch_norm must be"),
        ({"strategy": "LF"}, "strategy must be one of .*, got 'LF'"),
        ({"strategy": "LE", "num_blocks": 6}, "num_blocks must be 1 to 5, got 6"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        LocalPretrainingNet(UNet2d(4), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": (60, 64)}, "multiples of 32"),
        ({"image_size": (64, 64), "num_blocks": 6}, "num_blocks must be 1 to 5, got 6"),
        ({"image_size": (64, 64), "region_size": 2}, "region_size must be one of"),
        ({"image_size": (64, 64), "region_vector": "max"}, "region_vector must be"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_errors_of_the_joint_net(arguments, message):
    with pytest.raises(ValueError, match=message):
        JointPretrainingNet(UNet2d(4), **arguments)
