"""What a file of weights was made from: volumes, settings and earlier weights, in a record inside the file itself.

A file of weights is a zip archive in which `torch.load` looks for what it knows; the record is one entry more. So it
goes wherever the file is copied, and the state dict is what it would be without. Equal runs give equal bytes: there is
neither date nor path in it. It has the ids of volumes, which are names of files where there is no datalist, and hashes
of their voxels, from which no image can be made.
"""

from __future__ import annotations

import json
import logging
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .checkpoints import CheckpointError, content_hash
from .data import leaks
from .data.content import Content, short_hashes
from .settings import plain_settings

logger = logging.getLogger(__name__)

RECORD = "lineage.json"
"""Name of the record in the archive, below the archive's own folder."""

_VERSION = 1
_STEPS = "steps"


class Lineage:
    """What a stage makes its weights from.

    Args:
        stage: the stage's name.
        volumes: the volumes of each subset, by the names that `leaks` knows; a test is none of them.
        made_from: files of weights that the stage starts from, such as a pre-trained encoder and a teacher. What is
            None, empty or not there is ignored.
        settings: plain values that make a difference, such as the seed, and the number of "steps"; no paths.
    """

    def __init__(
        self,
        stage: str,
        volumes: Mapping[str, Sequence[Content]],
        made_from: Sequence[str | os.PathLike[str] | None] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.volumes = {name: list(contents) for name, contents in volumes.items()}
        self._own: dict[str, Any] = {
            "stage": stage,
            "settings": plain_settings(settings or {}),
            "volumes": {
                name: sorted({(entry.id, entry.image, entry.label) for entry in contents}, key=repr)
                for name, contents in self.volumes.items()
                if contents
            },
            "made_from": {},
        }
        self._ancestors: dict[str, dict[str, Any] | None] = {}
        self._text: str | None = None
        self._unread = [path for path in made_from if path]

    def start_from(self, path: str | os.PathLike[str] | None) -> None:
        """Add a file of weights that the stage starts from, with all that it was made from itself.

        Raises:
            CheckpointError: if the file has a record that cannot be read.
        """
        self._read()
        sha256 = content_hash(path) if path else None
        if path is None or sha256 is None:
            return
        record = read_lineage(path)
        self._own["made_from"][sha256] = Path(path).name
        self._ancestors.update(record.pop("ancestors") if record else {})
        self._ancestors[sha256] = record
        self._text = None

    def _read(self) -> None:
        """Read the files that the stage starts from, once: the run may write others in their place."""
        while self._unread:
            self.start_from(self._unread.pop(0))

    def check_leaks(self, test: Sequence[Content]) -> None:
        """Compare all volumes with each other and with those of the test, see `leaks.check`.

        Raises:
            LeakError: if the same image is in two subsets that must not share any.
        """
        self._read()
        ancestors: dict[str, list[Content]] = {}
        for stage, name, entry in _used({**self._own, "volumes": {}, "ancestors": self._ancestors}):
            ancestors.setdefault(f"{name} (of the earlier {stage})", []).append(entry)
        leaks.check({**self.volumes, leaks.TEST: test}, ancestors)

    def compared(self) -> dict[str, Any]:
        """Return what must be the same for a run to be continued: all but the number of steps."""
        self._read()
        settings = {name: value for name, value in self._own["settings"].items() if name != _STEPS}
        made_from: dict[str, list[str]] = {}
        for sha256, name in sorted(self._own["made_from"].items()):
            made_from.setdefault(name, []).append(sha256)
        return {
            **settings,
            "made_from": made_from,
            "ids": [entry.id for contents in self.volumes.values() for entry in contents],
            "data_sha256": short_hashes(self.volumes),
        }

    def records(self) -> dict[str, bytes]:
        """Return what `save_atomically` is to put into the archive."""
        self._read()
        if self._text is None:
            ancestors = dict(sorted(self._ancestors.items()))
            self._text = json.dumps({"version": _VERSION, **self._own, "ancestors": ancestors}, sort_keys=True)
        return {RECORD: self._text.encode()}


def read_lineage(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read what a file of weights was made from; None if it does not say.

    Returns:
        "stage", "settings"; "volumes": of each subset, lists of id, hash of the image and hash of the label or None;
        "made_from": names of files of weights by their SHA-256; "ancestors": the same for these and for those that they
        were made from, by SHA-256, None for a file that does not say.

    Raises:
        CheckpointError: if there is a record that cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.split("/")[1:] == [RECORD]]
            content = json.loads(archive.read(names[0])) if names else None
    # Whoever reads the weights says what is wrong with them.
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError):
        return None
    except ValueError as error:
        raise CheckpointError(f"{path}: its {RECORD} is not JSON ({error}). Copy the file again.") from error
    if content is None:
        return None
    if not isinstance(content, dict) or content.pop("version", None) != _VERSION or not _is_whole(content):
        raise CheckpointError(
            f"{path}: its {RECORD} is not of the form that this version reads, {_VERSION}. Copy the file again, or use "
            "the version that wrote it."
        )
    return content


