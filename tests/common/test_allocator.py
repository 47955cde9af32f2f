"""Freed memory is kept: how often the system is asked for it again."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from common import allocator
from common.allocator import keep_freed_memory
from tests.places import REPOSITORY

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"),
    reason="the C library is not glibc",
)

# Ten times, tensors of 32 and 64 MiB are made and written to: 24,576 pages of 4 KiB.
COUNT = """
import resource, sys
import torch
from common.allocator import keep_freed_memory
wanted = sys.argv[1] == "kept"
assert not wanted or keep_freed_memory()
for _ in range(20):  # until as many blocks lie between others as can
    a, b = torch.ones(2**23), torch.ones(2**24)
    del a, b
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    a, b = torch.ones(2**23), torch.ones(2**24)
    del a, b
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(kind):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", COUNT, kind]
    run = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    return int(run.stdout)


def test_memory_is_not_asked_for_again():
    kept, returned = faults("kept"), faults("returned")
    assert kept < 1000 < 200_000 < returned


def test_an_allocator_that_the_environment_sets_stays_as_it_is(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: pytest.fail("the allocator was changed"))
    assert not keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory()
