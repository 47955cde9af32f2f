"""What comes back: at most eight files in one folder, each written whole as soon as there is something to write.

    report.json      what ran where, how long, what failed, what was left out
    results.zip      result files at their places in the repository, and logs
    state-0.zip ...  pre-training stages, so that a machine that is started anew goes on from them

A file that comes back may have 16 MiB. So the state is spread over several archives, and a larger file over several of
these; a stage is taken back only if all its pieces are there and are those that belong together.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common.files import atomic_file, write_text_atomically

from ..cells import LOCK, Stage
from .kit import KIT, REPOSITORY, STATE, KitError

_PART_BYTES = 15 * 2**20
_PARTS = 5
_INDEX = "pieces.json"
_RESULT_FOLDERS = ("experiments/results/", "benchmarks/results/")


class Outcome:
    """The folder that comes back from a command.

    Args:
        out: the folder.
        facts: what the report begins with.
        state_mib: the most that the state may have.
    """

    def __init__(self, out: Path, facts: dict[str, Any], state_mib: float = 30.0) -> None:
        self.out = out
        self.facts = dict(facts)
        self.state_bytes = int(state_mib * 2**20)
        self._files: dict[str, bytes] = {}
        self._written: dict[int, str] = {}
        out.mkdir(parents=True, exist_ok=True)
        self.report()

    def report(self, **facts: Any) -> None:
        """Add facts to the report."""
        self.facts.update(facts)
        write_text_atomically(self.out / "report.json", json.dumps(self.facts, indent=1) + "\n")

    def add(self, name: str, content: bytes) -> None:
        """Add a file to the results, or replace it.

        Args:
            name: where it belongs in the repository, or a name of its own.
            content: of the file.
        """
        self._files[name] = content
        with atomic_file(self.out / "results.zip") as temporary, zipfile.ZipFile(temporary, "w", 8) as archive:
            for path, data in sorted(self._files.items()):
                archive.writestr(path, data)

    def keep(self, stages: Iterable[Stage], runs: Path) -> list[str]:
        """Write the state of pre-training stages: first the finished ones, then the others, as many as there is room.

        Args:
            stages: of all cells.
            runs: the folder that theirs are in.

        Returns:
            The names of the folders for which there was no room.
        """
        found = []
        for stage in {stage.folder: stage for stage in stages if stage.config != "train"}.values():
            if content := _content(stage):
                finished = stage.record["finished"]
                found.append((not finished, (stage.folder / "record.json").stat().st_mtime if finished else 0, content))
        bins: list[list[tuple[dict[str, Any], bytes]]] = [[] for _ in range(_PARTS)]
        sizes = [0] * _PARTS
        left_out = []
        for _, _, content in sorted(found, key=lambda entry: entry[:2]):
            pieces = list(_pieces(content, runs))
            room = list(sizes)
            places = []
            for _, data in pieces:
                place = next((number for number, size in enumerate(room) if size + len(data) <= _PART_BYTES), None)
                if place is None or sum(room) + len(data) > self.state_bytes:
                    left_out.append(next(iter(content)).parent.name)
                    break
                room[place] += len(data)
                places.append(place)
            else:
                sizes = room
                for place, piece in zip(places, pieces, strict=True):
                    bins[place].append(piece)
        for number, pieces in enumerate(bins):
            signature = repr([piece for piece, _ in pieces])
            if pieces and self._written.get(number) != signature:
                path = self.out / f"{STATE}-{number}.zip"
                with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w", 8, compresslevel=1) as archive:
                    archive.writestr(_INDEX, json.dumps([piece for piece, _ in pieces]))
                    for index, (_, data) in enumerate(pieces):
                        archive.writestr(str(index), data)
                self._written[number] = signature
        return left_out


def restore(folder: Path, runs: Path) -> list[str]:
    """Put stages back that `Outcome.keep` wrote, unless they are there.

    Args:
        folder: with the archives; nothing is done if there are none.
        runs: gets the stages' folders.

    Returns:
        The names of the folders that were put back.
    """
    generations: dict[tuple[str, str], dict[tuple[str, int], tuple[dict[str, Any], bytes]]] = {}
    for path in sorted(folder.glob(f"{STATE}-*.zip")):
        with zipfile.ZipFile(path) as archive:
            for index, piece in enumerate(json.loads(archive.read(_INDEX))):
                found = generations.setdefault((piece["stage"], piece["generation"]), {})
                found[piece["file"], piece["number"]] = piece, archive.read(str(index))
    restored = []
    # The newest of a stage last, so that it stays.
    for (stage, generation), found in sorted(generations.items(), key=lambda item: _newest(item[1])):
        files: dict[str, bytes] = {}
        for (file, _), (_, data) in sorted(found.items()):
            files[file] = files.get(file, b"") + data
        if _generation(files) != generation:
            continue
        target = runs / stage
        if target.is_dir() and stage not in restored and any(path.name != LOCK for path in target.iterdir()):
            continue  # a machine that is still the same one knows better
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for file, data in files.items():
            (target / file).write_bytes(data)
        restored.append(stage)
    return list(dict.fromkeys(restored))


def collect(folder: str, repository: str = str(REPOSITORY), kit: str = str(KIT)) -> None:
    """Take what came back: result files to their places in the repository, the state into the kit.

    Args:
        folder: that came back.
        repository: gets the result files; one that is there already and differs is left as it is and named.
        kit: gets the state, for the next command.

    Raises:
        KitError: if the folder holds nothing to take, or results differ from those that are there.
    """
    source, root = Path(folder), Path(repository)
    if not (source / "report.json").is_file():
        raise KitError(f"{source} has no report.json: name the folder that a command wrote.")
    taken, different = [], []
    if (source / "results.zip").is_file():
        with zipfile.ZipFile(source / "results.zip") as archive:
            for name in archive.namelist():
                if not name.startswith(_RESULT_FOLDERS) or ".." in Path(name).parts:
                    continue
                target, content = root / name, archive.read(name)
                if target.is_file() and target.read_bytes() != content and not name.startswith("benchmarks/"):
                    different.append(name)
                    continue
                with atomic_file(target) as temporary:
                    temporary.write_bytes(content)
                taken.append(name)
    archives = sorted(source.glob(f"{STATE}-*.zip"))
    if archives:
        shutil.rmtree(Path(kit) / STATE, ignore_errors=True)
        (Path(kit) / STATE).mkdir(parents=True)
        for path in archives:
            shutil.copy(path, Path(kit) / STATE / path.name)
    print("\n".join([*taken, f"{len(taken)} result files, {len(archives)} archives of state."]))
    if different:
        raise KitError(
            f"{', '.join(different)}: there is another result at that place, which was left: move one of them away."
        )


def _content(stage: Stage) -> dict[Path, bytes]:
    """Read what a stage needs to go on, or the stages after it; empty if there is nothing yet."""
    files = [*stage.folder.glob("pretrained_*.pt")] if stage.record["finished"] else [stage.folder / "resume.pt"]
    if not files or not all(path.is_file() for path in files):
        return {}
    record = stage.folder / "record.json"
    return {path: path.read_bytes() for path in [*sorted(files), *([record] if record.is_file() else [])]}


def _pieces(content: dict[Path, bytes], runs: Path) -> Iterable[tuple[dict[str, Any], bytes]]:
    generation = _generation({path.name: data for path, data in content.items()})
    for path, data in content.items():
        stage = path.parent.relative_to(runs).as_posix()
        for number in range(max(1, math.ceil(len(data) / _PART_BYTES))):
            piece = {"stage": stage, "generation": generation, "file": path.name, "number": number}
            piece["time"] = int(path.stat().st_mtime)
            yield piece, data[number * _PART_BYTES : (number + 1) * _PART_BYTES]


def _generation(files: dict[str, bytes]) -> str:
    return hashlib.sha256(
        repr(sorted((name, hashlib.sha256(data).hexdigest()) for name, data in files.items())).encode()
    ).hexdigest()


def _newest(found: dict[tuple[str, int], tuple[dict[str, Any], bytes]]) -> int:
    return max(int(piece["time"]) for piece, _ in found.values())


def seconds_since(started: float) -> float:
    """Return the seconds since a reading of the monotonic clock, rounded."""
    return round(time.monotonic() - started, 1)
