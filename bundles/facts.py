"""The facts of a dataset, from which its bundle's configs are written: `dataset.json` in the bundle's folder."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FACTS_FILE = "dataset.json"

_FUNCTION = re.compile(r"\$datalists\.\w+")
_EXTRA = re.compile(r"\$datalists\.\w+\(@dataset_dir, \d+\)")
_NETWORK_STRIDE = 32
_PAPER_SIZE, _PAPER_CROP, _PAPER_START = 192, 100, (10, 69)
_PHOTOGRAPHS = "RGB"
_FORMATS = {"MR": "magnitude", "CT": "hounsfield", _PHOTOGRAPHS: "RGB"}
# What photographs have not.
_OF_VOLUMES = (
    *("spacing_mm", "channel", "slice_axis", "trim_margin_mm", "n4_shrink", "n4_iterations"),
    *("crop_size", "crop_start", "further_frames", "largest_component"),
    *("end_systole", "ventricles"),
)


class FactsError(ValueError):
    """A file of facts that no bundle can be written from."""


@dataclass(frozen=True)
class Facts:
    """What is known of a dataset.

    Attributes:
        class_names: names by class index, the background's first.
        spacing_mm: pixel size that every slice is resampled to, one number or one for each axis; None for photographs.
        image_size: (H, W) in pixels that the network sees of a slice, multiples of 32.
        dataset_dir: where the dataset is looked for by default.
        datalist: expression of the function that lists the volumes of the folder, see `common.data.datalists`.
        further_frames: the same of the one that lists what is there beside one frame of each patient; None if nothing.
        end_systole: expression of the function that lists the end-systolic frames of patients; None if there are none.
        ventricles: the classes that have an ejection fraction, where there are such frames.
        label_values: the class index of each value in the label files, by its digits; None if they are the same.
        crop_size: side in pixels of the views of the global stage; None for the paper's share of `image_size`.
        crop_start: lowest and highest row and column of their corner; None for the paper's share.
        channel: which channel of a file that has several, from 0; None where files are 3-D.
        slice_axis: "thickest" or "fixed", see `OrientSlices`.
        trim_margin_mm: see `TrimToBody`; None trims nothing.
        n4_shrink: N4 estimates the field on every n-th voxel of each axis; None leaves N4 out.
        n4_iterations: most iterations of N4 in each of its fitting levels.
        extra_unlabelled_ids: ids to pre-train on beside those of the split file, or an expression for them.
        largest_component: whether each structure is in one piece, so that other pieces of a prediction are removed.
        modality: "MR", "CT", or "RGB" for photographs, which have none of the facts that volumes are treated by.
        crop_share: of photographs, smallest and largest side of views of the global stage, in shares of the image's.
        num_labelled: how many volumes are labelled by default.
    """

    class_names: tuple[str, ...]
    spacing_mm: float | tuple[float, float] | None
    image_size: tuple[int, int]
    dataset_dir: str = "/workspace/data"
    datalist: str = "$datalists.image_label_folders"
    further_frames: str | None = None
    end_systole: str | None = None
    ventricles: tuple[str, ...] = ()
    label_values: Mapping[str, int] | None = None
    crop_size: int | None = None
    crop_start: tuple[int, int] | None = None
    channel: int | None = None
    slice_axis: str = "thickest"
    trim_margin_mm: float | None = None
    n4_shrink: tuple[int, int, int] | None = (4, 4, 1)
    n4_iterations: tuple[int, ...] = (50, 50, 50, 50)
    extra_unlabelled_ids: tuple[str, ...] | str = ()
    largest_component: bool = False
    modality: str = "MR"
    crop_share: tuple[float, float] = (0.5, 1.0)
    num_labelled: int = 1

    @property
    def is_photographs(self) -> bool:
        """Whether these are photographs in colour, not volumes."""
        return self.modality == _PHOTOGRAPHS

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that the network sees."""
        return ("red", "green", "blue") if self.is_photographs else ("image",)

    @property
    def format(self) -> str:
        """What intensities mean, in the words of MONAI's metadata."""
        return _FORMATS[self.modality]


