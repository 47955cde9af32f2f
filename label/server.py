"""A MONAI Label server that is started, asked and stopped from Python, by the requests that a viewer sends.

The server is the real one, in the environment that `install.sh` builds; nothing of that is imported here.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel

_START_SECONDS, _ANSWER_SECONDS = 180, 300


class LabelServerError(RuntimeError):
    """A server that did not start, or that answered with an error."""


@dataclass(frozen=True)
class LabelServer:
    """A running server.

    Attributes:
        url: its address.
        log: the file that its output goes to.
    """

    url: str
    log: Path

    def request(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        """Return status and body of the answer to an HTTP request."""
        headers = {"Content-Type": content_type} if body else {}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def info(self) -> dict[str, Any]:
        """Return what the server offers."""
        return json.loads(self._expect("GET", "/info/"))

    def infer(self, bundle: str, study: str, **params: Any) -> tuple[int, bytes]:
        """Ask for a segmentation; return the status and the body of the answer.

        With status 200 the body is a NIfTI file.

        Args:
            bundle: its name.
            study: file name without .nii.gz.
            **params: options, such as `model_filename`.
        """
        form = _form({"params": ("", json.dumps(params).encode())})
        return self.request("POST", f"/infer/{bundle}?image={study}&output=image", *form)

    def segment(self, bundle: str, study: str) -> nibabel.Nifti1Image:
        """Return the segmentation of a study by `model.pt`, see `infer`.

        Raises:
            LabelServerError: if there is none.
        """
        status, body = self.infer(bundle, study)
        if status != 200:
            raise LabelServerError(f"POST /infer/{bundle} for {study}: status {status}.\n{self.tail()}")
        return nibabel.Nifti1Image.from_bytes(gzip.decompress(body))

    def add_study(self, study: Path) -> None:
        """Upload a study; its name is that of the file, up to the first dot."""
        form = _form({"file": (study.name, study.read_bytes())})
        self._expect("PUT", f"/datastore/image?image={study.name.split('.')[0]}", *form)

    def remove_study(self, study: str) -> None:
        """Remove a study with its labels."""
        self._expect("DELETE", f"/datastore/image?id={study}")

    def save_label(self, study: str, label: Path) -> None:
        """Save a label of a study as final, which is what is trained on."""
        form = _form({"label": (label.name, label.read_bytes())})
        self._expect("PUT", f"/datastore/label?image={study}&tag=final", *form)

    def remove_label(self, study: str) -> None:
        """Remove the label of a study."""
        self._expect("DELETE", f"/datastore/label?id={study}&tag=final")

    def train(self, bundle: str, **params: Any) -> dict[str, Any]:
        """Train and wait for the end.

        Args:
            bundle: its name.
            **params: options, such as `max_epochs` and `model_filename`.

        Returns:
            The task: "status" is DONE or ERROR, "details" are its last lines.
        """
        self._expect("POST", f"/train/{bundle}", json.dumps(params).encode())
        while True:
            time.sleep(0.5)
            task = json.loads(self._expect("GET", "/train/"))
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                return task

    def tail(self) -> str:
        """Return the end of the log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]

    def _expect(self, method: str, path: str, *rest: Any) -> bytes:
        status, body = self.request(method, path, *rest)
        if status != 200:
            raise LabelServerError(f"{method} {path}: status {status}, {body[:300]!r}.\n{self.tail()}")
        return body


def copy_app(python: str, folder: Path) -> Path:
    """Put MONAI Label's app for bundles into a new folder, and make the place where it looks for bundles.

    Args:
        python: the Python of MONAI Label's environment.
        folder: gets the app in `monaibundle`, which must not exist.

    Returns:
        The app's folder; bundles belong into its `model`.
    """
    command = [python, "-m", "monailabel.main", "apps", "--download", "--name", "monaibundle", "--output", str(folder)]
    subprocess.run(command, check=True, capture_output=True, env=_environment())
    (folder / "monaibundle" / "model").mkdir()
    return folder / "monaibundle"


@contextmanager
def serve(python: str, app: Path, studies: Path, bundles: Sequence[str], log: Path) -> Iterator[LabelServer]:
    """Start a server on a free port of this machine, without network, and stop it at the end.

    Args:
        python: the Python of MONAI Label's environment.
        app: see `copy_app`.
        studies: folder of NIfTI files.
        bundles: names of the folders in the app's `model` to serve.
        log: file for the output.

    Raises:
        LabelServerError: if it does not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [python, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", str(studies)]
    command += ["--conf", "models", ",".join(bundles), "--host", "127.0.0.1", "--port", str(port)]
    server = LabelServer(f"http://127.0.0.1:{port}", log)
    with log.open("wb") as output:  # a group of its own, since a training is a process of the server
        process = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=app.parent, env=_environment(), start_new_session=True
        )
    try:
        _wait(server, process)
        yield server
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait(server: LabelServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            server.info()
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabelServerError(f"The server did not start.\n{server.tail()}") from error
            time.sleep(0.5)


def _environment() -> dict[str, str]:
    """Return an environment in which no bundle is looked for on the network and nothing of this repository is seen."""
    return {**os.environ, "MONAI_ZOO_SOURCE": "local", "PYTHONPATH": ""}


def _form(fields: dict[str, tuple[str, bytes]]) -> tuple[bytes, str]:
    """Return a form's body, of (file name or "", content) by name, and its content type."""
    body = b""
    for name, (filename, content) in fields.items():
        body += f'--boundary\r\nContent-Disposition: form-data; name="{name}"'.encode()
        body += f'; filename="{filename}"'.encode() if filename else b""
        body += b"\r\n\r\n" + content + b"\r\n"
    return body + b"--boundary--\r\n", "multipart/form-data; boundary=boundary"
