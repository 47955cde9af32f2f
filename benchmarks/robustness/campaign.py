"""Run the cases of the kinds of trouble and count what became of them."""

from __future__ import annotations

import resource
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tqdm import tqdm

from .. import harness
from . import disk, headers, kills, leaks, options, volumes, weights
from .verdicts import CRASH, GOOD, LOST, SILENT, UNCLEAR, VERDICTS, Verdict
from .world import World

KINDS: dict[str, ModuleType] = {
    "weights": weights,
    "volumes": volumes,
    "headers": headers,
    "kills": kills,
    "disk": disk,
    "leaks": leaks,
    "options": options,
}


@dataclass
class Tally:
    """The cases of one kind: their verdicts by number, those that this machine cannot try, and what they cost."""

    verdicts: dict[int, Verdict] = field(default_factory=dict)
    untried: dict[int, str] = field(default_factory=dict)
    processor_seconds: float = 0.0

    def count(self, verdict: str) -> int:
        """Return how many cases had a verdict."""
        return sum(found.verdict == verdict for found in self.verdicts.values())


def measure(scale: float = 1.0, only: str = "", case: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Make trouble of all kinds and count how the product ended.

    Args:
        scale: share of the cases of each kind that is tried, above 0 and up to 1, at least one; they are spread evenly.
        only: kinds to try, separated by commas; all if empty.
        case: the number of one case, with one kind, to repeat it alone.
        seed: of everything random. A case depends on the seed, its kind and its number only, not on the others.

    Returns:
        The result; besides rows and targets it has the `failures`, each with what repeats it.

    Raises:
        ValueError: if an option is not of this kind.
    """
    kinds = _kinds(only)
    if not 0 < scale <= 1:
        raise ValueError(f"scale must be above 0 and at most 1, got {scale!r}; 1 is the full campaign.")
    if case is not None and len(kinds) != 1:
        raise ValueError(f"case must come with one kind, got {', '.join(kinds)}; give it as only.")
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="robustness-") as folder:
        world = World(Path(folder, "world"))
        for kind in kinds:
            numbers = chosen(KINDS[kind].FULL, scale) if case is None else [case]
            tallies[kind] = _tally(world, kind, numbers, seed, Path(folder, kind))
    return _result(tallies, seed)


def chosen(full: int, scale: float) -> list[int]:
    """Return the numbers of the cases that a scale takes, spread evenly."""
    return sorted({int(number) for number in np.linspace(0, full - 1, max(1, round(full * scale)))})


def _kinds(only: str | Sequence[str]) -> list[str]:
    kinds = [name for name in (only.split(",") if isinstance(only, str) else only) if name] or list(KINDS)
    if unknown := [name for name in kinds if name not in KINDS]:
        raise ValueError(f"only must be among {', '.join(KINDS)}, got {', '.join(unknown)}; choose one of them.")
    return kinds


def _tally(world: World, kind: str, numbers: Sequence[int], seed: int, folder: Path) -> Tally:
    """Try the cases of a kind; each has a folder of its own, which is removed after it."""
    tally, started = Tally(), _processor_seconds()
    for number in tqdm(numbers, desc=kind, unit="case", mininterval=10.0):
        random = np.random.default_rng([seed, zlib.crc32(kind.encode()), number])
        place = folder / str(number)
        place.mkdir(parents=True)
        try:
            verdict = KINDS[kind].run_case(world, number, random, place)
        except Exception as error:  # the campaign's own trouble must not cost the other cases
            tally.untried[number] = f"{type(error).__name__}: {error}"
            tqdm.write(f"not tried: {tally.untried[number]} [{repeat(kind, number, seed)}]")
            continue
        finally:
            shutil.rmtree(place, ignore_errors=True)
        tally.verdicts[number] = verdict
        if verdict.verdict not in GOOD:
            tqdm.write(f"{verdict.verdict}: {verdict.tried}: {verdict.detail} [{repeat(kind, number, seed)}]")
    tally.processor_seconds = _processor_seconds() - started
    return tally


def _processor_seconds() -> float:
    """Return the seconds of processor that this process and its children have had."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def repeat(kind: str, number: int, seed: int) -> str:
    """Return the options that repeat a case alone."""
    return f"--only {kind} --case {number} --seed {seed}"


def _result(tallies: dict[str, Tally], seed: int) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {
            "kind": kind,
            "tried": len(tally.verdicts),
            **{verdict: tally.count(verdict) for verdict in VERDICTS},
            "processor, s": tally.processor_seconds,
        }
        for kind, tally in tallies.items()
    ]
    total = {key: sum(row[key] for row in rows) for key in rows[0] if key != "kind"}
    if len(rows) > 1:
        rows.append({"kind": "all", **total})
    targets = [
        harness.target(f"cases: {verdict}", total[verdict], at_most=0) for verdict in (SILENT, CRASH, LOST, UNCLEAR)
    ]
    if "kills" in tallies:
        killed = tallies["kills"]
        rule = f"of {len(killed.verdicts)} killed runs, those that ended bit-identical after a restart"
        targets.append(harness.target(rule, len(killed.verdicts) - killed.count(LOST), at_least=len(killed.verdicts)))
    notes = [
        f"{kind}: {len(tally.untried)} cases were not tried: {next(iter(tally.untried.values()))}."
        for kind, tally in tallies.items()
        if tally.untried
    ]
    failures = [
        {
            "kind": kind,
            "case": number,
            "verdict": found.verdict,
            "tried": found.tried,
            "detail": found.detail,
            "repeat": repeat(kind, number, seed),
        }
        for kind, tally in tallies.items()
        for number, found in tally.verdicts.items()
        if found.verdict not in GOOD
    ]
    return {**harness.result("robustness", rows, targets, notes), "failures": failures}
