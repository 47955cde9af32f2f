"""From dataset folders to batches: datalists, splits, the cache of preprocessed volumes, slices, samplers."""

from __future__ import annotations
