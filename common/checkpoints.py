"""Weights on disk: written whole or not at all, read as tensors only and checked, and never matched silently.

What is read is what was written: `torch.load` looks at no checksum, so that a flipped bit is another weight;
`checked_archive` does. Between the stages only parameters are handed over; batch-normalisation statistics start afresh,
as in the paper.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .files import atomic_file
from .monai_label import GuardedNetwork
from .released import compare_with_release

logger = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)


class CheckpointError(ValueError):
    """A file of weights that is missing, unreadable or does not fit the network."""


def save_atomically(content: Any, path: str | os.PathLike, records: Mapping[str, bytes] | None = None) -> None:
    """Write `content` with `torch.save` so that `path` holds either the old or the whole new file.

    Args:
        content: what is saved.
        path: the file.
        records: further entries of the archive by their names, which `torch.load` ignores.

    Raises:
        WriteError: if the folder cannot be written to.
    """
    archive = io.BytesIO()
    torch.save(content, archive)  # not to the file: a full disk would come out as a RuntimeError
    if records:
        with zipfile.ZipFile(archive, "a") as zipped:
            folder = zipped.namelist()[0].split("/")[0]  # torch reads no archive with entries outside of it
            for name, value in records.items():
                zipped.writestr(zipfile.ZipInfo(f"{folder}/{name}"), value)  # stored, and of a fixed date
    # The view is released here: one that an error holds on to crashes the garbage collection of Python 3.12.1.
    with atomic_file(path) as temporary, archive.getbuffer() as view:
        temporary.write_bytes(view)


def checked_archive(path: str | os.PathLike) -> io.BytesIO:
    """Return a copy of a zip archive that holds nothing but names and contents which its checksums vouch for.

    Whatever reads the copy sees no other byte of the file: each content has the checksum that the archive's directory
    gives, each name stands in the file twice, and headers, gaps and alignment are written anew.

    Args:
        path: the archive, such as `torch.save` writes it.

    Raises:
        zipfile.BadZipFile: if it is damaged, or no zip archive.
        OSError: if it cannot be read.
    """
    copy = io.BytesIO()
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as verified:
            for record in archive.infolist():
                verified.writestr(record.filename, archive.read(record))
    # What a damaged header can lead to: an unknown method, a password, a name or number that is none, data too short.
    except (NotImplementedError, RuntimeError, ValueError, EOFError, zlib.error, MemoryError, OverflowError) as error:
        raise zipfile.BadZipFile(f"{type(error).__name__}: {error}") from error
    copy.seek(0)
    return copy


def read_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read a dictionary written by `torch.save`, on the CPU, with `weights_only=True` and its checksums compared.

    Files of `torch.save` before torch 1.6, or without its zip archive, have no checksums and are refused.

    Raises:
        CheckpointError: if the file is missing, damaged, or holds anything but tensors and plain containers.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: there is no such file; run the stage that writes it, or correct the path.")
    try:
        archive = checked_archive(path)
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path}: is damaged, or not an archive of torch.save with checksums ({error}). Copy it again, or run the "
            "stage that writes it; a file of torch before 1.6 that you trust is rewritten by "
            "torch.save(torch.load(OLD), NEW)."
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror or error}); get the right to read it."
        ) from error
    try:
        content = torch.load(archive, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: not a file of weights that can be loaded safely ({error}).") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: must hold a dictionary, got {type(content).__name__}.")
    return content


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read a state dict, bare or below the key "model".

    The log says whether it is the file that the bundle around it was released with, see `compare_with_release`.

    Raises:
        CheckpointError: see `read_checkpoint`; also if a value is not a tensor, or not finite.
    """
    content = read_checkpoint(path)
    weights = content.get("model", content)
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError(f"{path}: must hold the state dict of a network, by itself or below the key 'model'.")
    for name, value in weights.items():
        if not value.isfinite().all():
            raise CheckpointError(
                f"{path}: {name!r} holds {int((~value.isfinite()).sum())} values that are NaN or infinite, of "
                f"{value.numel()}: every prediction would be meaningless. Run the stage that writes the file again."
            )
    compare_with_release(path)
    return dict(weights)


def select_parts(weights: Mapping[str, Tensor], prefixes: Sequence[str]) -> dict[str, Tensor]:
    """Keep the entries whose name begins with one of the prefixes, such as "encoder."."""
    return {name: value for name, value in weights.items() if name.startswith(tuple(prefixes))}


