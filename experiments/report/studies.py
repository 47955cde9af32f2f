"""Sections that show what single studies have written beside the results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.records import RecordError, read_record
from release.results import ResultError
from release.values import check_share, check_text

from ..plots import draw_choices
from .figures import terms_of
from .numbers import number_of, spread_of, with_error
from .runs import CHOOSING, LEVERS, LOCAL_STAGES, PROBE, SOME_SLICES, TURNS, Group

_RULES, _WAYS = ("densest", "medoids", "farthest"), ("slices", "volume")
_MAKE_AGAIN = "move it away and make it again"


def embeddings_section(group: Group) -> str:
    """Show what `python -m experiments figures` has written."""
    partitions, scatter, numbers = (
        group.figures / name for name in ("partitions.png", "embeddings.png", "embeddings.json")
    )
    parts = []
    if partitions.is_file():
        parts += ["## The middle slice of each partition of three test volumes\n", terms_of(group)]
        parts.append(f"![Partitions]({group.link(partitions)})\n")
    if numbers.is_file():
        content = _read_numbers(numbers)
        try:
            shares = {key: number_of(check_share(value, key)) for key, value in content["neighbour_accuracy"].items()}
            others = [
                f"{name} {number_of(check_share(value, name))}" for name, value in content.get("beside", {}).items()
            ]
            after_others = f" After other pre-trainings: {', '.join(others)}." if others else ""
            weights = ", ".join(f"`{name}`, SHA-256 `{value}`" for name, value in content["weights_sha256"].items())
            parts.append(
                "## Embeddings of test slices before and after pre-training\n\n"
                f"The encoder's last map, averaged over the image, of {content['slices']} slices of "
                f"{content['volumes']} test volumes. The most similar slice (cosine) of another patient is from the "
                f"same one of {content['partitions']} partitions for {shares['before']} of the slices before and "
                f"{shares['after']} after pre-training; by chance {shares['chance']}.{after_others} "
                f"Weights: {weights}.\n"
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(numbers, error) from error
        if scatter.is_file():
            parts.append(f"![First two principal components]({group.link(scatter)})\n")
    return "\n".join(parts)


def probe_section(group: Group) -> str:
    """Show what `python -m experiments probe` has written."""
    path = group.folder / PROBE
    if not path.is_file():
        return ""
    lines = [
        "## What the maps of decoder block 3 hold, before fine-tuning\n",
        "Written by `python -m experiments probe --dataset_dir DIR --weights \"{'GD+LR': 'FILE', ...}\" --output "
        "FILE`, whose help explains the three numbers; all are measured on test patients.\n",
        "| weights | region match | anatomy over place | probe Dice |",
        "|---|---|---|---|",
    ]
    content = _read_numbers(path)
    try:
        for row in content["starts"]:
            keys = ("region_match", "anatomy_over_place", "probe_dice")
            numbers = " | ".join(number_of(check_share(row[key], key)) for key in keys)
            lines.append(f"| {check_text(row['start'], 'a start')} | {numbers} |")
    except (LookupError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error
    return "\n".join([*lines, ""])


def local_stages_section(group: Group) -> str:
    """Show what `python -m experiments local_stages` has written."""
    path = group.folder / LOCAL_STAGES
    if not path.is_file():
        return ""
    content = _read_numbers(path)
    try:
        dice = _by_draw(content, "strategy")
        names = list(next(iter(dice.values())))
        lines = [
            "## Which dense local stage\n",
            "Written by `python -m experiments local_stages --dataset_dir DIR --runs_dir RUNS --output FILE`: Dice "
            f"over the {content['volumes']} patients that are in none of the lists, of networks of one label that "
            "started from each local stage (after GD) and had the recommended recipe. One seed: differences of about "
            ".01 can be chance.\n",
            f"| draw | {' | '.join(names)} |",
            f"|---|{'---|' * len(names)}",
        ]
        lines += [f"| {draw} | {' | '.join(number_of(of[name]) for name in names)} |" for draw, of in dice.items()]
    except (LookupError, TypeError, ValueError, StopIteration) as error:
        raise _damaged(path, error) from error
    return "\n".join([*lines, ""])


def bias_field_section(group: Group) -> str:
    """Show what `python -m experiments bias_field` has written."""
    path = group.figures / "bias_field.json"
    if not path.is_file():
        return ""
    content = _read_numbers(path)
    try:
        weights = check_text(content["checkpoint_sha256"], "checkpoint_sha256")
        lines = [
            "## What bias field correction costs and is worth\n",
            "Written by `python -m experiments bias_field --dataset_dir DIR --checkpoint FILE --output FILE`: the "
            "patients that are in none of the lists, corrected in several ways and segmented with the same weights "
            f"(SHA-256 `{weights}`). Time is the processor's, the difference that of the corrected image.\n",
            "| N4 | time / first | difference, % of the standard deviation | Dice |",
            "|---|---|---|---|",
        ]
        for name, case in content["cases"].items():
            time = "–" if case["time"] is None else number_of(check_share(case["time"], "time"))
            difference = f"{100 * check_share(case['difference'], 'difference'):.1f}"
            dice = f"{check_share(case['dice'], 'dice'):.4f}".lstrip("0")
            lines.append(f"| {check_text(name, 'a case')} | {time} | {difference} | {dice} |")
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, error) from error
    return "\n".join([*lines, ""])


def choosing_section(group: Group) -> str:
    """Show what `python -m experiments choosing` has written, and draw it."""
    path = group.folder / CHOOSING
    if not path.is_file():
        return ""
    content = _read_numbers(path)
    try:
        choices: dict[int, dict[str, float]] = {}
        for choice in content["rows"]:
            dice = check_share(choice["dice"], "dice")
            choices.setdefault(int(choice["number"]), {})[check_text(choice["name"], "a choice")] = dice
        lines = [
            "## Whether choosing what to label helps\n",
            "Written by `python -m experiments choosing --dataset_dir DIR --output FILE` with "
            f"{_settings(content)}: Dice over the {content['volumes']} patients that are in none of the lists, of the "
            "network trained on the volumes that a rule chose among those to pre-train on. `densest` is the rule of "
            "`select.json`. In brackets: how many of the draws at random are worse.\n",
            f"| labelled | {' | '.join(_RULES)} | drawn at random | the paper's draws |",
            f"|---|{'---|' * len(_RULES)}---|---|",
        ]
        for number, dice_of in choices.items():
            drawn = [value for name, value in dice_of.items() if name.startswith("random")]
            paper = [value for name, value in dice_of.items() if name.startswith("paper")]
            cells = [
                f"{number_of(dice_of[rule])} ({sum(value < dice_of[rule] for value in drawn)} of {len(drawn)})"
                if rule in dice_of
                else "–"
                for rule in _RULES
            ]
            spreads = [f"{spread_of(values)} ({len(values)})" if values else "–" for values in (drawn, paper)]
            lines.append(f"| {number} | {' | '.join([*cells, *spreads])} |")
        picture = group.figures / "choosing.png"
        draw_choices(picture, choices)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, error) from error
    return "\n".join([*lines, "", f"![Dice by what was labelled]({group.link(picture)})\n"])


def some_slices_section(group: Group) -> str:
    """Show what `python -m experiments some_slices` has written."""
    path = group.folder / SOME_SLICES
    if not path.is_file():
        return ""
    content = _read_numbers(path)
    try:
        dice = _by_draw(content, "way")
        lines = [
            "## Whether a slice of each of eight volumes is worth a volume\n",
            "Written by `python -m experiments some_slices --dataset_dir DIR --output FILE` with "
            f"{_settings(content)}: Dice over the {content['volumes']} test volumes, trained on one labelled slice of "
            "each of eight volumes, at levels from base to apex, or on one whole volume.\n",
            "| draw | eight slices | one volume |",
            "|---|---|---|",
        ]
        for draw, of in dice.items():
            cells = [number_of(of[way]) if way in of else "–" for way in _WAYS]
            lines.append(f"| {draw} | {' | '.join(cells)} |")
        if gains := [of["slices"] - of["volume"] for of in dice.values() if len(of) == len(_WAYS)]:
            lines += ["", f"Eight slices less one volume, ± standard error: {with_error(gains)} ({len(gains)} pairs)."]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, error) from error
    return "\n".join([*lines, ""])


def turns_section(group: Group) -> str:
    """Show what `python -m experiments turns` has written."""
    path = group.folder / TURNS
    if not path.is_file():
        return ""
    content = _read_numbers(path)
    try:
        test = content["test"]
        names = list(content["networks"][0]["cases"])
        lines = [
            "## How sure the network is\n",
            "Written by `python -m experiments turns --dataset_dir DIR --checkpoints \"{'NAME': 'FILE', ...}\" "
            "--output FILE`: rank correlation of expected and true Dice (mean over the structures) on the patients "
            "that are in none of the lists, and in brackets the mean absolute error. The expectation is the mean Dice "
            "between the segmentations of slices turned by so many degrees, two by two; the bundles take those of the "
            "first column.\n",
            f"| network | {' | '.join(check_text(name, 'a case') for name in names)} |",
            f"|---|{'---|' * len(names)}",
        ]
        for network in content["networks"]:
            cells = [_agreement(network["cases"][name]) for name in names]
            lines.append(f"| {check_text(network['name'], 'a name')} | {' | '.join(cells)} |")
        structures = ", ".join(
            f"{check_text(name, 'a structure')} {_agreement(values)}" for name, values in test["calibration"].items()
        )
        caught = ", ".join(
            f"{int(row['worst_caught'])} of the {int(row['number'])} worst among the {int(row['number'])} least sure "
            f"(by chance {float(row['caught_by_chance']):.1f})"
            for row in test["look_at"]
        )
        number = int(test["calibration"]["mean"]["number"])
        lines += [
            "",
            f"The first network on the {number} test volumes: {structures}. {caught[0].upper() + caught[1:]}.",
        ]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, error) from error
    return "\n".join([*lines, ""])


def _agreement(values: Mapping[str, Any]) -> str:
    correlation = f"{float(values['rank_correlation']):.2f}"
    return f"{correlation} ({number_of(check_share(values['mean_absolute_error'], 'mean_absolute_error'))})"


def levers_section(group: Group) -> str:
    """Show what was tried for the recommended recipe, also what did not help."""
    path = group.folder / LEVERS
    if not path.is_file():
        return ""
    content = _read_numbers(path)
    try:
        structures = [check_text(name, "a structure") for name in content["structures"]]
        lines = [
            "## What was tried for the recommended recipe\n",
            f"{check_text(content['about'], 'about')}\n",
            f"| what | labelled | draw, seed | steps x batch | {' | '.join(structures)} | mean | turned | beside |",
            f"|---|---|---|---|{'---|' * len(structures)}---|---|---|",
        ]
        for run in content["runs"]:
            dice = [number_of(check_share(run["dice"][name], name)) for name in structures]
            turned = number_of(check_share(run["turned"], "turned")) if run["turned"] is not None else "–"
            lines.append(
                f"| {check_text(run['what'], 'what')} | {run['num_labelled']} | {run['draw']}, {run['seed']} | "
                f"{run['steps']} x {run['batch_size']} | {' | '.join(dice)} | "
                f"{number_of(check_share(run['mean'], 'mean'))} | {turned} | {run['compared']} |"
            )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, error) from error
    return "\n".join([*lines, ""])


def _read_numbers(path: Path) -> dict[str, Any]:
    try:
        return read_record(path, _MAKE_AGAIN)
    except RecordError as error:
        raise ResultError(str(error)) from error


def _by_draw(content: Mapping[str, Any], key: str) -> dict[str, dict[str, float]]:
    """Return the Dice of a study's rows by draw and by what the key says."""
    dice: dict[str, dict[str, float]] = {}
    for row in content["rows"]:
        draw, name = check_text(row["draw"], "a draw"), check_text(row[key], f"a {key}")
        dice.setdefault(draw, {})[name] = check_share(row["dice"], "dice")
    return dice


def _settings(content: Mapping[str, Any]) -> str:
    """Name the settings that a study was given."""
    return ", ".join(f"`{name}` {value}" for name, value in content["settings"].items()) or "the defaults"


def _damaged(path: Path, reason: object) -> ResultError:
    return ResultError(f"{path} is not a whole file of its kind ({reason!r}): {_MAKE_AGAIN}.")
