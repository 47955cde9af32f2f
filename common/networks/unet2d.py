"""The 2-D U-Net of the paper: six encoder levels, five decoder blocks, a segmentation head (supplement, section 1)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..monai_label import GuardedNetwork

ENCODER_CHANNELS = (16, 32, 64, 128, 128, 128)
NUM_DECODER_BLOCKS = len(ENCODER_CHANNELS) - 1


def convolution(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """Convolution, batch normalisation and ReLU that keep the image's size.

    An even kernel is padded by one row and column at the bottom and right, as TensorFlow's "SAME" does. The running
    averages of the batch normalisation follow with momentum 0.01 and epsilon is 1e-3, the paper's values.
    """
    before = (kernel_size - 1) // 2
    after = kernel_size - 1 - before
    layers: list[nn.Module] = []
    if before == after:
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=before)
    else:
        layers.append(nn.ZeroPad2d((before, after, before, after)))
        conv = nn.Conv2d(in_channels, out_channels, kernel_size)
    layers += [conv, nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def check_image_size(image_size: Sequence[int]) -> tuple[int, int]:
    """Return (height, width), or raise a ValueError if they are not two positive multiples of 32."""
    if len(image_size) != 2 or any(side <= 0 or side % 32 for side in image_size):
        raise ValueError(
            f"image_size must be two positive multiples of 32 (five poolings halve them), got {tuple(image_size)!r}."
        )
    return image_size[0], image_size[1]


def initialise(module: nn.Module) -> None:
    """Draw the kernels from a normal distribution of variance 2 / fan-in (He et al. 2015) and set biases to zero."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Encoder(nn.Module):
    """Six levels of two 3x3 convolutions; 2x2 max-pooling between them.

    Args:
        in_channels: channels of the input image.
    """

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__()
        widths = (in_channels, *ENCODER_CHANNELS)
        self.levels = nn.ModuleList(
            nn.Sequential(convolution(a, b, 3), convolution(b, b, 3)) for a, b in pairwise(widths)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the features of every level.

        Args:
            images: (N, in_channels, H, W), H and W multiples of 32.

        Returns:
            Six maps, from (N, 16, H, W) to (N, 128, H / 32, W / 32).

        Raises:
            ValueError: if H or W is not a multiple of 32.
        """
        if not torch.jit.is_scripting():
            check_image_size(images.shape[2:])
        features: list[Tensor] = []
        x = images
        for index, level in enumerate(self.levels):
            if index > 0:
                x = F.max_pool2d(x, 2)
            x = level(x)
            features.append(x)
        return features


class DecoderBlock(nn.Module):
    """Nearest up-sampling by 2, a 2x2 convolution, concatenation with the skip, two 3x3 convolutions.

    Args:
        in_channels: channels of the map from below.
        skip_channels: channels of the encoder's map of the same size, also the block's output.
    """

    def __init__(self, in_channels: int, skip_channels: int) -> None:
        super().__init__()
        self.up = convolution(in_channels, skip_channels, 2)
        self.convolutions = nn.Sequential(
            convolution(2 * skip_channels, skip_channels, 3), convolution(skip_channels, skip_channels, 3)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map x (N, in_channels, h, w) and skip (N, skip_channels, 2h, 2w) to (N, skip_channels, 2h, 2w)."""
        x = self.up(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.convolutions(torch.cat([x, skip], dim=1))


class Decoder(nn.Module):
    """The five decoder blocks d1..d5; block l has the channels of encoder level 6 - l."""

    def __init__(self) -> None:
        super().__init__()
        widths = ENCODER_CHANNELS[::-1]
        self.blocks = nn.ModuleList(DecoderBlock(a, b) for a, b in pairwise(widths))

    def forward(self, features: list[Tensor], num_blocks: int = NUM_DECODER_BLOCKS) -> Tensor:
        """Decode the encoder's maps with the first `num_blocks` blocks.

        Returns:
            (N, C, h, w) with h = H / 2 ** (5 - num_blocks).
        """
        x = features[-1]
        for index, block in enumerate(self.blocks):
            if index < num_blocks:
                x = block(x, features[-2 - index])
        return x


class UNet2d(GuardedNetwork):
    """The U-Net that is pre-trained in parts and fine-tuned as a whole.

    The parts are `encoder`, `decoder.blocks.0` to `decoder.blocks.4` (the paper's d1 to d5) and `head`. Weights start
    from He's normal distribution with zero biases; every kernel is drawn independently (in the authors' program equal
    shapes start from equal kernels).

    Args:
        num_classes: output channels, background included; 2 or more.
        in_channels: channels of the input image.

    Raises:
        ValueError: if `num_classes` is below 2 or `in_channels` below 1.
    """

    def __init__(self, num_classes: int, in_channels: int = 1) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2 (background included), got {num_classes!r}.")
        if in_channels < 1:
            raise ValueError(f"in_channels must be at least 1, got {in_channels!r}.")
        width = ENCODER_CHANNELS[0]
        self.encoder = Encoder(in_channels)
        self.decoder = Decoder()
        self.head = nn.Sequential(convolution(width, width, 3), nn.Conv2d(width, num_classes, 3, padding=1, bias=False))
        self.apply(initialise)
        # The format decides which kernels run and so the last bits: whoever makes the network gets the segmentation
        # that the configs give.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a keyword torch leaves untyped

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits (N, num_classes, H, W) of images (N, in_channels, H, W), H and W multiples of 32."""
        return self.head(self.decoder(self.encoder(images)))
