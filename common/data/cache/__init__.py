"""Preprocessed volumes on disk: N4 and resampling are done once for each file, not once for each run.

An entry is found by the content of the file and a fingerprint of the preprocessing, so that a changed file or a changed
parameter is never answered with an old result, and the same file under another path is not computed again. An entry
holds tensors and plain containers only. It carries MONAI's trace of the geometric transforms, so that predictions made
on a volume from the cache go back to the grid of the file with the stock `Invertd`.
"""

from __future__ import annotations

from .cached_transform import CachedTransformd, plain_values
from .filling import fill_cache, prepare
from .fingerprint import CACHE_VERSION, fingerprint

__all__ = ["CACHE_VERSION", "CachedTransformd", "fill_cache", "fingerprint", "plain_values", "prepare"]
