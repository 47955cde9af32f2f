"""A MONAI Label server with every bundle of the repository, exported and made small, on phantom studies.

The server is the real one, in the environment that `label/install.sh` builds: MONAI_LABEL_PYTHON names its Python.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from common.checkpoints import save_atomically, select_parts
from common.networks import UNet2d
from experiments.phantom import write_acdc_phantom, write_reoriented
from release.export import export
from tests.conftest import REPOSITORY

BUNDLES = sorted(path.parents[1].name for path in REPOSITORY.glob("bundle_*/configs/inference.json"))
UNTRAINED = "bundle_untrained"  # the first bundle once more, with pre-trained weights only
ANNOTATED, UNSEEN = ("patient001", "patient002"), "patient003"
ORIENTATIONS = ("SAR", "RPI")
WRONG_CLASSES = "model_of_other_classes.pt"
GEOMETRY = {"image_size": [64, 64], "spacing_mm": 2.4}
TRAINING = {"batch_size": 8, "steps_per_epoch": 10}


def label_python() -> str:
    """Return the Python of MONAI Label's environment."""
    python = os.environ.get("MONAI_LABEL_PYTHON", "")
    if not python:
        pytest.skip("MONAI_LABEL_PYTHON does not name the Python of an environment made by label/install.sh")
    return python


def class_names(bundle: str) -> list[str]:
    """Return the names of a bundle's classes, the background's first."""
    return json.loads((REPOSITORY / bundle / "configs" / "inference.json").read_text(encoding="utf-8"))["class_names"]


def shrink(folder: Path) -> None:
    """Make a bundle's configs quick: small images, an N4 that hardly iterates, small batches."""
    for path in (folder / "configs").glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if "preprocessing" in content:
            content.update({key: value for key, value in GEOMETRY.items() if key in content})
            for transform in content["preprocessing"]["transforms"]:
                if transform["_target_"].endswith("N4BiasFieldCorrectiond"):
                    transform["iterations"] = [5, 5]
        if path.stem == "train":
            content.update(TRAINING)
        path.write_text(json.dumps(content), encoding="utf-8")


def write_weights(folder: Path, num_classes: int) -> None:
    """Write files as the stages do, of untrained networks: what is loaded counts here, not how good it is."""
    torch.manual_seed(0)
    save_atomically(UNet2d(num_classes).state_dict(), folder / "model.pt")
    save_atomically(UNet2d(num_classes + 1).state_dict(), folder / WRONG_CLASSES)
    weights = UNet2d(num_classes).state_dict()
    save_atomically(select_parts(weights, ["encoder."]), folder / "pretrained_encoder.pt")
    parts = ["encoder.", *(f"decoder.blocks.{k}." for k in range(3))]
    save_atomically(select_parts(weights, parts), folder / "pretrained_encoder_decoder.pt")


