"""`python -m experiments.gpu pack | test | benchmarks | cells | recipe | collect`; see README.md beside this file.

Nothing but Python's own packages is imported before the wheels of the kit are installed: the machine with the GPU lacks
monai, and fire too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .kit import KIT, WORK, KitError, install

_ON_GPU = ("test", "benchmarks", "cells", "recipe")


def main(arguments: list[str]) -> None:
    """Install what the kit holds where a command needs it, then run the command."""
    if arguments and arguments[0] in _ON_GPU:
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--kit", type=Path, default=KIT)
        parser.add_argument("--work", type=Path, default=WORK)
        folders, _ = parser.parse_known_args(arguments[1:])
        install(folders.kit, folders.work)

    import fire

    from .benchmark import benchmarks
    from .cells import cells, recipe
    from .gpu_tests import test
    from .outcome import collect
    from .pack import pack

    commands = {
        "pack": pack,
        "test": test,
        "benchmarks": benchmarks,
        "cells": cells,
        "recipe": recipe,
        "collect": collect,
    }
    fire.Fire(commands, arguments, name="python -m experiments.gpu")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KitError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
