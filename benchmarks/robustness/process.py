"""Run a command line of `monai.bundle` in a forked child: what a new process would do, without its seconds of imports.

POSIX only. The parent must not have computed with torch or ITK before: threads do not survive a fork.
"""

from __future__ import annotations

import contextlib
import json
import linecache
import os
import re
import runpy
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import monai.bundle

import common

TIMEOUT_SECONDS = 240.0  # of a run of one or two seconds, on a machine that may be busy
_PRODUCT = str(Path(common.__file__).parent)
_PROGRAM = str(Path(monai.bundle.__file__).with_name("__main__.py"))  # what `python -m` makes of it
_UNCAUGHT = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?\w+(?:Error|Exception|Warning|Exit|Interrupt)(?::|$)", re.MULTILINE)
_RECORD = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ - [\w.]+ - (\w+) - ", re.MULTILINE)  # of the bundles' logging.conf


@dataclass(frozen=True)
class Ending:
    """How a command ended, as far as one can tell from outside, and who raised the error.

    Attributes:
        status: exit status; None if a signal ended it.
        signal: number of that signal, or None.
        timed_out: it was killed because it took too long.
        seconds: from fork to end.
        cpu_seconds: of the processor, which other work on the machine does not change.
        stdout: what it wrote there, the log too.
        stderr: what it wrote there.
        message: the error as a user sees it last; "" without one.
        by_product: the product raised that error itself, it did not merely let it through.
        modules: names of the modules that it imported.
    """

    status: int | None
    signal: int | None = None
    timed_out: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    stdout: str = ""
    stderr: str = ""
    message: str = ""
    by_product: bool = False
    modules: tuple[str, ...] = field(default=(), repr=False)

    @property
    def succeeded(self) -> bool:
        """Whether the exit status is 0."""
        return self.status == 0

    @property
    def warnings(self) -> list[str]:
        """The log's warnings and errors, and those of Python's `warnings`."""
        records = [text for level, text in _records(self.stdout) if level in ("WARNING", "ERROR", "CRITICAL")]
        return [*records, *(line for line in self.output.splitlines() if re.search(r"\w+Warning: ", line))]

    @property
    def output(self) -> str:
        """Both, one after the other."""
        return f"{self.stdout}\n{self.stderr}"


def run_forked(
    arguments: Sequence[str],
    folder: Path,
    timeout: float = TIMEOUT_SECONDS,
    kill_after: float | None = None,
    prepare: Callable[[], None] | None = None,
) -> Ending:
    """Run `python -m monai.bundle ARGUMENTS` in a child, on one core.

    Args:
        arguments: of the command line.
        folder: current folder of the child; two files with what it prints are left in it.
        timeout: seconds until it is killed and counts as hanging.
        kill_after: seconds until it is killed on purpose.
        prepare: called in the child before anything else.

    Returns:
        How it ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    streams = [folder / name for name in ("stdout.txt", "stderr.txt")]
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(arguments, folder, streams, writer, prepare)
    os.close(writer)
    timed_out, status, cpu_seconds = _wait(pid, started + timeout, None if kill_after is None else started + kill_after)
    seconds = time.monotonic() - started
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    report = json.loads(told) if told else {}
    stdout, stderr = (stream.read_text(errors="replace") for stream in streams)
    ended = os.waitstatus_to_exitcode(status)
    return Ending(
        status=ended if ended >= 0 else None,
        signal=-ended if ended < 0 else None,
        timed_out=timed_out,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        stdout=stdout,
        stderr=stderr,
        message="" if ended == 0 else last_message(stdout, stderr),
        by_product=report.get("by_product", False),
        modules=tuple(report.get("modules", ())),
    )


def last_message(stdout: str, stderr: str) -> str:
    """Return what a user reads last of a failed command: the cause, the error, or the log's last error."""
    if "\nCause: " in stderr:
        return stderr.rpartition("\nCause: ")[2].strip()
    if uncaught := list(_UNCAUGHT.finditer(stderr)):
        return stderr[uncaught[-1].start() :].strip()
    if errors := [text for level, text in _records(stdout) if level in ("ERROR", "CRITICAL")]:
        return errors[-1].strip()
    return stderr.strip()[-2000:]


def _records(text: str) -> Iterator[tuple[str, str]]:
    """Yield level and text of each record of the log, whose text can have several lines."""
    found = list(_RECORD.finditer(text))
    for record, following in zip_longest(found, found[1:]):
        yield record[1], text[record.end() : None if following is None else following.start()].strip()


def _wait(pid: int, latest: float, kill_at: float | None) -> tuple[bool, int, float]:
    """Wait for a child, kill it when it is time; return whether it took too long, wait status, seconds of processor."""
    until = latest if kill_at is None else min(kill_at, latest)
    handle = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([handle], [], [], max(0.0, until - time.monotonic()))
    finally:
        os.close(handle)
    if not ready:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    return not ready and until == latest, status, usage.ru_utime + usage.ru_stime


def _child(
    arguments: Sequence[str], folder: Path, streams: Sequence[Path], writer: int, prepare: Callable[[], None] | None
) -> None:
    """Become the command; never returns."""
    report: dict[str, Any] = {"by_product": False}
    status = 1
    before = set(sys.modules)
    try:
        os.setpgid(0, 0)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core: nothing is done in processes of its own
        for stream, number in zip(streams, (1, 2), strict=True):
            file = os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            os.dup2(file, number)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", buffering=1) for number in (1, 2))
        sys.stdin = open(os.devnull)
        os.chdir(folder)
        sys.argv = [_PROGRAM, *arguments]
        try:
            if prepare is not None:
                prepare()
            runpy.run_module("monai.bundle", run_name="__main__", alter_sys=False)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
            if not isinstance(end.code, int) and end.code is not None:
                print(end.code, file=sys.stderr)
            report["by_product"] = _by_product(end)
        except BaseException as error:
            report["by_product"] = _by_product(error)
            sys.excepthook(type(error), error, error.__traceback__)
        report["modules"] = sorted(set(sys.modules) - before)
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(writer, json.dumps(report).encode())
    finally:
        os._exit(status)


def _by_product(error: BaseException) -> bool:
    """Whether the first error of a chain comes from a `raise` of the product, not from what one of its lines calls."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    file = trace.tb_frame.f_code.co_filename
    return file.startswith(_PRODUCT) and linecache.getline(file, trace.tb_lineno).lstrip().startswith("raise")
