"""Say why a volume could not be loaded or preprocessed."""

from __future__ import annotations

import os

from ..files import WriteError
from ..transforms.volume import VolumeError


def describe_failure(error: BaseException, path: str | os.PathLike[str]) -> str:
    """Say in one line why a volume could not be loaded or preprocessed, and what to do about it.

    Args:
        error: what was raised; MONAI's wrapping ("applying transform ...") is looked through.
        path: the file that was treated.

    Returns:
        A message that begins with the name of the file.
    """
    while error.__cause__ is not None and not isinstance(error, (VolumeError, WriteError)):
        error = error.__cause__
    if isinstance(error, VolumeError):
        return str(error)
    if isinstance(error, WriteError):
        return str(error.strerror)
    if not os.path.exists(path):
        return f"{path} does not exist. Check the path."
    return f"{path} could not be preprocessed. ({type(error).__name__}: {' '.join(str(error).split())})"
