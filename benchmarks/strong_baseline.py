"""A strong supervised network beside ours: the same labelled volumes and test, no pre-training, no unlabelled data.

The network is MONAI's DynUNet as nnU-Net would plan it for 2-D slices, at half the width, with deep supervision. It is
trained as nnU-Net does (Isensee et al., Nature Methods 2021): Dice with cross-entropy, SGD with Nesterov momentum 0.99
and a polynomial decay, its augmentation with MONAI's transforms, mirrored slices too. Preprocessing, evaluation and the
largest component of each structure are those of the recommended recipe.

It is trained for as much computing as one run of the recommended recipe takes ("matched": both steps are timed in turn
first; the recipe's pre-training is not counted), and at its own best length: of the multiples in `LENGTHS`, the one
with the best Dice on the patients that are in none of the paper's lists, with the first draw. Every training resumes,
and what is finished is kept in the folder of the runs.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import decollate_batch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from monai.networks.nets import DynUNet
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandScaleIntensityFixedMeand,
    RandSimulateLowResolutiond,
)
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from bundles.development import development
from bundles.run import REPOSITORY, load_config, run_config
from common.data.splits import draws_of
from common.engines.trainer import epoch_length
from common.records import read_record, write_record
from phantom import write_acdc_phantom, write_phantom_splits
from release.results import parse_result

from . import harness, step
from .time_to_model import BUNDLE

LENGTHS = (0.5, 1.0, 2.0)
NUMBERS = (1, 8)
NUM_DRAWS = 3
# Half of nnU-Net's. With those of its default the time of one run of the recommended recipe on a CPU is enough for 195
# steps only (one core, 2026-11-28).
FEATURES = (16, 32, 64, 128, 256, 256)
_EPOCHS = 20  # after each the state is kept and the rate lowered
_RESULTS = REPOSITORY / "experiments" / "results" / "acdc" / "reduced"
_HERE = "benchmarks.strong_baseline"


def network(num_classes: int, features: Sequence[int] = FEATURES) -> DynUNet:
    """Make the network: (B, 1, H, W) to (B, num_classes, H, W), in training to (B, heads, num_classes, H, W).

    Args:
        num_classes: background included.
        features: of each level; H and W must be divisible by 2 ** (levels - 1).
    """
    down = [2] * (len(features) - 1)
    return DynUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=num_classes,
        kernel_size=[3] * len(features),
        strides=[1, *down],
        upsample_kernel_size=down,
        filters=list(features),
        norm_name="INSTANCE",
        deep_supervision=True,
        deep_supr_num=len(features) - 2,
    )


class DeepSupervision:
    """Dice with cross-entropy of every head, halved from one to the next coarser one."""

    def __init__(self) -> None:
        self.loss = DeepSupervisionLoss(DiceCELoss(softmax=True, include_background=False, batch=True), "exp")

    def __call__(self, heads: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of heads (B, heads, K, H, W) against one-hot targets (B, K, H, W)."""
        return self.loss(list(heads.unbind(1)), targets)


class Augmentation:
    """The changes of nnU-Net's 2-D training, each slice by itself, and one-hot labels.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        both, image = ["image", "label"], "image"
        moved = {"keys": both, "prob": 0.2, "mode": ["bilinear", "nearest"], "padding_mode": "zeros"}
        self.transform = Compose(
            [
                RandAffined(**moved, rotate_range=math.pi),
                RandAffined(**moved, scale_range=[(-0.3, 0.4)] * 2),
                RandGaussianNoised(image, prob=0.1, std=0.1),
                RandGaussianSmoothd(image, prob=0.2, sigma_x=(0.5, 1.0), sigma_y=(0.5, 1.0)),
                RandScaleIntensityd(image, factors=0.25, prob=0.15),
                RandScaleIntensityFixedMeand(image, factors=0.25, prob=0.15, preserve_range=True),
                RandSimulateLowResolutiond(image, prob=0.25, upsample_mode="bilinear", zoom_range=(0.5, 1.0)),
                RandAdjustContrastd(image, prob=0.1, gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
                RandAdjustContrastd(image, prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
                RandFlipd(both, prob=0.5, spatial_axis=0),
                RandFlipd(both, prob=0.5, spatial_axis=1),
            ]
        )

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return images (B, 1, H, W) and labels (B, K, H, W) of images and labels (B, H, W)."""
        self.transform.set_random_state(int(torch.randint(2**31, (), generator=generator)))
        slices = [self.transform(each) for each in decollate_batch({"image": images, "label": labels[:, None]})]
        changed = torch.stack([each["label"].as_tensor()[0] for each in slices])
        one_hot = F.one_hot(changed.long(), self.num_classes).movedim(-1, 1).float()
        return torch.stack([each["image"].as_tensor() for each in slices]), one_hot