@dataclass
class Server:
    """The running server and the folders that it works in."""

    root: Path
    url: str
    log: Path

    @property
    def studies(self) -> Path:
        return self.root / "studies"

    def study(self, name: str) -> Path:
        return self.studies / f"{name}.nii.gz"

    def truth(self, name: str) -> Path:
        return self.root / "phantom" / "training" / name / f"{name}_frame01_gt.nii.gz"

    def bundle(self, name: str) -> Path:
        return self.root / "app" / "model" / name

    def request(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        request = urllib.request.Request(
            self.url + path, body, {"Content-Type": content_type} if body else {}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def form(self, fields: dict[str, tuple[str, bytes]]) -> tuple[bytes, str]:
        """Return a form's body, of (file name or "", content) by name, and its content type."""
        body = b""
        for name, (filename, content) in fields.items():
            body += f'--boundary\r\nContent-Disposition: form-data; name="{name}"'.encode()
            body += f'; filename="{filename}"'.encode() if filename else b""
            body += b"\r\n\r\n" + content + b"\r\n"
        return body + b"--boundary--\r\n", "multipart/form-data; boundary=boundary"

    def logged(self, message: str, known: int) -> bool:
        """Tell whether the server reports something behind the first so many characters of its log."""
        for _ in range(50):  # it answers first and writes then
            if message in self.log.read_text(encoding="utf-8")[known:]:
                return True
            time.sleep(0.1)
        return False

    def info(self) -> dict[str, Any]:
        status, body = self.request("GET", "/info/")
        assert status == 200, body
        return json.loads(body)

    def infer(self, bundle: str, study: str, **params: Any) -> tuple[int, bytes]:
        """Ask for a segmentation; the answer is a NIfTI file."""
        form = self.form({"params": ("", json.dumps(params).encode())})
        return self.request("POST", f"/infer/{bundle}?image={study}&output=image", *form)

    def segment(self, bundle: str, study: str) -> nibabel.Nifti1Image:
        status, body = self.infer(bundle, study)
        assert status == 200, self.log.read_text(encoding="utf-8")[-3000:]
        path = self.root / "answer.nii.gz"
        path.write_bytes(body)
        image = nibabel.load(path)
        return nibabel.Nifti1Image(np.asanyarray(image.dataobj), image.affine)

    def save_label(self, study: str, label: Path) -> None:
        """Save a label as an annotator's client does."""
        status, body = self.request(
            "PUT",
            f"/datastore/label?image={study}&tag=final",
            *self.form({"label": (label.name, label.read_bytes())}),
        )
        assert status == 200, body

    def train(self, bundle: str, **params: Any) -> dict[str, Any]:
        """Train and wait for the end; return the task, of which "status" is DONE or ERROR."""
        status, body = self.request("POST", f"/train/{bundle}", json.dumps(params).encode())
        assert status == 200, body
        while True:
            time.sleep(0.5)
            task = json.loads(self.request("GET", "/train/")[1])
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                return task


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    python = label_python()
    port = free_port()
    root = tmp_path_factory.mktemp("label")
    server = Server(root, f"http://127.0.0.1:{port}", root / "server.log")

    write_acdc_phantom(root / "phantom", 3, size=(64, 72))
    server.studies.mkdir()
    for name in (*ANNOTATED, UNSEEN):
        shutil.copy(root / "phantom" / "training" / name / f"{name}_frame01.nii.gz", server.study(name))
    for axcodes in ORIENTATIONS:
        write_reoriented(server.study(UNSEEN), server.study(f"{UNSEEN}_{axcodes}"), axcodes)

    environment = {**os.environ, "MONAI_ZOO_SOURCE": "local", "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    command = [python, "-m", "monailabel.main"]
    download = [*command, "apps", "--download", "--name", "monaibundle", "--output", str(root / "apps")]
    subprocess.run(download, check=True, capture_output=True, cwd=root, env=environment)
    (root / "apps" / "monaibundle").rename(root / "app")
    for name in BUNDLES:
        export(str(REPOSITORY / name), str(root / "exported"))
        (root / "app" / "model").mkdir(exist_ok=True)
        shutil.move(root / "exported" / name, server.bundle(name))
        shrink(server.bundle(name))
        write_weights(server.bundle(name) / "models", len(class_names(name)))
    shutil.copytree(server.bundle(BUNDLES[0]), server.bundle(UNTRAINED))
    for name in ("model.pt", WRONG_CLASSES):
        (server.bundle(UNTRAINED) / "models" / name).unlink()

    command += ["start_server", "--app", str(root / "app"), "--studies", str(server.studies)]
    command += ["--conf", "models", ",".join([*BUNDLES, UNTRAINED]), "--host", "127.0.0.1", "--port", str(port)]
    with server.log.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=root, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                server.info()
                break
            except (urllib.error.URLError, ConnectionError):
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"the server did not start:\n{server.log.read_text(encoding='utf-8')[-3000:]}")
                time.sleep(0.5)
        yield server
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
