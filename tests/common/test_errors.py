from __future__ import annotations

import subprocess
import sys

SCRIPT = """
from common.errors import show_cause_last
show_cause_last()
try:
    try:
        raise ValueError("a.nii.gz is damaged: copy it again")
    except ValueError as error:
        raise RuntimeError("applying transform") from error
except RuntimeError as error:
    raise RuntimeError("Failed to evaluate") from error
"""


def test_root_cause_is_the_last_line_and_the_status_is_not_zero():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == "Cause: ValueError: a.nii.gz is damaged: copy it again"
    assert "Failed to evaluate" in run.stderr
