"""The volumes of a dataset by what they are for, each list read when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from . import leaks, splits
from .content import Content
from .inputs import images_beside

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
    ) -> None:
        self.datalist = datalist
        self.dataset_dir = dataset_dir
        self.split_path = split_path
        self.num_labelled = num_labelled
        self.draw = draw
        self.extra_unlabelled_ids = extra_unlabelled_ids

    @property
    def has_folder(self) -> bool:
        """Whether there is a dataset folder."""
        return os.path.isdir(self.dataset_dir)

    def pretraining(self) -> list[Item]:
        """List the volumes to pre-train on, which are the same for every draw."""
        return self._items(splits.pretraining_ids(self.split_path, self.extra_unlabelled_ids))

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

    def test_contents(self) -> list[Content]:
        """Read what is in the test volumes, to compare others with; nothing without a dataset folder."""
        return leaks.test_volumes(self.datalist, self.dataset_dir, self.split_path)

    def contents_outside(self, name: str) -> dict[str, list[Content]]:
        """Read what is in the volumes that must not be in the subset of this name, see `leaks.other_subsets`."""
        return leaks.other_subsets(self.datalist, self.dataset_dir, self._split(), name)

    def _split(self) -> splits.Split:
        return splits.read_split(self.split_path, self.num_labelled, self.draw)

    def _items(self, ids: Sequence[str], require_label: bool = False) -> list[Item]:
        return splits.select(self.datalist(self.dataset_dir), ids, require_label)
