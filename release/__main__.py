"""`python -m release export | verify`."""

from __future__ import annotations

import fire

from .archive import verify
from .export import export

if __name__ == "__main__":
    fire.Fire({"export": export, "verify": verify})
