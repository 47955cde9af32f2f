"""`python -m bundles write | new | draw`."""

from __future__ import annotations

import fire

from .draw import draw
from .new import new
from .write import write

if __name__ == "__main__":
    fire.Fire({"write": write, "new": new, "draw": draw})
