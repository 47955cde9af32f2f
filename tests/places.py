"""Where things are: the repository, its bundles, and the real data, which are not part of it."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
BUNDLES = {name: REPOSITORY / f"bundle_{name}" for name in ("acdc", "prostate", "mmwhs", "cityscapes")}
BUNDLE = BUNDLES["acdc"]  # what does not depend on the dataset is tested with it
CONFIGS = BUNDLE / "configs"

SHARED_DATA_VARIABLE = "CONTRASTIVE_SHARED_DATA"
SHARED_DATA = Path(os.environ.get(SHARED_DATA_VARIABLE) or REPOSITORY.parent / "shared" / "data").absolute()
# What may lie there, by the name that tests give it.
REAL_DATA = {
    "ACDC": "acdc",
    "prostate": "prostate",
    "CamVid": "camvid",
    "MONAI's schema": "monai/meta_schema_20240725.json",
    "the paper's tables": "paper/tables.json",
}


def real_data(name: str) -> Path:
    """Return where real data is looked for, by its name in `REAL_DATA`."""
    return SHARED_DATA / REAL_DATA[name]


def where_real_data_is() -> str:
    """Describe in a line where real data is looked for, and what of it is there."""
    found = {name: real_data(name).exists() for name in REAL_DATA}
    lists = [
        f"{text}: {', '.join(names)}"
        for text, value in (("there", True), ("not there", False))
        if (names := [name for name in found if found[name] is value])
    ]
    return f"real data ({SHARED_DATA_VARIABLE}): {SHARED_DATA} ({'; '.join(lists)})"