def load_pretrained(network: Network, path: str | os.PathLike | None, parts: Sequence[str] | None = None) -> Network:
    """Copy pre-trained parameters into a network by name and shape; statistics of batch normalisation stay fresh.

    Args:
        network: receives the parameters, in place.
        path: a file of weights, or None to leave the network as it is (random initialisation).
        parts: prefixes such as "encoder."; every parameter of the network below them must be in the file. None takes
            whatever the file holds, all of which must fit the network.

    Returns:
        The same network.

    Raises:
        CheckpointError: if the file cannot be read, a wanted parameter is missing or has another shape, or the file
            holds a parameter that the network lacks (`parts=None`).
    """
    if path is None:
        logger.info("Random initialisation: no pre-trained weights were asked for.")
        return network
    weights = read_weights(path)
    parameters = dict(network.named_parameters())
    if parts is None:
        statistics = {name for name, _ in network.named_buffers()}
        wanted = [name for name in weights if name not in statistics]
    else:
        wanted = list(select_parts({name: value.data for name, value in parameters.items()}, parts))
    _check_fit(path, parameters, weights, wanted)
    with torch.no_grad():
        for name in wanted:
            parameters[name].copy_(weights[name])
    count = sum(parameters[name].numel() for name in wanted)
    logger.info(
        f"{path}: loaded {len(wanted)} of the network's {len(parameters)} parameter tensors ({count:,} values): "
        f"{', '.join(_part_names(wanted))}."
    )
    return network


def initialise(network: Network, initialisation: str, pretrained_dir: str | os.PathLike) -> Network:
    """Initialise a network for fine-tuning; a `GuardedNetwork` then accepts parts from others too.

    Args:
        network: receives the parameters, in place.
        initialisation: "random"; "encoder" for `pretrained_encoder.pt`; "encoder_decoder" for
            `pretrained_encoder_decoder.pt`.
        pretrained_dir: the folder of these files.

    Returns:
        The same network.

    Raises:
        ValueError: if the initialisation is unknown.
        CheckpointError: see `load_pretrained`.
    """
    if isinstance(network, GuardedNetwork):
        network.accepts_parts = True
    parts = pretrained_parts(initialisation, pretrained_dir)
    return load_pretrained(network, pretrained_path(initialisation, pretrained_dir) if parts else None, parts)


def pretrained_parts(initialisation: str, pretrained_dir: str | os.PathLike) -> list[str]:
    """Name the parts of the network that an initialisation takes from a file, as they begin in its state dict.

    Args:
        initialisation: see `initialise`.
        pretrained_dir: see there.

    Raises:
        ValueError: if the initialisation is unknown.
        CheckpointError: if there is no file, or it cannot be read.
    """
    if initialisation == "random":
        return []
    if initialisation not in ("encoder", "encoder_decoder"):
        raise ValueError(f"initialisation must be 'random', 'encoder' or 'encoder_decoder', got {initialisation!r}.")
    path = pretrained_path(initialisation, pretrained_dir)
    if not path.is_file():
        stage, others = "pretrain_global.json", "random"
        if initialisation == "encoder_decoder":
            stage, others = "pretrain_local.json or pretrain_joint.json", "encoder or random"
        raise CheckpointError(f"{path}: there is no such file; run {stage} first, or pass --initialisation {others}.")
    if initialisation == "encoder":
        return ["encoder."]
    held = read_weights(path)
    blocks = [part for part in (f"decoder.blocks.{k}." for k in range(5)) if select_parts(held, [part])]
    return ["encoder.", *(blocks or ["decoder.blocks.0."])]


def pretrained_path(initialisation: str, pretrained_dir: str | os.PathLike) -> Path:
    """Name the file that an initialisation of `initialise` reads; there is none for "random"."""
    return Path(pretrained_dir) / f"pretrained_{initialisation}.pt"


def content_hash(path: str | os.PathLike) -> str | None:
    """Return the SHA-256 of a file, None if there is none: tells whether two runs started from the same weights."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if Path(path).is_file() else None


def load_model(network: Network, path: str | os.PathLike) -> Network:
    """Copy a whole network's weights and batch-normalisation statistics; names and shapes must all agree.

    Returns:
        The same network.

    Raises:
        CheckpointError: if the file cannot be read or does not hold exactly this network's tensors.
    """
    weights = read_weights(path)
    state = network.state_dict()
    unknown = sorted(set(weights) - set(state))
    if unknown:
        raise CheckpointError(f"{path}: holds {len(unknown)} tensors that the network lacks, such as {unknown[0]!r}.")
    _check_fit(path, state, weights, list(state))
    network.load_state_dict(weights)
    logger.info(f"{path}: loaded all {len(state)} tensors of the network.")
    return network


def _check_fit(
    path: str | os.PathLike, own: Mapping[str, Tensor], weights: Mapping[str, Tensor], wanted: Sequence[str]
) -> None:
    if not wanted:
        raise CheckpointError(f"{path}: holds nothing of what was asked for.")
    missing = [name for name in wanted if name not in weights or name not in own]
    if missing:
        where = "the file" if missing[0] in own else "the network"
        raise CheckpointError(
            f"{path}: {len(missing)} of {len(wanted)} tensors are not in {where}, such as {missing[0]!r}: "
            "the weights belong to another network or stage."
        )
    for name in wanted:
        if own[name].shape != weights[name].shape:
            raise CheckpointError(
                f"{path}: {name!r} has shape {tuple(weights[name].shape)}, the network needs {tuple(own[name].shape)}: "
                "the weights were made for another number of classes or channels."
            )


def _part_names(names: Sequence[str]) -> list[str]:
    parts = (".".join(name.split(".")[:3]) if name.startswith("decoder.") else name.split(".")[0] for name in names)
    return list(dict.fromkeys(parts))
