"""A list of volumes that are labelled: ids, or the JSON file of them that a selection writes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from .splits import Split, SplitError


def read_selection(labelled: Sequence[str] | str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the ids of labelled volumes.

    Args:
        labelled: the ids, or the path of a JSON file with a list of them.

    Raises:
        SplitError: if there is no such file, it is no JSON list of ids, or an id is there twice.
    """
    source = "labelled"
    if isinstance(labelled, (str, os.PathLike)):
        path = Path(labelled)
        source = str(path)
        try:
            labelled = json.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise SplitError(
                f"labelled must be a list of ids or a JSON file of one, got {source!r}, which cannot be read "
                f"({error.strerror}): correct the path, or write a list, as in \"['first','second']\"."
            ) from None
        except ValueError as error:  # not JSON, or not text
            raise SplitError(f"{source} must be a JSON list of ids ({error}): run select again.") from None
    if not isinstance(labelled, (list, tuple)) or not all(isinstance(name, str) for name in labelled):
        raise SplitError(f"{source} must be a list of ids, each a string, got {labelled!r}: write such a list.")
    if repeated := sorted({name for name in labelled if labelled.count(name) > 1}):
        raise SplitError(f"{source} must have each id once, got {', '.join(repeated)} more than once: keep one.")
    return tuple(labelled)


def with_labelled(split: Split, labelled: Sequence[str]) -> Split:
    """Return a split with other labelled volumes; validation and test stay those of its draw.

    Args:
        split: of the draw.
        labelled: at least one id.

    Raises:
        SplitError: if there is no id, or one of them is for the test or the validation.
    """
    if not labelled:
        raise SplitError("labelled must have at least one id, got none: name the volumes, or leave the option out.")
    require_free(split, labelled)
    return split._replace(labelled=tuple(labelled))


def require_free(split: Split, labelled: Sequence[str]) -> None:
    """Raise where volumes that are to be trained on are for the test or the validation.

    Raises:
        SplitError: names them.
    """
    for name in ("test", "validation"):
        if taken := [id_ for id_ in labelled if id_ in split.subset(name)]:
            remedy = " or choose another draw, which has others for validation" if name == "validation" else ""
            raise SplitError(
                f"labelled volumes must not be for the {name}, got {', '.join(taken)}: take them out{remedy}."
            )
