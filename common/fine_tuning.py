"""What fine-tuning is made of where that depends on its options: self-training, averaged weights, validation."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.transforms import Compose
from torch import Tensor, nn

from . import checkpoints
from .data import content, leaks
from .data.cache import CachedTransformd
from .data.content import Content
from .data.loader import BatchLoader, ConcatLoader, PseudoLabelledLoader
from .data.pseudo_labelled import PseudoLabelled
from .data.samplers import UniformSampler
from .data.slices import Slices
from .data.split_volumes import SplitVolumes
from .data.volumes import VolumeDataset
from .engines.averaging import WeightAveraging
from .engines.batch_norm import BatchNormStatistics
from .engines.checkpointing import SaveBest, SaveWeights
from .lineage import Lineage
from .transforms.copy_paste import CopyPaste

logger = logging.getLogger(__name__)

Collect = Callable[[VolumeDataset], Slices]
"""Takes volumes apart into slices: `Slices.from_volumes` with all but the volumes given."""

_KEPT = ("last", "best")
_OTHER_SEED = 1000  # added to the seed, so that neither these batches nor those of the next runs are drawn alike


def averaging(network: nn.Module, decay: float) -> WeightAveraging | None:
    """Make the moving average of the weights, None for the decay 0.

    Raises:
        ValueError: if the decay is not from 0 to 1, 1 excluded.
    """
    return WeightAveraging(network, decay) if decay else None


def evaluated_network(network: nn.Module, averaging: WeightAveraging | None) -> nn.Module:
    """Return the network that is validated and saved."""
    return network if averaging is None else averaging.ema_model


def optimizer(
    network: nn.Module,
    learning_rate: float,
    pretrained_rate: float = 1.0,
    initialisation: str = "random",
    pretrained_dir: str | os.PathLike[str] = "",
) -> torch.optim.Adam:
    """Make the optimiser, with a rate of its own for what the network has from pre-training.

    Args:
        network: whose parameters are updated.
        learning_rate: of all other parts.
        pretrained_rate: the rate of the pre-trained parts, as a share of the other; 1 makes no difference between
            them, 0 keeps the pre-trained parameters as they are.
        initialisation: decides with `pretrained_dir` what is pre-trained, see `checkpoints.initialise`.
        pretrained_dir: the folder of the pre-trained file.

    Raises:
        ValueError: if the share is not from 0 to 1, or below 1 with nothing pre-trained.
        CheckpointError: if the pre-trained file cannot be read.
    """
    if not 0 <= pretrained_rate <= 1:
        raise ValueError(f"pretrained_rate must be from 0 to 1, got {pretrained_rate!r}; 1 is the rate of all parts")
    if pretrained_rate == 1:
        return torch.optim.Adam(network.parameters(), lr=learning_rate)
    parts = tuple(checkpoints.pretrained_parts(initialisation, pretrained_dir))
    if not parts:
        raise ValueError(
            f"pretrained_rate must be 1 for initialisation {initialisation!r}, which takes nothing from pre-training, "
            f"got {pretrained_rate!r}; leave it out or choose another initialisation"
        )
    body = [value for name, value in network.named_parameters() if name.startswith(parts)]
    others = [value for name, value in network.named_parameters() if not name.startswith(parts)]
    rates = (learning_rate, learning_rate * pretrained_rate)
    groups = [{"params": values, "lr": rate} for values, rate in zip((others, body), rates, strict=True)]
    return torch.optim.Adam(groups, lr=learning_rate)


def unlabelled_slices(
    split: SplitVolumes,
    statistics: str,
    self_training_rounds: int,
    items: Sequence[dict[str, str]],
    labelled: Slices,
    image: CachedTransformd,
    collect: Collect,
    num_workers: int | None = None,
) -> Slices:
    """Collect the slices of the unlabelled volumes, for batch-norm statistics and self-training.

    Args:
        split: lists the volumes, see `SplitVolumes.without_labels`. Unless there is a dataset folder, those that
            cannot be used are left out.
        statistics: see `BatchNormStatistics`.
        self_training_rounds: see `SelfTraining`.
        items: the labelled volumes.
        labelled: their slices, which are returned if nothing else is there or wanted.
        image: the preprocessing of the unlabelled volumes.
        collect: takes volumes apart.
        num_workers: see `VolumeDataset`.
    """
    wanted = statistics != "running_average" or self_training_rounds > 0
    unlabelled = split.without_labels(items) if wanted else []
    if not unlabelled:
        return labelled
    return collect(VolumeDataset(unlabelled, Compose([image]), num_workers, lazy=True, required=split.has_folder))


def pseudo_labelled(unlabelled: Slices, labelled: Slices, self_training_rounds: int) -> PseudoLabelled | None:
    """Make the slices that self-training labels; None if there is none, or no volume besides the labelled ones.

    Args:
        unlabelled: see `unlabelled_slices`.
        labelled: see there.
        self_training_rounds: see `SelfTraining`.
    """
    if not self_training_rounds:
        return None
    pseudo = None if unlabelled is labelled else PseudoLabelled(unlabelled, labelled)
    if pseudo is None or pseudo.num_predicted == 0:
        logger.warning(
            "There are no unlabelled volumes, so training goes without self-training; put further images beside the "
            "labelled ones, or set self_training_rounds to 0."
        )
        return None
    return pseudo


def batches(
    slices: Slices,
    pseudo_labelled: PseudoLabelled | None,
    views: Callable[..., tuple[Tensor, Any]],
    batch_size: int,
    steps_per_epoch: int,
    seed: int,
    copy_paste: float = 0.0,
) -> BatchLoader | PseudoLabelledLoader:
    """Make the batches: of labelled slices, of which half (rounded down) give way to pseudo-labelled ones.

    Args:
        slices: the labelled slices.
        pseudo_labelled: see `pseudo_labelled`.
        views: see `BatchLoader`.
        batch_size: B, slices of a batch.
        steps_per_epoch: see `BatchLoader`.
        seed: see `BatchLoader`.
        copy_paste: share of the batches with both kinds that exchange parts of slices, see `CopyPaste`.

    Raises:
        ValueError: if `steps_per_epoch` is not positive, `batch_size` is below 1 or, with pseudo-labelled slices, 2, or
            `copy_paste` is not from 0 to 1.
    """

    def loader(slices: Slices, size: int, seed: int = seed) -> BatchLoader:
        return BatchLoader(slices, UniformSampler(slices, size), views, steps_per_epoch, seed)

    pasting = CopyPaste(copy_paste)
    if pseudo_labelled is None:
        return loader(slices, batch_size)
    if batch_size < 2:
        raise ValueError(
            f"batch_size must be at least 2 with self-training, which labels half of it, got {batch_size!r}."
        )
    half = batch_size // 2
    first, second = loader(slices, batch_size - half), loader(pseudo_labelled, half, seed + _OTHER_SEED)
    mixed = ConcatLoader(first, second, pasting)
    return PseudoLabelledLoader(loader(slices, batch_size), mixed, pseudo_labelled)


def planned_steps(steps: int, self_training_rounds: int, learning_rate_decay: str) -> int | None:
    """Return the length of a run if what it does at a step depends on it, so that it cannot be made longer; else None.

    Args:
        steps: length of the run.
        self_training_rounds: see `SelfTraining`.
        learning_rate_decay: see `LearningRateDecay`.
    """
    return None if not self_training_rounds and learning_rate_decay == "none" else steps


def volumes(
    labelled: Slices, validation: VolumeDataset, unlabelled: Slices, pseudo_labelled: PseudoLabelled | None
) -> dict[str, list[Content]]:
    """Name the volumes of each subset, for the lineage.

    Args:
        labelled: what is trained on.
        validation: what chooses among the weights.
        unlabelled: see `unlabelled_slices`; none are named where the labelled slices serve.
        pseudo_labelled: see `pseudo_labelled`.
    """
    return {
        leaks.LABELLED: labelled.content,
        leaks.VALIDATION: content.of_volumes(validation),
        leaks.STATISTICS: [] if unlabelled is labelled else unlabelled.content,
        leaks.SELF_TRAINING: [] if pseudo_labelled is None else pseudo_labelled.predicted_content,
    }


class FineTunedWeights:
    """The files of weights that fine-tuning leaves; see `SaveFineTuned` for the handler that has them written.

    With validation volumes `output_dir/last.pt` has the weights of the last validation, and `ckpt_dir/model.pt` these
    or the best ones (see `SaveBest`); `model_running_average.pt` and `last_running_average.pt` in `output_dir` the same
    with the batch-norm statistics that training leaves. Without any, `model.pt` has the last weights. The network is
    evaluated with the other statistics, see `BatchNormStatistics`.

    Args:
        network: what is validated.
        batch_norm: gives it its statistics for that time.
        validation: the validation volumes.
        validator: evaluates the network on them.
        ckpt_dir: see above.
        output_dir: see above.
        lineage: what the weights are made from.
        kept: which weights `model.pt` has, "last" or "best".

    Raises:
        ValueError: if `kept` is neither.
    """

    def __init__(
        self,
        network: nn.Module,
        batch_norm: BatchNormStatistics,
        validation: VolumeDataset,
        validator: Engine,
        ckpt_dir: str,
        output_dir: str,
        lineage: Lineage,
        kept: str = "best",
    ) -> None:
        if kept not in _KEPT:
            raise ValueError(f"kept_weights must be one of {_KEPT}, got {kept!r}; leave it out for the last ones.")

        def saver(network: Any, folder: str, name: str) -> SaveWeights:
            return SaveWeights(network, f"{folder}/{name}.pt", lineage=lineage)

        self.batch_norm = batch_norm
        self.model = saver(network, ckpt_dir, "model")
        self.last = [saver(network, output_dir, "last"), saver(self.batch_norm, output_dir, "last_running_average")]
        self.best = SaveBest([self.model, saver(self.batch_norm, output_dir, "model_running_average")])
        self.keeps_best = kept == "best"
        self.validator = validator
        self.is_validated = len(validation) > 0

    @property
    def paths(self) -> list[str]:
        """The files that a run leaves."""
        savers = [*self.best.savers, *self.last] if self.is_validated else [self.model]
        return [str(saver.path) for saver in savers]

    def warn_of_others(self) -> None:
        """Say that a TorchScript of the network, as releases have it, stays what it is."""
        torchscript = self.model.path.with_suffix(".ts")
        if torchscript.is_file():
            logger.warning(
                f"{torchscript} keeps the weights of before, and MONAI Deploy prefers it to {self.model.path.name}: "
                "after the training write it again, with `python -m monai.bundle ckpt_export --config_file "
                "configs/inference.json`, or delete it."
            )

    def attach(self) -> None:
        """Save whenever the validator has completed a validation."""
        kept: list[SaveBest | SaveWeights] = [self.best] if self.keeps_best else [*self.best.savers]
        handlers: list[SaveBest | SaveWeights | BatchNormStatistics] = [*kept, *self.last, self.batch_norm]
        for handler in handlers:  # the last one puts the running averages back
            handler.attach(self.validator)

    def state_dict(self) -> dict[str, Any]:
        """Return what is known of the best weights."""
        return self.best.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take a state back."""
        self.best.load_state_dict(state_dict)


class SaveFineTuned:
    """Handler of the trainer: save at every validation or, without validation volumes, at the end of the run.

    The evaluator has no handler of its own that does, so that whoever only evaluates with it, as a federated client
    does with the weights of others, leaves the files as they are.

    Args:
        weights: the files of the run.
    """

    def __init__(self, weights: FineTunedWeights) -> None:
        self.weights = weights

    def attach(self, engine: Engine) -> None:
        """Save from now on."""
        self.weights.warn_of_others()
        if self.weights.is_validated:
            self.weights.attach()
        else:
            model = self.weights.model
            SaveWeights(model.network, str(model.path), None, self.weights.batch_norm, model.lineage).attach(engine)
