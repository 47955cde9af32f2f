"""What fine-tuning is made of where that depends on its options: a teacher, averaged weights, validation volumes."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ignite.engine import Engine
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import Tensor, nn

from .checkpoints import load_model
from .data import content, leaks
from .data.cache import CachedTransformd
from .data.content import Content
from .data.loader import BatchLoader, ConcatLoader
from .data.samplers import UniformSampler
from .data.slices import Slices
from .data.split_volumes import SplitVolumes
from .data.volumes import VolumeDataset
from .engines.averaging import WeightAveraging
from .engines.batch_norm import BatchNormStatistics
from .engines.checkpointing import SaveBest, SaveWeights
from .lineage import Lineage
from .transforms import PredictLabeld

Collect = Callable[[VolumeDataset], Slices]
"""Takes volumes apart into slices: `Slices.from_volumes` with all but the volumes given."""

_TEACHER_SEED = 1000  # added to the seed, so that neither these batches nor those of the next runs are drawn alike


def averaging(network: nn.Module, decay: float) -> WeightAveraging | None:
    """Make the moving average of the weights, None for the decay 0.

    Raises:
        ValueError: if the decay is not from 0 to 1, 1 excluded.
    """
    return WeightAveraging(network, decay) if decay else None


def evaluated_network(network: nn.Module, averaging: WeightAveraging | None) -> nn.Module:
    """Return the network that is validated and saved."""
    return network if averaging is None else averaging.ema_model


def pseudo_labelled(
    teacher: str | os.PathLike[str],
    network: nn.Module,
    split: SplitVolumes,
    image: CachedTransformd,
    inferer: Inferer,
    collect: Collect,
) -> Slices | None:
    """Let a trained network label the unlabelled volumes of a split, see `PredictLabeld`.

    Args:
        teacher: its weights; "" for none.
        network: one of the same kind, where the teacher is to be; it stays as it is.
        split: lists the volumes; asked only if there is a teacher.
        image: their preprocessing.
        inferer: runs the network on a volume, slice by slice.
        collect: takes volumes apart.

    Returns:
        Their slices with the predicted labels; None without a teacher.

    Raises:
        CheckpointError: if the weights cannot be read or are of another network.
    """
    if not teacher:
        return None
    predicted = Compose([image, PredictLabeld("image", load_model(copy.deepcopy(network), teacher), inferer)])
    return collect(VolumeDataset(split.unlabelled(), predicted, lazy=True))


def batches(
    slices: Slices,
    pseudo_labelled: Slices | None,
    views: Callable[..., tuple[Tensor, Any]],
    batch_size: int,
    steps_per_epoch: int,
    seed: int,
) -> BatchLoader | ConcatLoader:
    """Make the batches: of labelled slices, of which half (rounded down) give way to pseudo-labelled ones if there are.

    Args:
        slices: the labelled slices.
        pseudo_labelled: see `pseudo_labelled`.
        views: see `BatchLoader`.
        batch_size: B, slices of a batch.
        steps_per_epoch: see `BatchLoader`.
        seed: see `BatchLoader`.

    Raises:
        ValueError: if `steps_per_epoch` is not positive, or `batch_size` is below 1 or, with pseudo-labelled slices, 2.
    """
    if pseudo_labelled is not None and batch_size < 2:
        raise ValueError(f"batch_size must be at least 2 with a teacher, who labels half of it, got {batch_size!r}.")
    second = batch_size // 2 if pseudo_labelled is not None else 0
    first = BatchLoader(slices, UniformSampler(slices, batch_size - second), views, steps_per_epoch, seed)
    if pseudo_labelled is None:
        return first
    sampler = UniformSampler(pseudo_labelled, second)
    other = BatchLoader(pseudo_labelled, sampler, views, steps_per_epoch, seed + _TEACHER_SEED)
    return ConcatLoader(first, other)


def statistics_slices(
    split: SplitVolumes,
    statistics: str,
    items: Sequence[dict[str, str]],
    labelled: Slices,
    image: CachedTransformd,
    collect: Collect,
    num_workers: int | None = None,
) -> Slices:
    """Collect the slices that batch-norm statistics are recomputed on: of unlabelled volumes, if there are any.

    Args:
        split: lists the volumes, see `SplitVolumes.for_statistics`. Unless there is a dataset folder, those that
            cannot be used are left out.
        statistics: see `BatchNormStatistics`.
        items: the labelled volumes.
        labelled: their slices, which serve for the statistics as well if there is nothing else.
        image: the preprocessing of the unlabelled volumes.
        collect: takes volumes apart.
        num_workers: see `VolumeDataset`.
    """
    unlabelled = split.for_statistics(statistics, items)
    if not unlabelled:
        return labelled
    return collect(VolumeDataset(unlabelled, Compose([image]), num_workers, lazy=True, required=split.has_folder))


def volumes(
    labelled: Slices, validation: VolumeDataset, statistics: Slices, pseudo_labelled: Slices | None
) -> dict[str, list[Content]]:
    """Name the volumes of each subset, for the lineage.

    Args:
        labelled: what is trained on.
        validation: what chooses among the weights.
        statistics: see `statistics_slices`; none are named where the labelled slices serve.
        pseudo_labelled: see `pseudo_labelled`.
    """
    return {
        leaks.LABELLED: labelled.content,
        leaks.VALIDATION: content.of_volumes(validation),
        leaks.STATISTICS: [] if statistics is labelled else statistics.content,
        leaks.SELF_TRAINING: [] if pseudo_labelled is None else pseudo_labelled.content,
    }


class FineTunedWeights:
    """The files of weights that fine-tuning leaves; a handler of the validation's evaluator.

    With validation volumes `ckpt_dir/model.pt` has the best weights (see `SaveBest`) and `output_dir/last.pt` those of
    the last validation; `model_running_average.pt` and `last_running_average.pt` in `output_dir` the same with the
    batch-norm statistics that training leaves. Without any, `model.pt` has the last weights. The network is evaluated
    with the other statistics, see `BatchNormStatistics`.

    Args:
        network: what is validated.
        slices: see `BatchNormStatistics`.
        statistics: see `BatchNormStatistics`.
        precision: see `BatchNormStatistics`.
        validation: the validation volumes.
        ckpt_dir: see above.
        output_dir: see above.
        lineage: what the weights are made from.

    Raises:
        ValueError: if `statistics` is unknown.
    """

    def __init__(
        self,
        network: nn.Module,
        slices: Slices,
        statistics: str,
        precision: str,
        validation: VolumeDataset,
        ckpt_dir: str,
        output_dir: str,
        lineage: Lineage,
    ) -> None:
        def saver(network: Any, folder: str, name: str) -> SaveWeights:
            return SaveWeights(network, f"{folder}/{name}.pt", lineage=lineage)

        self.batch_norm = BatchNormStatistics(network, slices, statistics, precision=precision)
        self.model = saver(network, ckpt_dir, "model")
        self.last = [saver(network, output_dir, "last"), saver(self.batch_norm, output_dir, "last_running_average")]
        self.best = SaveBest([self.model, saver(self.batch_norm, output_dir, "model_running_average")])
        self.is_validated = len(validation) > 0

    @property
    def paths(self) -> list[str]:
        """The files that a run leaves."""
        savers = [*self.best.savers, *self.last] if self.is_validated else [self.model]
        return [str(saver.path) for saver in savers]

    def attach(self, engine: Engine) -> None:
        """Save when the evaluator has completed a validation."""
        handlers: list[SaveBest | SaveWeights | BatchNormStatistics] = [self.best, *self.last, self.batch_norm]
        for handler in handlers:  # the last one puts the running averages back
            handler.attach(engine)

    def state_dict(self) -> dict[str, Any]:
        """Return what is known of the best weights."""
        return self.best.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take a state back."""
        self.best.load_state_dict(state_dict)


class SaveUnvalidated:
    """Handler of the trainer: without validation volumes the last weights are the model.

    Args:
        weights: the files of the run.
    """

    def __init__(self, weights: FineTunedWeights) -> None:
        self.weights = weights

    def attach(self, engine: Engine) -> None:
        """Save at the end of the run, if nothing was validated."""
        if not self.weights.is_validated:
            model = self.weights.model
            SaveWeights(model.network, str(model.path), None, self.weights.batch_norm, model.lineage).attach(engine)
