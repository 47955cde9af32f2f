"""Which package `common` is found: that of the bundles, or another one of so plain a name.

The configs name their code `common`, and Python takes the first package of that name: of the current folder, then of
PYTHONPATH, then of what is installed. With another one MONAI only says that some module cannot be imported. What is
released has its code under a name of its own (`release.vendor`) and cannot meet another.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_NAME = "common"


class WrongCodeError(ImportError):
    """`common` is not the code of these bundles."""


def check_own_code(root: Path = _ROOT) -> None:
    """Check that `common` is the package beside this one, before anything of it is imported.

    Args:
        root: the folder that must hold it.

    Raises:
        WrongCodeError: if it is another one, or its `__init__.py` was replaced by that of another one.
    """
    found = importlib.util.find_spec(_NAME)
    wanted = root / _NAME
    places = [Path(place).resolve() for place in (found and found.submodule_search_locations) or ()]
    if wanted in places[:1] and getattr(importlib.import_module(_NAME), "OF_BUNDLES", False):
        return
    what = found and (found.origin or ", ".join(map(str, places)))
    if wanted in places[:1]:
        remedy = "another package was installed over it: `pip uninstall common`, then install this one anew"
    else:
        remedy = (
            "a folder or package of that name comes first: run this from another folder, take that one off PYTHONPATH, "
            "or `pip uninstall common`"
        )
    raise WrongCodeError(
        f"The package `{_NAME}` must be the code of these bundles, {wanted}, found {what or 'none'}: {remedy}. A "
        "released zip has its code under another name and does not meet this."
    )
