"""Self-training in rounds: the network that is trained labels the unlabelled slices that it goes on with.

Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks", ICML workshop
2013; Bai et al., "Semi-supervised Learning for Network-Based Cardiac MR Image Segmentation", MICCAI 2017, the
self-training that Chaitanya et al. (NeurIPS 2020, arXiv 2006.10511, section 4) compare their method with. That the
teacher is the moving average of what it teaches is from Tarvainen, Valpola, "Mean teachers are better role models",
NeurIPS 2017.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from torch import Tensor, nn
from tqdm import tqdm

from ..data.pseudo_labelled import PseudoLabelled
from ..evaluation import class_counts, dice_of_counts, volume_dice
from ..transforms.label_maps import LargestComponents
from .batch_norm import BatchNormStatistics

logger = logging.getLogger(__name__)

_SLICES_AT_ONCE = 20
_LEAST_SHARE = 0.5  # of the volumes that a structure must be found in


class SelfTraining:
    """Handler of the trainer: at the start of each round the teacher labels all unlabelled volumes anew.

    With n rounds the run has n + 1 parts of equal length; in the first one there are true labels only. A round is not
    used if its teacher misses a labelled structure in most volumes, or has not learnt it on the labelled volumes
    themselves, as in a run too short for its rounds: the labels of before stay, if there are any. Where a volume need
    not have every structure, only the mean over structures is looked at.

    Args:
        teacher: maps slices (B, 1, H, W) to logits (B, K, H, W), K classes.
        slices: get the labels; None for a run without self-training.
        rounds: n, 0 for none.
        inferer: runs the teacher on slices.
        batch_norm: gives the teacher its batch-norm statistics.
        class_names: names by class index, for messages.
        largest_component: keep of each structure the largest connected component of a volume only.
        least_fit: least Dice of every structure, from 0 to 1, that a teacher must have on the labelled volumes.
        every_structure: whether each volume has every structure, as a patient has every organ and a photograph does not
            show every kind of thing.
        least_mean_fit: takes the place of `least_fit` where they have not: least mean Dice over structures.

    Attributes:
        round: the number of the round that is going on; 0 before the first.

    Raises:
        ValueError: if `rounds` is not a whole number from 0.
    """

    def __init__(
        self,
        teacher: nn.Module,
        slices: PseudoLabelled | None,
        rounds: int,
        inferer: Inferer,
        batch_norm: BatchNormStatistics,
        class_names: Sequence[str],
        largest_component: bool = False,
        least_fit: float = 0.7,
        every_structure: bool = True,
        least_mean_fit: float = 0.4,
    ) -> None:
        if type(rounds) is not int or rounds < 0:
            raise ValueError(
                f"self_training_rounds must be a whole number from 0, got {rounds!r}: 0 is no self-training."
            )
        self.teacher = teacher
        self.slices = slices
        self.rounds = 0 if slices is None else rounds
        self.inferer = inferer
        self.batch_norm = batch_norm
        self.class_names = class_names
        self.largest_component = largest_component
        self.least_fit = least_fit
        self.every_structure = every_structure
        self.least_mean_fit = least_mean_fit
        self.round = 0
        self._starts: dict[int, int] = {}  # round by the number of steps before it

    def attach(self, engine: Engine) -> None:
        """Begin each round before its first batch is made."""
        if self.slices is not None:
            engine.add_event_handler(Events.STARTED, self._plan)
            engine.add_event_handler(Events.GET_BATCH_STARTED, self._begin)

    def _plan(self, engine: Engine) -> None:
        steps = engine.state.max_epochs * engine.state.epoch_length
        starts = {steps * number // (self.rounds + 1): number for number in range(1, self.rounds + 1)}
        self._starts = {start: number for start, number in starts.items() if start > 0}

    def _begin(self, engine: Engine) -> None:
        if engine.state.iteration in self._starts:
            self.round = self._starts[engine.state.iteration]
            self.label()

    def label(self) -> None:
        """Let the teacher label all volumes."""
        assert self.slices is not None
        started = time.monotonic()
        maps, fit = self._predict()
        name = f"Round {self.round} of {self.rounds}"
        if faults := self._faults(maps, fit):
            then = "those of the last round stay" if self.slices.is_labelled else "training goes on with true labels"
            logger.warning(
                f"{name}: the labels that the network predicts are not used, since {'; '.join(faults)}: {then}. If "
                "this is said of every round, take more steps or fewer self_training_rounds."
            )
            return
        change = f", Dice with those of the last round {self._agreement(maps):.3f}" if self.slices.is_labelled else ""
        self.slices.put(maps)
        logger.info(f"{name}: labelled {len(maps)} volumes in {time.monotonic() - started:.0f} s{change}.")

    def _faults(self, maps: Sequence[Tensor], fit: Tensor) -> list[str]:
        """Say of which structures the labels are not to be trusted, and why."""
        assert self.slices is not None
        if not self.every_structure:
            mean = fit[self.slices.structures].mean()
            return [f"its mean Dice on the labelled volumes is {mean:.2f}"] if mean < self.least_mean_fit else []
        faults = []
        for k in self.slices.structures:
            share = sum(bool((own == k).any()) for own in maps) / len(maps)
            if fit[k] < self.least_fit:
                faults.append(f"its Dice of {self.class_names[k]} on the labelled volumes is {fit[k]:.2f}")
            elif share < _LEAST_SHARE:
                faults.append(f"it finds {self.class_names[k]} in {share:.0%} of the {len(maps)} unlabelled volumes")
        return faults

    @torch.no_grad()
    def _predict(self) -> tuple[list[Tensor], Tensor]:
        """Label all volumes.

        Returns:
            Label maps (D, H, W) uint8 of each volume, and Dice (K,) float64 on the labelled slices taken together; the
            same in all processes.
        """
        assert self.slices is not None
        slices, first = self.slices, idist.get_rank() == 0
        fit = torch.zeros(len(self.class_names), dtype=torch.float64, device=slices.device)
        maps = []
        if first:
            self.batch_norm.exchange()
        try:
            self.teacher.eval()
            if first:
                fit.copy_(self._fit())
            numbers = range(slices.num_volumes)
            bar = tqdm(numbers, desc="Labelling", unit="volume", leave=False, delay=2, disable=not first)
            for number in bar:
                images = slices.volume(number)
                own = torch.zeros_like(images[:, 0], dtype=torch.uint8)
                if first:
                    own.copy_(self._cleaned(self._label_map(images)))
                maps.append(_from_first(own))
        finally:
            if first:
                self.batch_norm.restore()
        return maps, _from_first(fit)

    def _fit(self) -> Tensor:
        """Return the teacher's Dice (K,) on the labelled slices taken together, of which there may be many."""
        assert self.slices is not None
        labelled, counts = self.slices.labelled, []
        for part in torch.arange(len(labelled)).split(_SLICES_AT_ONCE):
            images, labels = labelled.take(part)
            assert labels is not None
            counts.append(class_counts(self._label_map(images), labels, len(self.class_names)))
        return dice_of_counts(torch.stack(counts).sum(dim=0))

    def _label_map(self, images: Tensor) -> Tensor:
        """Return the teacher's label map (D, H, W) of D slices (D, C, H, W)."""
        parts = images.split(_SLICES_AT_ONCE)
        return torch.cat([self.inferer(part, self.teacher).argmax(dim=1) for part in parts])

    def _cleaned(self, labels: Tensor) -> Tensor:
        """Keep of each structure in (D, H, W) the largest connected component, if that is wanted."""
        if not self.largest_component:
            return labels
        return LargestComponents(len(self.class_names))(labels[None])[0]

    def _agreement(self, maps: list[Tensor]) -> float:
        """Return the mean Dice of new label maps and those of before, over volumes and structures."""
        assert self.slices is not None
        num_classes = len(self.class_names)
        both = ((own, self.slices.maps(number)) for number, own in enumerate(maps))
        return torch.stack([volume_dice(new, old, num_classes)[1:] for new, old in both]).nanmean().item()

    def state_dict(self) -> dict[str, Any]:
        """Return the round and its labels."""
        return {"round": self.round, **({} if self.slices is None else self.slices.state_dict())}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take the round and its labels back."""
        self.round = state_dict["round"]
        if self.slices is not None:
            self.slices.load_state_dict(state_dict)


def _from_first(values: Tensor) -> Tensor:
    """Return the values that the first of several processes has."""
    return idist.broadcast(values, src=0) if idist.get_world_size() > 1 else values
