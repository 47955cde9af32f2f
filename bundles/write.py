"""Write the configs of bundles from the stage templates and the facts of their datasets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from common.files import write_text_atomically

from .facts import FACTS_FILE, Facts, FactsError, read_facts
from .json_text import layout
from .places import bundle_folder, bundles_of_repository

STAGES = Path(__file__).parent / "stages"

_METADATA = "metadata.json"
_COPIES = {"configs/logging.conf": STAGES / "logging.conf", "LICENSE": STAGES / "LICENSE"}
NOT_COMPARED = {
    # Places; of the files there the content is compared.
    *("bundle_root", "dataset_dir", "split_path", "cache_dir", "ckpt_dir", "output_dir", "pretrained_dir"),
    # A run may go on elsewhere, be looked at more often, and be made longer.
    *("device", "precision", "slices_in_memory_gib", "val_interval", "resume", "steps"),
    # What they change are the volumes, whose contents are compared.
    *("labelled", "unlabelled_frames"),
}
_MOST_NAMED = 8  # differences of one file
_FACTS_BY_EXPRESSION = {"label_values", "extra_unlabelled_ids"}


def write(*names: str, check: bool = False) -> None:
    """Write the configs of bundles anew, and say what changes.

    Of `metadata.json` only the part is written that follows from the facts; `splits.json`, documents and weights are
    left alone.

    Args:
        names: bundles by name ("acdc") or folder; all of the repository by default.
        check: write nothing; exit with status 1 if anything would change.

    Raises:
        FactsError: if there is no such bundle, or its facts are wrong.
        SystemExit: see `check`.
    """
    folders = [bundle_folder(str(name)) for name in names] if names else bundles_of_repository()
    changes = [change for folder in folders for change in write_folder(folder, check)]
    for path, what in changes:
        print(f"{path}: {what}")
    if not changes:
        print("All configs are what the templates and the facts give.")
    elif check:
        raise SystemExit(1)


def write_folder(folder: Path, check: bool = False) -> list[tuple[Path, str]]:
    """Write the files of one bundle that are not what they should be; return their paths and what changes.

    Args:
        folder: of the bundle, with its facts.
        check: write nothing.

    Raises:
        FactsError: if the facts are wrong, or the metadata cannot be read.
    """
    changes = []
    for name, new in _texts(folder).items():
        path = folder / name
        old = path.read_text(encoding="utf-8") if path.is_file() else None
        if old != new:
            changes.append((path, describe(old, new)))
            if not check:
                write_text_atomically(path, new)
    return changes


def written(facts: Facts) -> dict[str, dict[str, Any]]:
    """Return the configs that are written of a bundle, by file name; of the metadata the part that is."""
    environment = json_environment(STAGES)
    configs = {
        path.name.removesuffix(".jinja"): render_json(environment, path.name, facts=facts)
        for path in sorted(STAGES.glob("*.json.jinja"))
    }
    for config in configs.values():
        if "lineage" in config:
            options = {option: f"@{option}" for option, value in config.items() if _makes_a_difference(option, value)}
            config["lineage"]["settings"] = {**options, **config["lineage"]["settings"]}
    return configs


def json_environment(folder: Path) -> jinja2.Environment:
    """Make an environment for templates of JSON, in which `{{ value }}` stands for a value as JSON has it."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        # Every value in a template becomes JSON; what a macro gives is JSON already, which `autoescape` marks.
        finalize=lambda value: value if isinstance(value, Markup) else Markup(json.dumps(value, ensure_ascii=False)),
        autoescape=True,
    )


def render_json(environment: jinja2.Environment, name: str, **context: Any) -> dict[str, Any]:
    """Fill in a template.

    Raises:
        ValueError: if that does not give JSON.
    """
    text = environment.get_template(name).render(context)
    try:
        content: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{name} does not give JSON ({error}):\n{text}") from error
    return content


def describe(old: str | None, new: str) -> str:
    """Say what differs between two texts of a file: of a config which ids, or nothing but the layout.

    Args:
        old: None where there is no file.
        new: what is to be written.
    """
    if old is None:
        return "new"
    try:
        before, after = json.loads(old), json.loads(new)
    except ValueError:
        return "another text"
    if before == after:
        return "another layout" if list(before) == list(after) else "another order"
    differences = list(_differences(before, after))
    more = [f"and {len(differences) - _MOST_NAMED} more"] if len(differences) > _MOST_NAMED else []
    return "; ".join([*differences[:_MOST_NAMED], *more])


def _makes_a_difference(option: str, value: Any) -> bool:
    """Whether an option is one of the settings by which runs are told apart."""
    if option in NOT_COMPARED:
        return False
    if option in _FACTS_BY_EXPRESSION:
        return True
    texts = value if isinstance(value, list) else [value]
    return not isinstance(value, dict) and not any(str(text).startswith(("$", "@", "%")) for text in texts)


def _texts(folder: Path) -> dict[str, str]:
    """Return what the files of a bundle should be, by path."""
    texts = {name: source.read_text(encoding="utf-8") for name, source in _COPIES.items()}
    for name, content in written(read_facts(folder / FACTS_FILE)).items():
        if name == _METADATA:
            content = {**_own_metadata(folder / "configs" / name), **content}
            texts[f"configs/{name}"] = json.dumps(content, indent=4, ensure_ascii=False) + "\n"
        else:
            texts[f"configs/{name}"] = layout(content)
    return texts


def _own_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a bundle, most of which is its own."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FactsError(
            f"{path} must be the JSON that says what the bundle is, of which only a part is written ({error}): put it "
            "back, for example from the last commit."
        ) from error
    return content


def _differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            name = f"{where}#{key}" if where else str(key)
            if key not in new:
                yield f"{name} is gone"
            elif key not in old:
                yield f"{name} is new"
            else:
                yield from _differences(old[key], new[key], name)
    elif old != new:
        yield f"{where} changed"
