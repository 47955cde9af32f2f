"""JSON records that carry the hash of their own content, so that a digit that has changed is noticed.

The hash is of what the record says, not of its bytes: a file that was laid out anew or whose keys were sorted is still
the same record. It protects from damage and from edits in passing, not from someone who means to deceive.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .files import write_text_atomically

HASH = "sha256"
"""The key under which a record has the SHA-256 of all the rest."""


class RecordError(ValueError):
    """A record that is not what was written; it is left alone."""


def write_record(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write a record, whole or not at all.

    Args:
        path: the file to be; its folder is made if needed.
        content: of JSON's types, all numbers finite; the hash is added as the last entry.

    Raises:
        ValueError: if the content has an entry of the hash's name already, or a number is infinite or NaN.
        TypeError: if a value is not of JSON's types.
    """
    if HASH in content:
        raise ValueError(f"content must have no entry {HASH!r}, which is that of the hash of all the rest: {path}.")
    text = json.dumps(content, allow_nan=False)
    hashed = {**content, HASH: _hash(json.loads(text))}
    write_text_atomically(path, json.dumps(hashed, indent=1) + "\n")


def read_record(path: str | os.PathLike[str], remedy: str) -> dict[str, Any]:
    """Read what `write_record` wrote.

    Args:
        path: the file.
        remedy: what the user is to do if the file is not what was written, such as "make it again".

    Returns:
        The content, without the hash.

    Raises:
        RecordError: if the file is no JSON, or its hash is missing or not that of its content.
        OSError: if the file cannot be read.
    """
    return parse_record(Path(path).read_bytes(), str(path), remedy)


def parse_record(text: str | bytes, where: str, remedy: str) -> dict[str, Any]:
    """Return the content of a record, without its hash; see `read_record`.

    Args:
        text: of the record.
        where: what it is called in an error.
        remedy: see `read_record`.

    Raises:
        RecordError: see `read_record`.
    """
    try:
        content = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
        if not isinstance(content, dict):
            raise ValueError(f"it must be a JSON object, got {type(content).__name__}")
        stated = content.pop(HASH, None)
        if stated is None:
            raise ValueError(f"it has no entry {HASH!r}, the hash of its content")
        if stated != (found := _hash(content)):
            raise ValueError(f"its content has the SHA-256 {found}, it states {stated!r}")
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where} is damaged, was edited or is no record ({error}): {remedy}.") from error
    return content


def _hash(content: Any) -> str:
    """Hash values as read from JSON, in the one text that keys in order, no spaces and ASCII make of them."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key comes twice")
    return content


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")
