"""A MONAI Label server with every bundle of the repository, exported and made small, on phantom studies.

The server is the real one, in the environment that `label/install.sh` builds: MONAI_LABEL_PYTHON names its Python.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from monai.networks.nets import UNet

from bundles.facts import FACTS_FILE, read_facts
from bundles.write import bundles_of_repository
from common.checkpoints import save_atomically, select_parts
from common.networks import UNet2d
from label.server import LabelServer, copy_app, serve
from phantom import write_acdc_phantom, write_reoriented
from release.export import export
from tests.places import REPOSITORY

# Those of volumes: MONAI Label is not offered for photographs.
BUNDLES = [bundle.name for bundle in bundles_of_repository() if not read_facts(bundle / FACTS_FILE).is_photographs]
UNTRAINED = "bundle_untrained"  # the first bundle once more, with a pre-trained encoder only
ANNOTATED, UNSEEN = ("patient001", "patient002"), "patient003"
ORIENTATIONS = ("SAR", "RPI")
WRONG_CLASSES, OTHER_NETWORK = "model_of_other_classes.pt", "model_of_another_network.pt"
OTHER_BUNDLE = "model_of_another_bundle.pt"
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
            content["n4_iterations"] = [5, 5]
        if path.stem == "train":
            content.update(TRAINING)
        path.write_text(json.dumps(content), encoding="utf-8")


def write_weights(folder: Path, num_classes: int) -> None:
    """Write files as the stages do, of untrained networks: what is loaded counts here, not how good it is."""
    torch.manual_seed(0)
    save_atomically(UNet2d(num_classes).state_dict(), folder / "model.pt")
    save_atomically(UNet2d(num_classes + 1).state_dict(), folder / WRONG_CLASSES)
    save_atomically(UNet(2, 1, num_classes, (4, 8), (2,)).state_dict(), folder / OTHER_NETWORK)
    weights = UNet2d(num_classes).state_dict()
    save_atomically(select_parts(weights, ["encoder."]), folder / "pretrained_encoder.pt")
    parts = ["encoder.", *(f"decoder.blocks.{k}." for k in range(3))]
    save_atomically(select_parts(weights, parts), folder / "pretrained_encoder_decoder.pt")


@dataclass(frozen=True)
class Place(LabelServer):
    """The running server with the folders that it works in.

    Attributes:
        root: holds them.
    """

    root: Path

    def study(self, name: str) -> Path:
        return self.root / "studies" / f"{name}.nii.gz"

    def truth(self, name: str) -> Path:
        return self.root / "phantom" / "training" / name / f"{name}_frame01_gt.nii.gz"

    def bundle(self, name: str) -> Path:
        return self.root / "monaibundle" / "model" / name

    def logged(self, message: str, known: int) -> bool:
        """Tell whether the server reports something behind the first so many characters of its log."""
        for _ in range(50):  # it answers first and writes then
            if message in self.log.read_text(encoding="utf-8")[known:]:
                return True
            time.sleep(0.1)
        return False


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    python = label_python()
    root = tmp_path_factory.mktemp("label")
    place = Place("", root / "server.log", root)

    write_acdc_phantom(root / "phantom", 3, size=(64, 72))
    (root / "studies").mkdir()
    for name in (*ANNOTATED, UNSEEN):
        shutil.copy(root / "phantom" / "training" / name / f"{name}_frame01.nii.gz", place.study(name))
    for axcodes in ORIENTATIONS:
        write_reoriented(place.study(UNSEEN), place.study(f"{UNSEEN}_{axcodes}"), axcodes)

    app = copy_app(python, root)
    for name in BUNDLES:
        export(str(REPOSITORY / name), str(root / "exported"))
        shutil.move(root / "exported" / name, place.bundle(name))
        shrink(place.bundle(name))
        write_weights(place.bundle(name) / "models", len(class_names(name)))
    for name, other in zip(BUNDLES, [*BUNDLES[1:], BUNDLES[0]], strict=True):
        shutil.copy(place.bundle(other) / "models" / "model.pt", place.bundle(name) / "models" / OTHER_BUNDLE)
    shutil.copytree(place.bundle(BUNDLES[0]), place.bundle(UNTRAINED))
    for path in (place.bundle(UNTRAINED) / "models").iterdir():
        if path.suffix in (".pt", ".ts") and path.name != "pretrained_encoder.pt":
            path.unlink()

    with serve(python, app, root / "studies", [*BUNDLES, UNTRAINED], place.log) as running:
        yield Place(running.url, running.log, root)