def measure(
    dataset_dir: str | None = None,
    runs_dir: str | None = None,
    settings: Mapping[str, Any] | None = None,
    lengths: Sequence[float] = LENGTHS,
    num_draws: int = NUM_DRAWS,
    features: Sequence[int] = FEATURES,
) -> dict[str, Any]:
    """Train and test the network for each number of labelled volumes and each draw.

    Args:
        dataset_dir: folder of ACDC; None makes phantoms, on which Dice says nothing.
        runs_dir: where trainings are kept and resumed; None for a temporary folder.
        settings: values of `train.json` and `evaluate.json` by id, to shrink them.
        lengths: that are tried, in units of the matched one; 1 is among them.
        num_draws: first draws that are tested.
        features: see `network`.

    Returns:
        Result with a row for each draw and length.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = dict(settings or {})
        if dataset_dir is None:
            dataset_dir = f"{folder}/data"
            given["split_path"] = str(Path(folder, "splits.json"))
            ids = write_acdc_phantom(Path(dataset_dir), 9)
            write_phantom_splits(Path(given["split_path"]), ids[:-2], num_pretrain=4)
        runs = Runs(Path(runs_dir or f"{folder}/runs"), {**given, "dataset_dir": dataset_dir}, features)
        return harness.result("strong_baseline", *runs.rows(lengths, num_draws))


class Runs:
    """Trainings in a folder, each made when it is asked for.

    Args:
        folder: of them.
        settings: see `measure`, with the folder of the data.
        features: see `network`.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], features: Sequence[int]) -> None:
        self.folder = folder
        self.settings = settings
        self.features = list(features)
        self.network_def = {
            "_target_": f"{_HERE}.network",
            "num_classes": "$len(@class_names)",
            "features": self.features,
        }
        folder.mkdir(parents=True, exist_ok=True)

    def rows(self, lengths: Sequence[float], num_draws: int) -> tuple[list[dict[str, Any]], list[Any], list[str]]:
        """Run what is missing; return the rows, no targets, and the notes."""
        steps = self._matched_steps()
        split_path = load_config(BUNDLE, "train", **self.settings).get_parsed_content("split_path")
        rows, chosen = [], []
        for number in NUMBERS:
            draws = draws_of(split_path)[number][:num_draws]
            tried = {
                length: self._development_dice(number, draws[0], round(steps * length))
                for length in tqdm(lengths, desc=f"lengths with {number} labelled")
            }
            best = max(tried, key=lambda length: tried[length])
            dice = ", ".join(f"{value:.3f} ({length:g} x)" for length, value in tried.items())
            beyond = ", so that still longer ones may be better" if best == max(lengths) else ""
            chosen.append(f"{number} labelled: {dice}{beyond}")
            for draw in tqdm(draws, desc=f"draws with {number} labelled"):
                for kind, length in {"matched": 1.0, "own best": best}.items():
                    test = self._test_dice(number, draw, round(steps * length))
                    row = {"labelled": number, "draw": draw, "length": kind, "steps": round(steps * length)}
                    rows.append({**row, "Dice": test, **self._ours(number, draw)})
        notes = [
            f"{steps} steps of {recipe()['batch_size']} slices take as long as one run of the recommended "
            "recipe, pre-training not counted. Dice of the lengths tried for the best, on the development patients: "
            f"{'; '.join(chosen)}.",
            "The columns of ours are those of the experiments' results (reduced schedule, last checkpoint, recomputed "
            "statistics), where there are such.",
        ]
        return rows, [], notes

    def _development_dice(self, number: int, draw: str, steps: int) -> float:
        items = development(load_config(BUNDLE, "evaluate", **self.settings))
        return self._dice(number, draw, steps, "development", {"dataset#data": items, "overlap": None})

    def _test_dice(self, number: int, draw: str, steps: int) -> float:
        return self._dice(number, draw, steps, "test", {"subset": "test"})

    def _dice(self, number: int, draw: str, steps: int, name: str, subset: Mapping[str, Any]) -> float:
        """Evaluate the network of one training, unless that is done."""
        run = self.folder / f"{number}_{draw}_{steps}"
        summary = run / name / "evaluation.json"
        if not summary.is_file():
            settings = {**self.settings, "num_labelled": number, "draw": draw, "network_def": self.network_def}
            if not (run / "finished.json").is_file():
                run_config(BUNDLE, "train", quiet=True, **self._training(settings, run, steps))
                write_record(run / "finished.json", {"steps": steps})
            checkpoint, output = run / "model.pt", run / name
            evaluated = {**settings, "checkpoint": checkpoint, "output_dir": output, "pictures": False, **subset}
            run_config(BUNDLE, "evaluate", quiet=True, **evaluated)
        return float(json.loads(summary.read_text(encoding="utf-8"))["mean_dice"]["mean"])

    def _training(self, settings: Mapping[str, Any], run: Path, steps: int) -> dict[str, Any]:
        """Return what is overridden in `train.json`."""
        decay = {"_target_": "torch.optim.lr_scheduler.PolynomialLR", "optimizer": "@optimizer", "power": 0.9}
        decay["total_iters"] = "$@train#trainer#max_epochs"
        handlers = load_config(BUNDLE, "train")["train#handlers"]
        place = {handler["_target_"].rsplit(".", 1)[-1]: number for number, handler in enumerate(handlers)}
        own_decay = {"_target_": "LrScheduleHandler", "lr_scheduler": "@decay", "print_lr": False}
        return {
            **settings,
            "output_dir": run,
            "ckpt_dir": run,
            "resume": True,
            "initialisation": "random",
            "self_training_rounds": 0,
            "copy_paste": 0.0,
            "weight_averaging": 0.0,
            "batch_norm_statistics": "running_average",  # there is no batch norm
            "steps": steps,
            "steps_per_epoch": epoch_length(steps, max(1, steps // _EPOCHS)),
            "validate#dataset#data": [],
            "optimizer": "$torch.optim.SGD(@network.parameters(), 0.01, 0.99, weight_decay=3e-5, nesterov=True)",
            "decay": decay,
            f"train#handlers#{place['LearningRateDecay']}": own_decay,
            f"train#handlers#{place['Resume']}#objects#decay": "@decay",
            "train#views": {"_target_": f"{_HERE}.Augmentation", "num_classes": "$len(@class_names)"},
            "train#loss": {"_target_": f"{_HERE}.DeepSupervision"},
        }

    def _matched_steps(self) -> int:
        """Return the steps that take as long as a run of the recommended recipe; measured once in a folder."""
        path = self.folder / "matched.json"
        if not path.is_file():
            write_record(path, {"steps": matched_steps(self.features)})
        return int(read_record(path, "delete it to have it measured anew")["steps"])

    @staticmethod
    def _ours(number: int, draw: str) -> dict[str, float | None]:
        """Return the Dice of the recommended recipe from the pre-trained encoder and from random weights."""
        found = {}
        for start in ("GD", "random"):
            path = _RESULTS / f"{start}+recommended_{number}_{draw}_seed0.json"
            last = (
                parse_result(path.read_bytes(), str(path))["evaluations"]["last, recomputed"]
                if path.is_file()
                else None
            )
            found[f"ours, {start}"] = last and last["mean_dice"]["mean"]
        return found


def recipe() -> dict[str, int]:
    """Return the lengths of the recommended recipe, the defaults of `train.json`."""
    config = load_config(BUNDLE, "train")
    return {name: int(config[name]) for name in ("steps", "batch_size", "self_training_rounds")}


def matched_steps(features: Sequence[int], side: int = step.SIDE, repetitions: int = 5) -> int:
    """Time a step of both in turn and return how many of this network's take as long as the recommended recipe.

    Args:
        features: see `network`.
        side: H and W of the slices, which are noise.
        repetitions: timed steps of each.
    """
    own_recipe = recipe()
    batch_size = own_recipe["batch_size"]
    device = harness.default_device()
    slices = step.random_slices(True, side, device)
    ours = step.make_trainer(step.SELF_TRAINING, slices, batch_size)
    own = network(step.NUM_CLASSES, features).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(own.parameters(), 0.01, 0.99, nesterov=True)
    loss, augmentation, inferer = DeepSupervision(), Augmentation(step.NUM_CLASSES), ours.inferer
    generator = torch.Generator().manual_seed(0)
    assert slices.labels is not None
    images, labels = slices.images[:batch_size], slices.labels[:batch_size]

    def train() -> None:
        augmented, targets = augmentation(images, labels, generator)
        optimizer.zero_grad(set_to_none=True)
        loss(inferer(augmented, own), targets).backward()
        optimizer.step()

    def label() -> None:
        with torch.inference_mode():
            inferer(images, ours.network)

    contenders = {"ours": step.resumable(ours, 1), "labelling": label, "own": train}
    seconds = {
        name: harness.spread(values)["median"]
        for name, values in harness.time_in_turn(contenders, repetitions, device=device).items()
    }
    step.finish(ours)
    labelled = own_recipe["self_training_rounds"] * len(slices) / batch_size
    return max(1, round((own_recipe["steps"] * seconds["ours"] + labelled * seconds["labelling"]) / seconds["own"]))
