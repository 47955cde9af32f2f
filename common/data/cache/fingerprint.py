"""A hash of what a deterministic transform does, the same in every process."""

from __future__ import annotations

import enum
import hashlib
import importlib.metadata
import types
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.data.image_reader import ImageReader
from monai.transforms import Compose, RandomizableTrait, Transform

CACHE_VERSION = 4  # to be raised when a transform of this package gives another result for the same parameters

_EPHEMERAL = {"R", "_tracing", "filenames", "has_series"}  # random state, tracing, what a reader read last


def fingerprint(transform: Any) -> str:
    """Return a hash of what a deterministic transform does, the same in every process.

    It covers the classes of the transform and of all transforms within, their parameters, the versions of monai and of
    itk-filtering, and `CACHE_VERSION`. Lists and tuples with equal contents count as equal.

    Args:
        transform: a transform, possibly composed of others.

    Returns:
        64 hexadecimal digits.

    Raises:
        TypeError: if a transform is random, or a parameter is of a kind that has no lasting description.
    """
    versions = [CACHE_VERSION, _version("monai"), _version("itk-filtering")]
    return hashlib.sha256(repr((versions, _describe(transform))).encode()).hexdigest()


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _describe(value: Any) -> Any:
    """Return nested tuples of strings that are equal for two values that act alike, and differ otherwise."""
    if isinstance(value, enum.Enum):
        return (_qualified_name(type(value)), _describe(value.value))
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return (type(value).__name__, repr(value))
    if isinstance(value, (torch.dtype, torch.device, np.dtype)):
        return (type(value).__name__, str(value))
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        array = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
        if array.dtype != object:
            return ("array", str(array.dtype), str(array.shape), hashlib.sha256(array.tobytes()).hexdigest())
    if isinstance(value, Mapping):
        return ("mapping", *sorted(((_describe(key), _describe(entry)) for key, entry in value.items()), key=repr))
    if isinstance(value, (list, tuple)):
        return ("sequence", *(_describe(entry) for entry in value))
    if isinstance(value, (set, frozenset)):
        return ("set", *sorted((_describe(entry) for entry in value), key=repr))
    if isinstance(value, partial):
        return ("partial", _describe(value.func), _describe(value.args), _describe(value.keywords))
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)) and "<" not in value.__qualname__:
        return ("name", _qualified_name(value))
    if isinstance(value, RandomizableTrait) and type(value) is not Compose:
        raise TypeError(f"transform must be deterministic to be cached, got {_qualified_name(type(value))}.")
    if isinstance(value, (Transform, ImageReader)):
        attributes = {name: entry for name, entry in vars(value).items() if name not in _EPHEMERAL}
        return (_qualified_name(type(value)), _describe(attributes))
    raise TypeError(
        f"transform must be made of transforms, numbers, strings, arrays, containers and named functions to be cached, "
        f"got {value!r} within it."
    )


def _qualified_name(named: Any) -> str:
    return f"{named.__module__}.{named.__qualname__}"
