"""`python -m bundles write | new`."""

from __future__ import annotations

import fire

from .new import new
from .write import write

if __name__ == "__main__":
    fire.Fire({"write": write, "new": new})