def _is_whole(content: Any) -> bool:
    try:
        return all(
            isinstance(record["stage"], str)
            and all(
                isinstance(name, str) and isinstance(image, str)
                for rows in record["volumes"].values()
                for name, image, _ in rows
            )
            and all(isinstance(value, str) for value in record["made_from"].values())
            for record in (content, *filter(None, content["ancestors"].values()))
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def find_overlap(
    checkpoint: str | os.PathLike[str],
    subset: str,
    evaluated: Sequence[Content],
    others: Callable[[], leaks.Subsets],
    allow: bool = False,
) -> dict[str, Any]:
    """Find which volumes a network is evaluated on that it was made from.

    All volumes that had a part in the weights count: those that a network was trained on, with labels or without, that
    chose among its weights, or that gave it batch-norm statistics; also in a stage before.

    Args:
        checkpoint: the file of weights.
        subset: name of the subset that is evaluated.
        evaluated: its volumes.
        others: reads the subsets that must not share with it, see `leaks.other_subsets`; asked for only where it is not
            recorded what the weights were made from.
        allow: report an overlap instead of refusing it.

    Returns:
        "volumes": for each id what else the volume was used for; "not_recorded": the files that do not say what they
        were made from. Both are empty if the evaluation is known to be on volumes that the network has not seen.

    Raises:
        LeakError: if there is an overlap that is not allowed, or, where it is not recorded what the weights were made
            from, if the volumes are not those of the test.
        CheckpointError: if a record cannot be read.
    """
    leaks.check({subset: evaluated})
    record = read_lineage(checkpoint)
    used = _used(record)
    if not_recorded := _silent(record, Path(checkpoint).name):
        logger.warning(
            f"{', '.join(not_recorded)}: not recorded which volumes it was made from. That none of those evaluated is "
            "among them cannot be known; they are compared with the other subsets of the split."
        )
        if subset != leaks.TEST and not allow:
            raise leaks.LeakError(
                f"{', '.join(not_recorded)} does not say which volumes it was made from, and those of {subset} are "
                "there to make weights from. Evaluate the test, or pass --allow_overlap True if that is what you want."
            )
        used += [("the split", name, entry) for name, contents in others().items() for entry in contents]
    volumes: dict[str, list[str]] = {}
    by_image: dict[str, list[str]] = {}
    for entry in evaluated:
        by_image.setdefault(entry.image, []).append(entry.id)
    for stage, name, entry in used:
        for id_ in by_image.get(entry.image, ()):
            use = f"{name} of {stage}" + (f" as {entry.id}" if entry.id != id_ else "")
            volumes.setdefault(id_, []).append(use)
    volumes = {id_: sorted(set(uses)) for id_, uses in sorted(volumes.items())}
    if volumes:
        uses = "; ".join(f"{id_} ({', '.join(uses)})" for id_, uses in list(volumes.items())[:5])
        text = f"{len(volumes)} of the {len(evaluated)} evaluated volumes had a part in {checkpoint}: {uses}."
        if not allow:
            raise leaks.LeakError(
                f"{text} Evaluate volumes that had none, or pass --allow_overlap True if that is what you want; "
                "evaluation.json then says so."
            )
        logger.warning(f"{text} Their Dice says little about other volumes.")
    return {"volumes": volumes, "not_recorded": not_recorded}


def _used(record: dict[str, Any] | None) -> list[tuple[str, str, Content]]:
    """List stage, subset and content of every volume that had a part in weights."""
    records = [record, *record["ancestors"].values()] if record else []
    return [
        (own["stage"], name, Content(name_, image, label, f"in {own['stage']}"))
        for own in records
        if own
        for name, rows in own["volumes"].items()
        for name_, image, label in rows
    ]


def _silent(record: dict[str, Any] | None, name: str) -> list[str]:
    """Name the files that do not say what they were made from."""
    if record is None:
        return [name]
    ancestors = record["ancestors"]
    known = [own for own in (record, *ancestors.values()) if own]
    return sorted({file for own in known for sha256, file in own["made_from"].items() if not ancestors.get(sha256)})
