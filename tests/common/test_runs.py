"""Folders are made, tried and claimed by one run at a time."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

import pytest

from common import runs
from common.files import WriteError
from common.runs import LOCK, FolderInUse, claim, claimed, release
from tests.places import REPOSITORY

# As another process does it, without the seconds that importing takes.
HOLDER = (
    "import json, os, sys, time; from filelock import FileLock; path = sys.argv[1] + '/.run.lock'\n"
    "os.makedirs(sys.argv[1], exist_ok=True); lock = FileLock(path).acquire()\n"
    "open(path, 'w').write(json.dumps({'process': os.getpid(), 'host': 'here', 'since': 'noon'}))\n"
    "print(flush=True); time.sleep(60)"
)


@pytest.fixture(autouse=True)
def nothing_claimed():
    runs._release()
    yield
    runs._release()


@pytest.fixture
def other_process():
    """Start a process that holds a folder; return it."""
    started = []

    def hold(folder):
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE)
        process.stdout.readline()
        started.append(process)
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_claimed_folders_are_made_and_kept_if_used(tmp_path):
    claim(tmp_path / "deep" / "output", str(tmp_path / "models"), tmp_path / "deep" / ".." / "models")
    assert claimed() == [tmp_path / "deep" / "output", tmp_path / "models"]
    assert names(tmp_path / "models") == [LOCK]
    release()
    assert claimed() == [] and names(tmp_path) == ["deep"] and names(tmp_path / "deep") == []  # they were empty
    claim(tmp_path / "models", tmp_path / "deep")
    (tmp_path / "models" / "model.pt").touch()
    release()
    assert names(tmp_path) == ["deep", "models"] and names(tmp_path / "models") == ["model.pt"]


def test_second_process_is_refused_until_the_first_has_ended(tmp_path, other_process):
    process = other_process(tmp_path / "models")
    message = rf"models is in use by another run \(process {process.pid} on here, since noon\): wait until"
    with pytest.raises(FolderInUse, match=message):
        claim(tmp_path / "output", tmp_path / "models")
    assert claimed() == [] and names(tmp_path) == ["models"]  # neither, if not both
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    claim(tmp_path / "output", tmp_path / "models")


def test_what_is_claimed_is_refused_to_others(tmp_path):
    claim(tmp_path)
    command = (
        "import sys; from filelock import FileLock, Timeout\n"
        "try: FileLock(sys.argv[1]).acquire(timeout=0)\n"
        "except Timeout: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", command, tmp_path / LOCK], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n" and f'"process": {os.getpid()}' in (tmp_path / LOCK).read_text()


def test_one_process_can_claim_again(tmp_path):
    """A run that failed has released nothing; another one, in the same or another thread, takes over."""
    claim(tmp_path / "a", tmp_path / "b")
    claim(tmp_path / "b", tmp_path / "c")
    assert claimed() == [tmp_path / "b", tmp_path / "c"] and names(tmp_path) == ["b", "c"]
    seen = []

    def elsewhere():
        claim(tmp_path / "c")
        seen.append(claimed())
        release()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [[tmp_path / "c"]] and claimed() == [tmp_path / "b"]
    assert names(tmp_path) == ["b"]


def test_runs_of_two_threads_do_not_end_each_other(tmp_path):
    claim(tmp_path / "a")
    thread = threading.Thread(target=lambda: (claim(tmp_path / "b"), release()))
    thread.start()
    thread.join()
    assert claimed() == [tmp_path / "a"] and names(tmp_path / "a") == [LOCK]


def test_only_the_first_of_several_processes_claims(tmp_path, monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    claim(tmp_path / "output")
    release()
    assert names(tmp_path) == []


def test_forked_process_has_no_claims(tmp_path):
    claim(tmp_path)
    child = os.fork()
    if child == 0:
        try:
            release()  # of nothing
            os._exit(0 if claimed() == [] and (tmp_path / LOCK).exists() else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert names(tmp_path) == [LOCK]


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EROFS, "read-only"), (errno.EACCES, "no right to write"), (errno.ENOSPC, "full")],
    ids=["read-only", "no right", "full"],
)
def test_folder_that_cannot_be_written_to(tmp_path, monkeypatch, number, reason):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(WriteError, match=f"output cannot be written to: .*{reason}.*choose another folder") as caught:
        claim(tmp_path / "output")
    assert caught.value.errno == number and claimed() == []


def test_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "models").touch()
    with pytest.raises(WriteError, match="models cannot be written to: a file has the name of the folder"):
        claim(tmp_path / "models")
    with pytest.raises(WriteError, match="output cannot be written to: a file has the name of a folder on the way"):
        claim(tmp_path / "models" / "output")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks(tmp_path, monkeypatch, caplog, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    for _ in range(2):  # what the first has left refuses nobody
        claim(tmp_path)
        assert "cannot be locked on its file system" in caplog.text
        assert claimed() == [] and not list(tmp_path.iterdir())


def test_lock_of_another_run_in_a_folder_made_anew_stays(tmp_path):
    claim(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK).write_text('{"process": 0, "host": "another", "since": "today"}')
    release()
    assert (tmp_path / "out" / LOCK).is_file()


def test_left_over_files_are_swept(tmp_path):
    command = "import sys; from common.files import atomic_file; m = atomic_file(sys.argv[1]); m.__enter__().touch(); "
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    for ending in ("import os; os.kill(os.getpid(), 9)",):
        subprocess.run([sys.executable, "-c", command + ending, tmp_path / "model.pt"], env=environment)
    assert len(names(tmp_path)) == 1 and names(tmp_path)[0].startswith(".unfinished-")
    claim(tmp_path)
    assert names(tmp_path) == [LOCK]
