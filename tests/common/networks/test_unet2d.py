from __future__ import annotations

import math

import pytest
import torch

from common.networks import UNet2d
from common.networks.unet2d import convolution


@pytest.mark.parametrize(("num_classes", "count"), [(3, 2_095_616), (4, 2_095_760), (8, 2_096_336)])
def test_number_of_parameters_is_the_papers(num_classes, count):
    network = UNet2d(num_classes)
    assert sum(value.numel() for value in network.parameters()) == count
    assert sum(value.numel() for value in network.encoder.parameters()) == 885_552


@pytest.mark.parametrize("side", [192, 160, 32])
def test_encoder_halves_five_times(side):
    features = UNet2d(4).eval().encoder(torch.zeros(1, 1, side, side))
    assert [tuple(value.shape[1:]) for value in features] == [
        (channels, side // 2**level, side // 2**level) for level, channels in enumerate((16, 32, 64, 128, 128, 128))
    ]


@pytest.mark.parametrize(("num_blocks", "channels"), [(1, 128), (2, 128), (3, 64), (4, 32), (5, 16)])
def test_decoder_prefix(num_blocks, channels):
    network = UNet2d(4).eval()
    output = network.decoder(network.encoder(torch.zeros(1, 1, 64, 64)), num_blocks)
    assert output.shape == (1, channels, 64 // 2 ** (5 - num_blocks), 64 // 2 ** (5 - num_blocks))


def test_output_has_a_channel_for_each_class():
    assert UNet2d(3, in_channels=2).eval()(torch.zeros(2, 2, 64, 96)).shape == (2, 3, 64, 96)


def test_kernels_are_he_normal_and_independent():
    torch.manual_seed(0)
    network = UNet2d(4)
    first, second = (network.encoder.levels[4][index][0].weight for index in (0, 1))
    assert first.std().item() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.02)
    assert not torch.equal(first, second)
    biases = [value for name, value in network.named_parameters() if name.endswith("0.bias")]
    assert biases and all((value == 0).all() for value in biases)


def test_even_kernel_is_padded_at_bottom_and_right():
    layer = convolution(1, 1, 2)
    with torch.no_grad():
        layer[1].weight.copy_(torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]]))  # the lower right neighbour
        layer[1].bias.zero_()
    image = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    assert torch.equal(layer[:2](image), torch.tensor([[[[5.0, 6.0, 0.0], [8.0, 9.0, 0.0], [0.0, 0.0, 0.0]]]]))


def test_batch_norm_follows_slowly():
    norms = [module for module in UNet2d(4).modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 12 + 5 * 3 + 1
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.01, 1e-3)}


def test_scriptable():
    network = UNet2d(4).eval()
    image = torch.rand(1, 1, 32, 32)
    assert torch.allclose(torch.jit.script(network)(image), network(image), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"num_classes": 1}, "num_classes must be at least 2"), ({"num_classes": 2, "in_channels": 0}, "in_channels")],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        UNet2d(**arguments)


def test_kernels_are_in_the_layout_that_the_configs_have():
    kernels = [module.weight for module in UNet2d(4).modules() if isinstance(module, torch.nn.Conv2d)]
    assert kernels and all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def encoder_of(weights):
    return {name: value for name, value in weights.items() if name.startswith("encoder.")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict, None),
        (encoder_of, r"must hold the whole network, but \d+ of \d+ tensors are missing, such as 'decoder"),
        (lambda weights: {**weights, "unet.head": torch.zeros(1)}, "tensors of this network, got such as 'unet.head'"),
        (lambda weights: {}, "tensors of this network, got nothing"),
    ],
    ids=["whole", "parts", "of another network", "empty"],
)
@pytest.mark.parametrize("accepts_parts", [False, True], ids=["to segment with", "to fine-tune"])
def test_unstrict_loading_leaves_no_noise(change, message, accepts_parts):
    network, other = UNet2d(4), UNet2d(4)
    network.accepts_parts = accepts_parts
    if message is None or (change is encoder_of and accepts_parts):
        network.load_state_dict(change(other.state_dict()), strict=False)
        assert network.encoder.levels[0][0][0].weight.equal(other.encoder.levels[0][0][0].weight)
    else:
        with pytest.raises(ValueError, match=message):
            network.load_state_dict(change(other.state_dict()), strict=False)


def test_unstrict_loading_refuses_another_number_of_classes():
    with pytest.raises(RuntimeError, match="size mismatch for head"):
        UNet2d(4).load_state_dict(UNet2d(3).state_dict(), strict=False)
