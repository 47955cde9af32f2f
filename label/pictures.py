"""Draw what an annotator gets: segmentations by a MONAI Label server before and after training on saved labels.

    python -m label.pictures --dataset_dir /data/acdc --python labelenv/bin/python

The images are real; the labels that are "annotated" are those of the dataset.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import nibabel
import numpy as np
import torch

from bundles.run import REPOSITORY, commit
from common.checkpoints import content_hash
from common.data.datalists import acdc
from common.data.splits import read_split
from common.evaluation import volume_dice
from common.pictures import draw_comparison
from common.records import write_record
from release.export import export
from release.pictures import shrink_picture

from .server import LabelServer, LabelServerError, copy_app, serve

_BUNDLE, _DRAW = "bundle_acdc", (2, "c1")
_START = "pretrained_encoder.pt"
_TERMS = "ACDC (Bernard et al. 2018), CC BY-NC-SA 4.0"


def pictures(
    dataset_dir: str,
    python: str,
    output: str = str(REPOSITORY / "docs" / "pictures"),
    epochs: int = 50,
) -> None:
    """Train a released bundle on one and on two labels, as an annotator would, and draw what it finds each time.

    The bundle's own `model.pt` is asked first and then put aside, so that both trainings start from the pre-trained
    weights. Written are `annotators_<state>.png` with the same slices of the first test patient for each state, and
    `annotators.json` with the Dice of every test patient. No label of a test patient is used before that; their images
    are studies of the server, and so among those that batch-norm statistics come from.

    Args:
        dataset_dir: the ACDC folder.
        python: the Python of the environment that `install.sh` builds.
        output: the folder to write to.
        epochs: of each training; by default those that MONAI Label asks for by itself.

    Raises:
        LabelServerError: if the server does not start, or a training fails.
    """
    items = {item["id"]: item for item in acdc(dataset_dir)}
    configs = REPOSITORY / _BUNDLE / "configs"
    split = read_split(str(configs / "splits.json"), *_DRAW)
    labelled, test = split.labelled, split.test
    names = json.loads((configs / "inference.json").read_text(encoding="utf-8"))["class_names"]
    version = commit()  # before the pictures, which are part of the repository, change
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        studies = root / "studies"
        studies.mkdir()
        for name in (*labelled, *test):
            shutil.copy(items[name]["image"], studies / f"{name}.nii.gz")
        app = copy_app(python, root)
        export(str(REPOSITORY / _BUNDLE), str(root / "exported"))
        bundle = app / "model" / _BUNDLE
        shutil.move(root / "exported" / _BUNDLE, bundle)
        hashes = {name: content_hash(bundle / "models" / name) for name in (_START, "model.pt")}

        found: dict[str, dict[str, np.ndarray]] = {}
        seconds: dict[str, float] = {}
        with serve(python, app, studies, [_BUNDLE], root / "server.log") as server:
            device = server.info()["trainers"][_BUNDLE]["config"]["device"][0]
            found["released"] = _segment(server, test)
            for number in (1, 2):
                (bundle / "models" / "model.pt").unlink()
                server.save_label(labelled[number - 1], Path(items[labelled[number - 1]]["label"]))
                started = time.monotonic()
                _train(server, epochs)
                seconds[f"trained_{number}"] = round(time.monotonic() - started, 1)
                found[f"trained_{number}"] = _segment(server, test)

    truth = {name: _voxels(nibabel.load(items[name]["label"])) for name in test}
    scores = {
        state: {name: _dice(maps[name], truth[name], len(names)) for name in test} for state, maps in found.items()
    }
    titles = {
        "released": "model.pt as released (8 labelled volumes)",
        "trained_1": f"trained here on 1 label ({labelled[0]})",
        "trained_2": f"trained here on 2 labels ({', '.join(labelled)})",
    }
    for state, title in titles.items():
        name, mean = test[0], float(np.mean(list(scores[state].values())))
        score = f"Dice {scores[state][name]:.2f}, mean of {len(test)} test patients {mean:.2f}"
        path = Path(output) / f"annotators_{state}.png"
        draw_comparison(
            items[name]["image"],
            truth[name],
            found[state][name],
            names,
            f"{name}, {title}: {score}\n{_TERMS}",
            path,
        )
        shrink_picture(path, path)
    result = {
        "commit": version,
        "weights_sha256": hashes,
        "labelled": labelled,
        "epochs": epochs,
        "device": device,
        "training_seconds": seconds,
        "dice": scores,
    }
    write_record(Path(output) / "annotators.json", result)
    print(f"Wrote annotators.json and {len(titles)} pictures to {output}.")


def _segment(server: LabelServer, studies: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: _voxels(server.segment(_BUNDLE, name)) for name in studies}


def _train(server: LabelServer, epochs: int) -> None:
    task: Mapping[str, Any] = server.train(_BUNDLE, max_epochs=epochs, model_filename=_START)
    if task["status"] != "DONE":
        raise LabelServerError("The training failed:\n" + "\n".join(task["details"]))


def _voxels(image: nibabel.Nifti1Image) -> np.ndarray:
    return np.asanyarray(image.dataobj).astype(np.uint8)


def _dice(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> float:
    """Return the mean Dice of the structures in a volume, background left out."""
    found, true = (torch.as_tensor(values.astype(np.int64)) for values in (prediction, truth))
    return float(volume_dice(found, true, num_classes)[1:].nanmean())


if __name__ == "__main__":
    fire.Fire(pictures)
