"""The networks that the two pre-training stages train: a U-Net, used in part, and a projection head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from .heads import EMBEDDING_SIZE, GlobalHead, LocalHead
from .unet2d import ENCODER_CHANNELS, NUM_DECODER_BLOCKS, UNet2d, check_image_size


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
        height, width = check_image_size(image_size)
        self.unet = unet
        self.global_head = GlobalHead(
            ENCODER_CHANNELS[-1] * height * width // 32**2, hidden_features, EMBEDDING_SIZE, head_norm
        )
        unet.decoder.requires_grad_(False)
        unet.head.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (N, 1, H, W) as (N, D) vectors, not normalised."""
        return self.global_head(self.unet.encoder(images)[-1])

    def pretrained_prefixes(self) -> list[str]:
        """Name the parts of the U-Net that this stage has trained."""
        return ["encoder."]


class LocalPretrainingNet(nn.Module):
    """Frozen encoder, the first l decoder blocks and local head g2; trains the latter two (paper, section 3.2).

    Args:
        unet: the network that is fine-tuned later, its encoder already pre-trained.
        num_blocks: l, how many decoder blocks are trained: 1 to 5.
        region_size: K, side of a local region: 1 or 3.
        region_vector: "linear" or "mean", see `LocalHead`.
        encoder_batch_norm: "train" normalises the frozen encoder's maps with the batch's statistics, as the authors
            do; "eval" with the stored ones.

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
    ) -> None:
        super().__init__()
        if not 1 <= num_blocks <= NUM_DECODER_BLOCKS:
            raise ValueError(f"num_blocks must be 1 to {NUM_DECODER_BLOCKS}, got {num_blocks!r}.")
        if encoder_batch_norm not in ("train", "eval"):
            raise ValueError(f"encoder_batch_norm must be 'train' or 'eval', got {encoder_batch_norm!r}.")
        self.unet = unet
        self.num_blocks = num_blocks
        self.encoder_batch_norm = encoder_batch_norm
        self.local_head = LocalHead(ENCODER_CHANNELS[-1 - num_blocks], region_size, region_vector)
        unet.requires_grad_(False)
        for block in self._trained_blocks():
            block.requires_grad_(True)

    def _trained_blocks(self) -> Iterator[nn.Module]:
        return iter(list(self.unet.decoder.blocks)[: self.num_blocks])

    def train(self, mode: bool = True) -> LocalPretrainingNet:
        """Switch the mode; with `encoder_batch_norm="eval"` the encoder stays in evaluation mode."""
        super().train(mode)
        if self.encoder_batch_norm == "eval":
            self.unet.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Compute the region vectors (N, P, D) of images (N, 1, H, W), not normalised."""
        with torch.no_grad():  # the encoder is frozen: keep no graph for it
            features = self.unet.encoder(images)
        return self.local_head(self.unet.decoder(features, self.num_blocks))

    def pretrained_prefixes(self) -> list[str]:
        """Name the parts of the U-Net that are pre-trained after this stage: the encoder and the first l blocks."""
        return ["encoder.", *(f"decoder.blocks.{index}." for index in range(self.num_blocks))]
