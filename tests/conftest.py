"""Fixtures shared by all tests: where the real volumes are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def acdc_dir() -> Path:
    """The real ACDC volumes, which are not part of the repository."""
    path = SHARED_DATA / "acdc"
    if not path.is_dir():
        pytest.skip(f"real ACDC volumes are not at {path}")
    return path


@pytest.fixture(scope="session")
def prostate_dir() -> Path:
    """Real T2 volumes of the prostate and the label volumes of MSD Task05, which are not part of the repository."""
    path = SHARED_DATA / "prostate"
    if not path.is_dir():
        pytest.skip(f"real prostate volumes are not at {path}")
    return path
