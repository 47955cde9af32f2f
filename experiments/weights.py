"""A list of the pre-trained weights that finished runs left: what each file is, and where it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bundles.places import REPOSITORY, RUNS
from bundles.run import commit
from common.checkpoints import content_hash
from common.data.splits import draws_of
from common.records import read_record, write_record

from .cells import OUTPUTS, Stage, bundle_of, stages_of
from .grid import SCHEDULES
from .reproduce import RESULTS
from .tables import TABLES, cells_of

MANIFEST = "weights/manifest.json"


def weights(runs_dir: str = str(RUNS), dataset: str = "acdc", schedule: str = "reduced") -> None:
    """Write which pre-trained files finished runs left, into `results/<dataset>/<schedule>/weights/manifest.json`.

    The run folders are too large to commit, and later stages start from these files. Each entry has the file's place
    below the run folder, its SHA-256 and size, the pre-training, the settings of its stage, the commit at which it was
    listed, and the path in this repository of a file with the same content, if there is one. Entries of files that are
    not in this folder of runs stay.

    Args:
        runs_dir: see `reproduce`.
        dataset: see `reproduce`.
        schedule: see `reproduce`.

    Raises:
        ValueError: if the dataset or the schedule is unknown.
        ResultError: if the record of a stage is damaged.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}.")
    runs = Path(runs_dir).resolve() / schedule
    path = RESULTS / dataset / schedule / MANIFEST
    known = read_record(path, "make it again where the runs are")["files"] if path.is_file() else {}
    committed = {content_hash(file): file.relative_to(REPOSITORY).as_posix() for file in _committed()}
    found = {}
    for pretraining, stage in _pretrainings(dataset, schedule, runs):
        for name in OUTPUTS[stage.config]:
            file = stage.folder / name
            sha256 = content_hash(file)
            found[file.relative_to(runs).as_posix()] = {
                "sha256": sha256,
                "bytes": file.stat().st_size,
                "pretraining": pretraining,
                "settings": {key: value for key, value in stage.settings.items() if not isinstance(value, Path)},
                "commit": commit(),
                "in_repository": committed.get(sha256),
            }
    for name, entry in found.items():  # the same file was listed at an earlier commit
        if known.get(name, {}).get("sha256") == entry["sha256"]:
            entry["commit"] = known[name]["commit"]
    write_record(path, {"files": dict(sorted({**known, **found}.items()))})
    print(f"Wrote {path}: {len(found)} files of {runs}.")


def _pretrainings(dataset: str, schedule: str, runs: Path) -> Iterator[tuple[str, Stage]]:
    """Iterate over the finished stages of pre-training in a folder of runs, with the names of the pre-trainings."""
    draws = draws_of(bundle_of(dataset) / "configs" / "splits.json")
    seen = set()
    for table, content in TABLES.items():
        for cell in cells_of(table, dataset, SCHEDULES[schedule], draws) if dataset in content.rows else ():
            for stage in stages_of(cell, runs) if cell.is_run else ():
                if stage.config != "train" and stage.folder not in seen and stage.record["finished"]:
                    seen.add(stage.folder)
                    yield cell.pretraining.name, stage


def _committed() -> Iterator[Path]:
    yield from sorted(REPOSITORY.glob("bundle_*/models/*.pt"))
    yield from sorted(RESULTS.glob("*/*/weights/*.pt"))
