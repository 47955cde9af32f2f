"""Fixtures shared by all tests: phantoms of the datasets, real data where it is, generators."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

# Before torch is imported: processes that share the cores wait for each other's threads many times longer than they
# compute.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from .places import SHARED_DATA_VARIABLE, real_data, where_real_data_is

if TYPE_CHECKING:
    from .phantoms import Phantom


def pytest_report_header() -> str:
    return where_real_data_is()


def _real(name: str) -> Path:
    """Return where real data is, or skip the test."""
    path = real_data(name)
    if not path.exists():
        pytest.skip(f"real data ({name}) is not at {path}; {SHARED_DATA_VARIABLE} may name another folder of data")
    return path


@pytest.fixture(scope="session")
def acdc_dir() -> Path:
    """The real ACDC volumes, which are not part of the repository."""
    return _real("ACDC")


@pytest.fixture(scope="session")
def prostate_dir() -> Path:
    """Real T2 volumes of the prostate and the label volumes of MSD Task05, which are not part of the repository."""
    return _real("prostate")


@pytest.fixture(scope="session")
def camvid_dir() -> Path:
    """The photographs of CamVid, which are not part of the repository."""
    return _real("CamVid")


@pytest.fixture(scope="session")
def monai_schema() -> Path:
    """MONAI's schema of metadata, which it fetches otherwise."""
    return _real("MONAI's schema")


@pytest.fixture(scope="session")
def paper_tables() -> Path:
    """The tables of the paper as numbers."""
    return _real("the paper's tables")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _make(name: str, factory: pytest.TempPathFactory) -> Phantom:
    from .phantoms import make_phantom  # it imports all that configs need, which most tests do not

    return make_phantom(name, factory.mktemp(name))


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    """The phantom of ACDC; what does not depend on the dataset is tested on it alone."""
    return _make("acdc", tmp_path_factory)


@pytest.fixture(scope="session")
def prostate_phantom(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    """The phantom with several channels, and with volumes that lack a class or a label."""
    return _make("prostate", tmp_path_factory)


@pytest.fixture(scope="session")
def mmwhs_phantom(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    """The phantom of many orientations, with label values that are no class indices."""
    return _make("mmwhs", tmp_path_factory)


@pytest.fixture(scope="session")
def cityscapes_phantom(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    """The phantom of photographs in colour."""
    return _make("cityscapes", tmp_path_factory)


@pytest.fixture(scope="session", params=["prostate", "mmwhs"])
def other_phantom(request: pytest.FixtureRequest) -> Phantom:
    """The two of volumes that are not ACDC's, in turn."""
    return request.getfixturevalue(f"{request.param}_phantom")
