"""The tests that need a GPU, on one that the CPU simulates; and that it finds what it is for.

In processes of their own: the simulation changes torch for the rest of one.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from experiments.gpu.gpu_tests import marked_files

from .places import REPOSITORY
from .simulated_gpu import runtime

MISSING = runtime.what_is_missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the simulated GPU needs {MISSING}")
PREPARED = """
import json
from tests.simulated_gpu import plugin
import torch
from monai.data import MetaTensor
from tests.simulated_gpu.tensors import DeviceError
here, there = torch.arange(4.0), torch.arange(4.0).to("cuda")
outcomes = {}
"""
FOUND = {
    "there + here": "operands of both devices",
    "there.mul_(here)": "operands of both devices",
    "torch.nn.Linear(4, 1)(there)": "operands of both devices",
    "here[0].add_(there[0])": "operands of both devices",
    "torch.stack([there[0], here[0]])": "operands of both devices",
    "there.pin_memory()": "only memory of the host",
    "torch.rand(2, device='cuda', generator=torch.Generator())": "generator of the other device",
    "torch.rand(2, generator=torch.Generator('cuda'))": "generator of the other device",
}
WAITS = (
    "there.sum().item()",
    "float(there[0])",
    "there.cpu()",
    "here.to('cuda')",
    "there[there > 1]",
    "there.nonzero()",
    "there[here.long()]",
    "there.copy_(here)",
    "there.unique()",
    "there.tolist()",
    "f'{there[0]:.2f}'",
    "bool((there > 0).all())",
)
RIGHT = {
    "(there + 1).tolist()": [1.0, 2.0, 3.0, 4.0],
    "(there * here[3]).cpu().tolist()": [0.0, 3.0, 6.0, 9.0],
    "there[[2, 0]].tolist()": [2.0, 0.0],
    "there[here.long().flip(0)].tolist()": [3.0, 2.0, 1.0, 0.0],
    "there.view(2, 2)[1].add_(1).tolist() + there.tolist()": [3.0, 4.0, 0.0, 1.0, 3.0, 4.0],
    "str((there.clone().requires_grad_() ** 2).sum().device)": "cuda:0",
    "torch.autograd.grad((x := there.clone().requires_grad_()).square().sum(), x)[0].tolist()": [0.0, 2.0, 6.0, 8.0],
    "torch.rand(2, generator=torch.Generator().manual_seed(2**62)).shape[0]": 2,
    "[torch.empty(2, pin_memory=pinned).is_pinned() for pinned in (True, False)]": [True, False],
    "type(m := MetaTensor(here, meta={'a': 1}).to('cuda')).__name__": "MetaOnDevice",
    "type(m.cpu()).__name__ + m.device.type + str(m.cpu().meta['a'])": "MetaTensorcuda1",
}


def outcomes(expressions, before="") -> dict[str, object]:
    """Evaluate expressions in a process with the simulated GPU: values, or the messages of device errors."""
    lines = [PREPARED, before]
    for text in expressions:
        lines.append(f"try: outcomes[{text!r}] = {text}")
        lines.append(f"except DeviceError as error: outcomes[{text!r}] = str(error)")
    lines.append("print(json.dumps(outcomes, default=lambda value: 'a value'))")
    command = [sys.executable, "-c", "\n".join(lines)]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_it_computes_and_finds_what_fails_on_a_gpu():
    found = outcomes([*RIGHT, *FOUND, "there.sum().item()"])
    assert {text: found[text] for text in RIGHT} == RIGHT
    assert found.pop("there.sum().item()") == 8.0  # the view above has added 1 to two values
    assert {text: message for text, message in FOUND.items() if message not in str(found[text])} == {}


def test_it_finds_what_the_host_waits_for():
    found = outcomes(
        [*WAITS, "here.to('cuda', non_blocking=True)", "(there + 1).sum()", "there.__setitem__(there > 1, 0.0)"],
        before="torch.cuda.set_sync_debug_mode('error')",
    )
    waited = [text for text, value in found.items() if "the host waits for the device" in str(value)]
    assert waited == [*WAITS]


def test_what_needs_a_gpu_runs_on_the_simulated_one(tmp_path):
    files = [str(path) for path in marked_files()]
    assert len(files) > 5
    options = ["-o", "addopts=", "-p", "tests.simulated_gpu.plugin", "-p", "no:cacheprovider", "-m", "gpu", "-q"]
    command = [sys.executable, "-m", "pytest", *options, f"--basetemp={tmp_path / 'own'}", *files]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    assert re.search(r"^\d+ passed, \d+ deselected(, \d+ warnings?)? in ", run.stdout, re.MULTILINE), run.stdout[
        -500:
    ]  # none skipped
