"""The volumes of a dataset by what they are for, each list read when it is asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence

from . import leaks, selections, splits
from .content import Content
from .inputs import images_beside
from .volume_files import few

logger = logging.getLogger(__name__)

_SINGLE, _ALL = "single", "all"

Item = dict[str, str]
_MOST_BESIDE = 50


class SplitVolumes:
    """The lists of a split file as items of a datalist.

    Where there is no dataset folder, as in MONAI Label, which hands over lists of its own, only the methods that say so
    can be called.

    Args:
        datalist: lists the volumes of a folder, see `datalists`.
        dataset_dir: the dataset's folder.
        split_path: see `splits`.
        num_labelled: see `splits.read_split`.
        draw: see `splits.read_split`.
        extra_unlabelled_ids: see `splits.pretraining_ids`.
        unlabelled_frames: which frames of the patients to pre-train on are used without labels: the "single" one that
            the datalist has of each, or "all", which are volumes like any other.
        further_frames: lists the other frames of the patients of a folder by their ids, see `datalists`; None where
            there are none in such a dataset.
        labelled: ids of the labelled volumes to fine-tune on, or a JSON file of such a list, see `selections`; None for
            those of the draw, whose validation volumes are used in any case.

    Raises:
        SplitError: if `unlabelled_frames` is neither of the two, or "all" without `further_frames`.

    The methods raise SplitError where the split file is invalid or lacks what is asked for, and DatasetError where the
    folder does.
    """

    def __init__(
        self,
        datalist: Callable[[str], list[Item]],
        dataset_dir: str,
        split_path: str | os.PathLike[str],
        num_labelled: int | str = 1,
        draw: str = "c1",
        extra_unlabelled_ids: Sequence[str] = (),
        unlabelled_frames: str = _SINGLE,
        further_frames: leaks.FurtherFrames | None = None,
        labelled: Sequence[str] | str | os.PathLike[str] | None = None,
    ) -> None:
        if unlabelled_frames not in (_SINGLE, _ALL):
            raise splits.SplitError(
                f"unlabelled_frames must be {_SINGLE} (one frame of each patient, that of the split) or {_ALL} (every "
                f"frame of the patients to pre-train on), got {unlabelled_frames!r}: choose one of them."
            )
        if unlabelled_frames == _ALL and further_frames is None:
            raise splits.SplitError(
                f"unlabelled_frames must be {_SINGLE} where nothing lists further frames, got {unlabelled_frames!r}: "
                "leave it out, or give further_frames as well."
            )
        self.datalist = datalist
        self.dataset_dir = dataset_dir
        self.split_path = split_path
        self.num_labelled = num_labelled
        self.draw = draw
        self.extra_unlabelled_ids = extra_unlabelled_ids
        self.unlabelled_frames = unlabelled_frames
        self.further_frames = further_frames
        self.selected = labelled

    @property
    def has_folder(self) -> bool:
        """Whether there is a dataset folder."""
        return os.path.isdir(self.dataset_dir)

    def listed(self, dataset_dir: str) -> list[Item]:
        """List all volumes of a folder that some stage may read; a datalist like that of the dataset."""
        return [*self.datalist(dataset_dir), *self._further()]

    def pretraining(self) -> list[Item]:
        """List the volumes to pre-train on, which are the same for every draw."""
        return [*self._items(self._pretraining_ids()), *self._further()]

    def labelled(self) -> list[Item]:
        """List the labelled volumes to fine-tune on."""
        return self._items(self._split().labelled, require_label=True)

    def validation(self) -> list[Item]:
        """List the labelled volumes that choose among weights."""
        return self._items(self._split().validation, require_label=True)

    def subset(self, name: str) -> list[Item]:
        """List the labelled volumes of one list of the split, such as "test"."""
        return self._items(self._split().subset(name), require_label=True)

    def without_labels(self, labelled: Sequence[Item]) -> list[Item]:
        """List volumes whose labels are not used, for batch-norm statistics and self-training: those to pre-train on.

        Without a dataset folder these are images in the folders of the labelled ones, up to 50, see `images_beside`.

        Args:
            labelled: the labelled volumes.
        """
        return self.pretraining() if self.has_folder else images_beside(labelled, _MOST_BESIDE)

    def candidates(self, labelled: Sequence[str]) -> list[Item]:
        """List the volumes that could be labelled next, without labels: one frame of each patient to pre-train on.

        Those for validation are none, whose labels choose among weights.

        Args:
            labelled: ids of volumes that are labelled already.
        """
        taken = {*labelled, *self._split().validation}
        return self._items([id_ for id_ in self._pretraining_ids() if id_ not in taken])

    def unlabelled(self, labelled: Sequence[str]) -> list[Item]:
        """List volumes that are labelled already without their labels.

        Args:
            labelled: their ids, none of them for the test or the validation.
        """
        selections.require_free(self._split(), labelled)
        return self._items(labelled)

    def test_contents(self) -> list[Content]:
        """Read what is in the test patients' volumes, to compare others with; nothing without a dataset folder."""
        return leaks.test_volumes(self.datalist, self.dataset_dir, self.split_path, self.further_frames)

    def contents_outside(self, name: str) -> dict[str, list[Content]]:
        """Read what is in the volumes that must not be in the subset of this name, see `leaks.other_subsets`."""
        return leaks.other_subsets(self.datalist, self.dataset_dir, self._split(), name)

    def _split(self) -> splits.Split:
        split = splits.read_split(self.split_path, self.num_labelled, self.draw)
        if self.selected is None:
            return split
        return selections.with_labelled(split, selections.read_selection(self.selected))

    def _further(self) -> list[Item]:
        """List the further frames of the patients to pre-train on; none unless all frames are asked for."""
        if self.unlabelled_frames != _ALL or self.further_frames is None:
            return []
        ids = self._pretraining_ids()
        frames = self.further_frames(self.dataset_dir)
        found = [frame for id_ in ids for frame in frames.get(id_, ())]
        if not found:
            raise splits.SplitError(
                f"unlabelled_frames {_ALL} needs further frames of patients to pre-train on, but {self.dataset_dir} "
                f"has a single one of each ({few(ids)}). Unpack the whole dataset there, or choose {_SINGLE}."
            )
        logger.info(f"{len(found)} further frames are used without labels: {few([frame['id'] for frame in found])}.")
        return found

    def _pretraining_ids(self) -> tuple[str, ...]:
        return splits.pretraining_ids(self.split_path, self.extra_unlabelled_ids)

    def _items(self, ids: Sequence[str], require_label: bool = False) -> list[Item]:
        return splits.select(self.datalist(self.dataset_dir), ids, require_label)
