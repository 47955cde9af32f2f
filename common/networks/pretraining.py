"""The networks that are pre-trained: a U-Net, used in part, and one or both of the projection heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..strategies import DenseStrategy, find_strategy
from .heads import EMBEDDING_SIZE, DenseHead, GlobalHead, LocalHead
from .unet2d import ENCODER_CHANNELS, NUM_DECODER_BLOCKS, UNet2d, check_image_size


def _make_global_head(image_size: Sequence[int], hidden_features: int, norm: bool) -> GlobalHead:
    height, width = check_image_size(image_size)
    return GlobalHead(ENCODER_CHANNELS[-1] * height * width // 32**2, hidden_features, EMBEDDING_SIZE, norm)


def _make_local_head(strategy: str, num_blocks: int, region_size: int, region_vector: str) -> LocalHead | DenseHead:
    if not 1 <= num_blocks <= NUM_DECODER_BLOCKS:
        raise ValueError(f"num_blocks must be 1 to {NUM_DECODER_BLOCKS}, got {num_blocks!r}.")
    channels = ENCODER_CHANNELS[-1 - num_blocks]
    if isinstance(find_strategy(strategy), DenseStrategy):
        return DenseHead(channels)
    return LocalHead(channels, region_size, region_vector)


def _prefixes(num_blocks: int) -> list[str]:
    """Name the encoder and the first decoder blocks as they begin in the U-Net's state dict."""
    return ["encoder.", *(f"decoder.blocks.{index}." for index in range(num_blocks))]


class GlobalPretrainingNet(nn.Module):
    """Encoder and global head g1; trains both (paper, section 3.1).

    Args:
        unet: the network that is fine-tuned later; its parameters keep their names below `unet.`.
        image_size: (H, W) of the input, multiples of 32.
        hidden_features: width of the head's hidden layer.
        head_norm: batch normalisation in the head.

    Raises:
        ValueError: if a side of `image_size` is not a multiple of 32.
    """

    def __init__(
        self, unet: UNet2d, image_size: Sequence[int], hidden_features: int = 3200, head_norm: bool = True
    ) -> None:
        super().__init__()
        self.unet = unet
        self.global_head = _make_global_head(image_size, hidden_features, head_norm)
        unet.decoder.requires_grad_(False)
        unet.head.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (N, 1, H, W) as (N, D) vectors, not normalised."""
        return self.global_head(self.unet.encoder(images)[-1])

    def pretrained_prefixes(self) -> list[str]:
        """Name the parts of the U-Net that this stage has trained."""
        return _prefixes(0)


class LocalPretrainingNet(nn.Module):
    """Encoder, the first l decoder blocks and local head g2; trains the latter two (paper, section 3.2), or all.

    Args:
        unet: the network that is fine-tuned later, its encoder already pre-trained.
        num_blocks: l, how many decoder blocks are trained: 1 to 5.
        region_size: K, side of a local region: 1 or 3. Dense strategies have no regions.
        region_vector: "linear" or "mean", see `LocalHead`.
        encoder_batch_norm: "train" normalises the encoder's maps with the batch's statistics, as the authors do;
            "eval" with the stored ones.
        freeze_encoder: False trains the encoder too.
        strategy: decides between `LocalHead` and `DenseHead`.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        unet: UNet2d,
        num_blocks: int = 3,
        region_size: int = 3,
        region_vector: str = "linear",
        encoder_batch_norm: str = "train",
        freeze_encoder: bool = True,
        strategy: str = "LR",
    ) -> None:
        super().__init__()
        if encoder_batch_norm not in ("train", "eval"):
            raise ValueError(f"encoder_batch_norm must be 'train' or 'eval', got {encoder_batch_norm!r}.")
        self.unet = unet
        self.num_blocks = num_blocks
        self.encoder_batch_norm = encoder_batch_norm
        self.freeze_encoder = freeze_encoder
        self.local_head = _make_local_head(strategy, num_blocks, region_size, region_vector)
        unet.requires_grad_(False)
        unet.encoder.requires_grad_(not freeze_encoder)
        unet.decoder.blocks[:num_blocks].requires_grad_(True)

    def train(self, mode: bool = True) -> LocalPretrainingNet:
        """Switch the mode; with `encoder_batch_norm="eval"` the encoder stays in evaluation mode."""
        super().train(mode)
        if self.encoder_batch_norm == "eval":
            self.unet.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Compute the region vectors (N, P, D) of images (N, 1, H, W), not normalised; of a dense head maps."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):  # no graph of a frozen one
            features = self.unet.encoder(images)
        return self.local_head(self.unet.decoder(features, self.num_blocks))

    def pretrained_prefixes(self) -> list[str]:
        """Name the parts of the U-Net that are pre-trained after this stage: the encoder and the first l blocks."""
        return _prefixes(self.num_blocks)


class JointPretrainingNet(nn.Module):
    """Encoder, the first l decoder blocks and both heads; trains all of them at once (supplement, joint training).

    Args:
        unet: the network that is fine-tuned later; its parameters keep their names below `unet.`.
        image_size: (H, W) of the input of the global part, multiples of 32.
        num_blocks: l, how many decoder blocks are trained: 1 to 5.
        region_size: K, side of a local region: 1 or 3. Dense strategies have no regions.
        region_vector: "linear" or "mean", see `LocalHead`.
        hidden_features: width of the global head's hidden layer.
        head_norm: batch normalisation in the global head.
        strategy: that of the local part; decides between `LocalHead` and `DenseHead`.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        unet: UNet2d,
        image_size: Sequence[int],
        num_blocks: int = 3,
        region_size: int = 3,
        region_vector: str = "linear",
        hidden_features: int = 3200,
        head_norm: bool = True,
        strategy: str = "LR",
    ) -> None:
        super().__init__()
        self.unet = unet
        self.num_blocks = num_blocks
        self.global_head = _make_global_head(image_size, hidden_features, head_norm)
        self.local_head = _make_local_head(strategy, num_blocks, region_size, region_vector)
        unet.requires_grad_(False)
        unet.encoder.requires_grad_(True)
        unet.decoder.blocks[:num_blocks].requires_grad_(True)

    def forward(self, images: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Pass two batches through the encoder, one after the other, so that each is normalised by itself.

        Args:
            images: (N, 1, H, W) for the global head and (M, 1, H', W') for the local one.

        Returns:
            Embeddings (N, D) and region vectors (M, P, E), not normalised; of a dense head maps.
        """
        global_images, local_images = images
        embeddings = self.global_head(self.unet.encoder(global_images)[-1])
        features = self.unet.decoder(self.unet.encoder(local_images), self.num_blocks)
        return embeddings, self.local_head(features)

    def pretrained_prefixes(self) -> list[str]:
        """Name the parts of the U-Net that this stage has trained: the encoder and the first l blocks."""
        return _prefixes(self.num_blocks)
