"""Where the bundles are: beside this package, in a checkout as where it is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

from .facts import FACTS_FILE, FactsError

REPOSITORY = Path(__file__).resolve().parents[1]
"""The checkout; where the wheel is installed, the folder of the installed packages."""
IS_CHECKOUT = (REPOSITORY / "pyproject.toml").is_file()
RUNS = (REPOSITORY if IS_CHECKOUT else Path.cwd()) / "runs"
"""Where results go if nothing else is said."""

_MADE_BY_RUNS = shutil.ignore_patterns("cache", "output", "__pycache__")


def bundles_of_repository() -> list[Path]:
    """List the bundles of this repository."""
    return sorted(path.parent for path in REPOSITORY.glob(f"bundle_*/{FACTS_FILE}"))


def bundle_folder(name: str) -> Path:
    """Find a bundle by its name or folder.

    Raises:
        FactsError: if there is no such bundle.
    """
    for folder in (Path(name), REPOSITORY / name, REPOSITORY / f"bundle_{name}"):
        if (folder / FACTS_FILE).is_file():
            return folder.resolve()
    known = ", ".join(folder.name.removeprefix("bundle_") for folder in bundles_of_repository())
    raise FactsError(f"name must be {known} or a folder with a {FACTS_FILE}, got {name!r}.")


def path(name: str) -> str:
    """Print the folder of a bundle, as for `--bundle_root`.

    Runs write weights and tables to their bundle's folder unless `ckpt_dir` and `output_dir` say otherwise. Where the
    package is installed, take a `copy`, which an update leaves alone.

    Args:
        name: bundle by name, such as "acdc".

    Raises:
        FactsError: if there is no such bundle.
    """
    return str(bundle_folder(str(name)))


def copy(name: str, out: str = ".") -> None:
    """Copy a bundle, to run and change it: `python -m monai.bundle run` inside needs this package only for its code.

    Args:
        name: bundle by name, such as "acdc".
        out: the folder that gets it, as `bundle_acdc`.

    Raises:
        FactsError: if there is no such bundle, or something of that name is there.
    """
    source = bundle_folder(str(name))
    target = Path(out).resolve() / source.name
    if target.exists():
        raise FactsError(f"out must be a folder without {source.name}, got {out!r}, where {target} is: name another.")
    shutil.copytree(source, target, ignore=_MADE_BY_RUNS)
    (target / "models").mkdir(exist_ok=True)
    print(f"Copied {source.name} to {target}.")
