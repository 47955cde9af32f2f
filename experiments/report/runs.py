"""The result files, read: the runs of each dataset and schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release.results import EVALUATIONS, MAIN_EVALUATION, ResultError

from ..grid import SCHEDULES, Cell, Schedule
from ..results import cell_of, read_any_result

CHOOSING, SOME_SLICES, PROBE = "choosing.json", "some_slices.json", "probe.json"
LEVERS, LOCAL_STAGES, TURNS = "levers.json", "local_stages.json", "turns.json"
STUDIES = (CHOOSING, SOME_SLICES, PROBE, LEVERS, LOCAL_STAGES, TURNS)
"""Names of the files beside the results that are none of them, but of single questions."""
_TITLES = {"mmwhs": "MM-WHS", "prostate": "MSD prostate", "cityscapes": "Cityscapes", "camvid": "CamVid"}
_INITIALISATIONS = ("random", "encoder", "encoder_decoder")


@dataclass(frozen=True)
class Run:
    """What the report takes from a result file.

    Attributes:
        cell: which run it is.
        dice: test Dice by evaluation and structure, the mean over structures as "mean"; None for a structure that is
            in no volume.
        iou: mean test IoU by evaluation, of photographs; empty for volumes.
        ranked: Dice and name of each test volume, the worst first.
        validation: points (step, Dice); empty if they were not kept.
        device: that it ran on.
        commit: of the repository.
    """

    cell: Cell
    dice: Mapping[str, Mapping[str, Any]]
    iou: Mapping[str, float]
    ranked: Sequence[tuple[float, str]]
    validation: Sequence[tuple[float, float]]
    device: str
    commit: str

    @property
    def number(self) -> int | str:
        """How many volumes are labelled."""
        return self.cell.num_labelled

    def volume(self, rank: str) -> tuple[float, str]:
        """Return Dice and name of the "worst", "median" or "best" test volume."""
        return self.ranked[{"worst": 0, "median": (len(self.ranked) - 1) // 2, "best": -1}[rank]]


@dataclass(frozen=True)
class Group:
    """The runs of one dataset and schedule, and where the report on them is."""

    root: Path
    dataset: str
    schedule: Schedule
    runs: Sequence[Run]

    @property
    def title(self) -> str:
        """The dataset's name, as its owners write it."""
        return _TITLES.get(self.dataset, self.dataset.upper())

    @property
    def items(self) -> str:
        """What the dataset consists of, in one word."""
        return "photographs" if any(run.iou for run in self.runs) else "volumes"

    @property
    def folder(self) -> Path:
        """Holds the result files."""
        return self.root / self.dataset / self.schedule.name

    @property
    def figures(self) -> Path:
        """Holds the figures."""
        return self.folder / "figures"

    def link(self, path: Path) -> str:
        """How the pages of this dataset and schedule, which are beside the result files, refer to a file."""
        return path.relative_to(self.folder).as_posix()


def read_groups(root: Path) -> tuple[list[Group], list[str]]:
    """Read all result files; return the runs by dataset and schedule, and what is wrong with the other files."""
    runs: list[Run] = []
    problems: list[str] = []
    for path in sorted(root.glob("*/*/*.json")):
        if path.name not in STUDIES:
            try:
                runs.append(_read_run(path))
            except ResultError as error:
                problems.append(str(error))
    runs.sort(key=lambda run: (_INITIALISATIONS.index(run.cell.pretraining.initialisation), run.cell.name))
    groups = []
    for dataset in sorted({run.cell.dataset for run in runs}):
        for schedule in SCHEDULES.values():
            if chosen := [run for run in runs if (run.cell.dataset, run.cell.schedule) == (dataset, schedule)]:
                groups.append(Group(root, dataset, schedule, chosen))
    return groups, problems


def _read_run(path: Path) -> Run:
    result = read_any_result(path)
    cell = cell_of(result)
    volumes = result["evaluations"][MAIN_EVALUATION]["volumes"]
    curve = result.get("curves", {}).get("mean_dice", [])
    if path.parts[-3:] != (cell.dataset, cell.schedule.name, f"{cell.name}.json"):
        raise ResultError(f"{path} holds the cell {cell.name} of {cell.dataset}, {cell.schedule.name}: move it there.")
    if cell.schedule != SCHEDULES.get(cell.schedule.name):
        raise ResultError(
            f"{path} was made with {cell.schedule.lengths}, which are not those of the schedule "
            f"{cell.schedule.name!r}: it can share no table with the others. Move it elsewhere."
        )
    return Run(
        cell,
        {name: result["evaluations"][name]["mean_dice"] for name in EVALUATIONS},
        {name: own["mean_iou"]["mean"] for name, own in result["evaluations"].items() if "mean_iou" in own},
        sorted((volume["mean"], volume["id"]) for volume in volumes if volume["mean"] is not None),
        [(epoch * cell.schedule.steps_per_epoch, value) for epoch, value in curve],
        result["device"],
        result["commit"],
    )