def read_facts(path: Path) -> Facts:
    """Read and check a file of facts.

    Args:
        path: a JSON object with the attributes of `Facts`; only the first three are required.

    Raises:
        FactsError: if the file cannot be read, lacks a fact, or has one that there is not or that cannot be.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FactsError(f"{path} must be a JSON file of facts, see docs/new_dataset.md ({error}).") from error
    if not isinstance(content, dict):
        raise FactsError(f"{path} must be a JSON object with the facts, got {content!r}.")
    fields = {field.name: field for field in dataclasses.fields(Facts)}
    photographs = content.get("modality") == _PHOTOGRAPHS
    required = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    if photographs:
        required.remove("spacing_mm")
    if missing := [name for name in required if name not in content]:
        raise FactsError(f"{path} must have {', '.join(required)}, lacks {', '.join(missing)}: add them.")
    if unknown := [name for name in content if name not in fields]:
        raise FactsError(f"{path} has {', '.join(unknown)}, which is no fact. There are: {', '.join(fields)}.")
    wrong = [name for name in content if name in (_OF_VOLUMES if photographs else ("crop_share",))]
    if wrong:
        raise FactsError(
            f"{path} has {', '.join(wrong)}, which {'photographs have' if photographs else 'only photographs have'}"
            f"{' not' if photographs else ''} (modality {content.get('modality', Facts.modality)}): leave that out."
        )
    for name, value in content.items():
        holds, rule = _RULES[name]
        if not holds(value):
            raise FactsError(f"{path}: {name} must be {rule}, got {value!r}.")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    facts = Facts(**{"spacing_mm": None, **values})
    return _completed(facts, path)


def _completed(facts: Facts, path: Path) -> Facts:
    """Fill in what follows from other facts, and compare them."""
    if facts.label_values is not None:
        indices = range(len(facts.class_names))
        if wrong := [value for value in facts.label_values.values() if value not in indices]:
            raise FactsError(
                f"{path}: label_values must lead to the classes 0 to {indices[-1]} of class_names, got {wrong}."
            )
    if facts.is_photographs:
        return facts
    if unknown := [name for name in facts.ventricles if name not in facts.class_names[1:]]:
        raise FactsError(f"{path}: ventricles must be among class_names, got {', '.join(unknown)}.")
    if (facts.end_systole is None) != (not facts.ventricles):
        raise FactsError(
            f"{path}: end_systole and ventricles must be given together, got {facts.end_systole!r} and "
            f"{list(facts.ventricles)}: add the other, or take out both."
        )
    smallest = min(facts.image_size)
    size = round(smallest * _PAPER_CROP / _PAPER_SIZE) if facts.crop_size is None else facts.crop_size
    start = facts.crop_start
    if start is None:
        start = (round(smallest * _PAPER_START[0] / _PAPER_SIZE), round(smallest * _PAPER_START[1] / _PAPER_SIZE))
    if size > smallest:
        raise FactsError(f"{path}: crop_size must be at most {smallest}, a side of image_size, got {size}.")
    return dataclasses.replace(facts, crop_size=size, crop_start=start)


def _whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _positive(value: Any) -> bool:
    return type(value) in (int, float) and value > 0


def _all(value: Any, holds: Callable[[Any], bool], length: int | None = None) -> bool:
    return isinstance(value, list) and (length is None or len(value) == length) and all(map(holds, value))


def _are_names(value: Any) -> bool:
    return _all(value, lambda name: isinstance(name, str) and bool(name)) and len(set(value)) == len(value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(
        key.lstrip("-").isdigit() and _whole(index, 0) for key, index in value.items()
    )


def _is_function(value: Any) -> bool:
    return isinstance(value, str) and _FUNCTION.fullmatch(value) is not None


_Rule = tuple[Callable[[Any], bool], str]
_RULES: dict[str, _Rule] = {
    "class_names": (lambda v: _are_names(v) and len(v) > 1, "a list of at least two different names"),
    "spacing_mm": (lambda v: _positive(v) or _all(v, _positive, 2), "a number above 0, or a list of two"),
    "image_size": (
        lambda v: _all(v, lambda side: _whole(side, 1) and side % _NETWORK_STRIDE == 0, 2),
        f"a list of two multiples of {_NETWORK_STRIDE}",
    ),
    "dataset_dir": (lambda v: isinstance(v, str) and bool(v), "a path"),
    "datalist": (
        _is_function,
        "the name of a function, as in $datalists.image_label_folders",
    ),
    "further_frames": (
        lambda v: v is None or _is_function(v),
        "the name of a function, as in $datalists.acdc_further_frames, or null",
    ),
    "end_systole": (
        lambda v: v is None or _is_function(v),
        "the name of a function, as in $datalists.acdc_end_systole, or null",
    ),
    "ventricles": (_are_names, "a list of different names"),
    "label_values": (
        lambda v: v is None or _is_mapping(v),
        'an object from values to class indices, such as {"0": 0, "10": 1}, or null',
    ),
    "crop_size": (lambda v: v is None or _whole(v, 1), "a whole number of pixels, or null"),
    "crop_start": (
        lambda v: v is None or (_all(v, lambda n: _whole(n, 0), 2) and v[0] <= v[1]),
        "a list of the lowest and the highest, or null",
    ),
    "channel": (lambda v: v is None or _whole(v, 0), "the index of a channel, from 0, or null"),
    "slice_axis": (lambda v: v in ("thickest", "fixed"), '"thickest" or "fixed"'),
    "trim_margin_mm": (lambda v: v is None or _positive(v) or _whole(v, 0), "a number from 0, or null"),
    "n4_shrink": (
        lambda v: v is None or _all(v, lambda n: _whole(n, 1), 3),
        "a list of three whole numbers from 1, or null",
    ),
    "n4_iterations": (
        lambda v: _all(v, lambda n: _whole(n, 1)) and len(v) > 0,
        "a list of a whole number from 1 for each level",
    ),
    "extra_unlabelled_ids": (
        lambda v: _are_names(v) or (isinstance(v, str) and _EXTRA.fullmatch(v) is not None),
        "a list of ids, or as in $datalists.further_image_ids(@dataset_dir, 5)",
    ),
    "largest_component": (lambda v: isinstance(v, bool), "true or false"),
    "crop_share": (
        lambda v: _all(v, _positive, 2) and v[0] <= v[1] <= 1,
        "a list of the smallest and the largest, above 0 and up to 1",
    ),
    "num_labelled": (lambda v: _whole(v, 1), "a whole number from 1"),
    "modality": (lambda v: v in _FORMATS, " or ".join(f'"{name}"' for name in _FORMATS)),
}
"""What holds for each fact as JSON has it, and how to say so."""
