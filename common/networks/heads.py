"""The projection heads of the pre-training stages: g1 (global) and g2 (local, dense). They are discarded afterwards."""

from __future__ import annotations

from torch import Tensor, nn

from .regions import REGION_SIZES, region_positions
from .unet2d import initialise

EMBEDDING_SIZE = 128


class GlobalHead(nn.Module):
    """g1: flatten, linear, batch normalisation, ReLU, linear (supplement, section 1).

    The supplement gives 3200 units to the hidden layer and batch normalisation and ReLU to every layer; the authors'
    program has 1024 units and neither normalisation nor bias. The output stays linear in both, since a ReLU there
    would confine the cosines to [0, 1].

    Args:
        in_features: channels x height x width of the encoder's last map.
        hidden_features: width of the hidden layer.
        out_features: D, size of the embedding.
        norm: batch normalisation after the first layer; False is the authors' program (no bias either).
    """

    def __init__(
        self, in_features: int, hidden_features: int = 3200, out_features: int = EMBEDDING_SIZE, norm: bool = True
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(in_features, hidden_features, bias=False),
            nn.BatchNorm1d(hidden_features, eps=1e-3, momentum=0.01) if norm else nn.Identity(),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_features, out_features, bias=norm),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, C, h, w) to embeddings (N, D), not normalised."""
        return self.layers(features)


class LocalHead(nn.Module):
    """g2: two 1x1 convolutions, then one vector for each region of the map (supplement, section 1).

    Args:
        channels: C, channels of the decoder block's map.
        region_size: K, side of a region: 1 or 3.
        region_vector: how a 3 x 3 region becomes a vector: "linear" maps its 9 C values to `out_features` without
            bias, "mean" averages them over the region. Regions of one position are taken as they are.
        out_features: D, size of the vector for "linear".

    Raises:
        ValueError: if `region_size` is neither 1 nor 3 or `region_vector` is unknown.
    """

    def __init__(
        self,
        channels: int,
        region_size: int = 3,
        region_vector: str = "linear",
        out_features: int = EMBEDDING_SIZE,
    ) -> None:
        super().__init__()
        if region_size not in REGION_SIZES:
            raise ValueError(f"region_size must be one of {REGION_SIZES}, got {region_size!r}.")
        if region_vector not in ("linear", "mean"):
            raise ValueError(f"region_vector must be 'linear' or 'mean', got {region_vector!r}.")
        self.region_size = region_size
        self.region_vector = region_vector
        self.layers = _two_convolutions(channels)
        self.projection: nn.Linear | None = None
        if region_size > 1 and region_vector == "linear":
            self.projection = nn.Linear(region_size**2 * channels, out_features, bias=False)
            nn.init.xavier_uniform_(self.projection.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, C, h, w) to region vectors (N, P, D), not normalised; P = 13 for K = 1, 17 for K = 3.

        Raises:
            ValueError: if the map is too small for the regions.
        """
        features = self.layers(features)
        rows, columns = region_positions(features.shape[2], features.shape[3], self.region_size, features.device)
        windows = features[:, :, rows, columns]  # (N, C, P, K, K)
        if self.projection is None:
            return windows.mean(dim=(3, 4)).transpose(1, 2)
        return self.projection(windows.permute(0, 2, 3, 4, 1).flatten(2))


class DenseHead(nn.Module):
    """g2 without regions: two 1x1 convolutions, whose map the dense loss reads at sampled places.

    Args:
        channels: C, channels of the decoder block's map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = _two_convolutions(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, C, h, w) to vectors (N, C, h, w), not normalised."""
        return self.layers(features)


def _two_convolutions(channels: int) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 1, bias=False),
    )
    return layers.apply(initialise)
