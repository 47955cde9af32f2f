"""Processes that see the packages that they are given and nothing of this repository."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# Loads MONAI once, which takes seconds, and is forked for everything that is to be run: a line of its input is a folder
# to work in, a folder for what is printed, and the words of a command. Modules and files are run as Python does by
# itself, with the current folder and the given ones on the path and nothing else: without `site` there is neither an
# editable install nor a folder of the user, and PYTHONPATH is ignored.
_BOOT = """
import json, os, runpy, signal, sys
sys.path += sys.argv[1:]
import monai.bundle, torch
for line in iter(sys.stdin.readline, ""):
    cwd, printed, *words = json.loads(line)
    child = os.fork()
    if child == 0:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
signal.alarm(600)
os.chdir(cwd)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
for number, name in ((1, "stdout"), (2, "stderr")):
    os.dup2(os.open(os.path.join(printed, name), os.O_WRONLY | os.O_CREAT), number)
sys.path.insert(0, "")
sys.argv = words
if words[0].endswith(".py"):
    runpy.run_path(words[0], run_name="__main__")
else:
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
"""
_SITE = [entry for entry in sys.path if Path(entry).name == "site-packages"]


@functools.cache
def _start(*folders: str) -> subprocess.Popen[str]:
    """Start a process that sees the packages in folders and waits for commands."""
    # Whatever asks for something beyond this machine gets nowhere.
    environment = {**os.environ, "https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}
    command = [sys.executable, "-I", "-S", "-c", _BOOT, *folders]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.communicate)  # which closes its input, and waits
    return process


def run_clean(
    cwd: Path, *arguments: object, site: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a module or a file in a process that does not see this repository.

    It sees the packages in `site`, all that are installed here if there is none.
    """
    process = _start(*(_SITE if site is None else [str(site)]))
    words = [str(word) for word in arguments]
    with tempfile.TemporaryDirectory() as printed:
        process.stdin.write(json.dumps([str(cwd), printed, *words]) + "\n")
        process.stdin.flush()
        status = process.stdout.readline()
        assert status, "the process has ended"
        stdout, stderr = (Path(printed, name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
    done = subprocess.CompletedProcess(words, int(status), stdout, stderr)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done
