"""TensorBoard's files of a run that goes on: without the steps that it is about to do again.

TensorBoard itself can hide what a resumed run does again (`purge_step`), but only where all curves of a folder count in
one unit; here losses count in steps and validations in epochs. So the files are cut back to what they were when the
state was saved.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

logger = logging.getLogger(__name__)

_PATTERN = "events.out.tfevents.*"


def event_file_sizes(folder: str | os.PathLike[str]) -> dict[str, int]:
    """Return the bytes of TensorBoard's files in a folder by their names; what is written must be flushed."""
    return {path.name: path.stat().st_size for path in sorted(Path(folder).glob(_PATTERN))}


def cut_back(folder: str | os.PathLike[str], sizes: Mapping[str, int]) -> None:
    """Cut TensorBoard's files back to earlier sizes, and delete those that came later and hold something.

    A later one that is still empty may be that of this process. If nothing of the run was saved, the files are of other
    runs, and are renamed so that TensorBoard does not mix their curves with the new ones.

    Args:
        folder: of the files.
        sizes: see `event_file_sizes`; empty if nothing of the run was saved.
    """
    for name, size in event_file_sizes(folder).items():
        path = Path(folder, name)
        if size > sizes.get(name, size):
            os.truncate(path, sizes[name])
        elif name not in sizes and _holds_anything(path):
            if not sizes:
                aside = path.with_name(name.replace("tfevents", "earlier_run"))
                path.rename(aside)
                logger.info(f"{path}: holds the curves of an earlier run; now called {aside.name}.")
                continue
            path.unlink()
        else:
            continue
        logger.info(f"{path}: removed the curves of steps that were not saved and are done again.")


def _holds_anything(path: Path) -> bool:
    return any(event.HasField("summary") for event in EventFileLoader(str(path)).Load())
