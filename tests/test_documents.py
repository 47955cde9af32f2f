"""What the documents say and can be looked up: links, commands, modules, options, the citation."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from bundles.write import NOT_COMPARED, STAGES
from tests.places import REPOSITORY

_IGNORED = {".git", "runs", "cache", "output", "dist", "build", ".venv", "gpu_kit"}
DOCUMENTS = sorted(
    path for path in REPOSITORY.rglob("*.md") if not _IGNORED & set(path.relative_to(REPOSITORY).parts[:-1])
)
BUNDLES = sorted(path.parent for path in REPOSITORY.glob("bundle_*/dataset.json"))

_BLOCK = re.compile(r"^```.*?^```$|^    .*?$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!\w+:)([^)\s]+)\)")
_COMMAND = re.compile(r"python3? -m ([\w.]+)(?: +([a-z_]+))?")
# Not ours, and not needed to read the documents.
_ELSEWHERE = {"monailabel.main", "venv"}


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(document: Path) -> list[str]:
    broken = []
    for link in LINK.findall(_BLOCK.sub("", document.read_text(encoding="utf-8"))):
        file, _, anchor = unquote(link).partition("#")
        target = document.parent / file if file else document
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


def unknown_commands(document: Path) -> list[str]:
    unknown = []
    for module, command in _COMMAND.findall(document.read_text(encoding="utf-8")):
        if module in _ELSEWHERE:
            continue
        if importlib.util.find_spec(module) is None:
            unknown.append(module)
        elif (main := REPOSITORY.joinpath(*module.split("."), "__main__.py")).is_file():
            # The dictionary of commands that is given to Fire; the module itself may need packages of an extra.
            if command and not re.search(rf'"{command}": "?\w+', main.read_text(encoding="utf-8")):
                unknown.append(f"{module} {command}")
    return unknown


def missing_names(document: Path) -> list[str]:
    """List what the document's Python imports from this repository and does not get."""
    blocks = re.findall(r"^```python[^\n]*\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    imports = [
        (node.module, alias.name)
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ImportFrom) and node.module and (REPOSITORY / node.module.split(".")[0]).is_dir()
        for alias in node.names
    ]
    return [f"{module}.{name}" for module, name in imports if not is_there(module, name)]


def is_there(module: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document):
    assert broken_links(document) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_imports_are_there(document):
    assert missing_names(document) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_commands_exist(document):
    assert unknown_commands(document) == []


def test_what_is_wrong_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A title, here\n[a](page.md#a-title-here) [b](gone.md) [c](#nowhere) [d](https://example.org/x)\n"
        "python -m experiments demo, python -m experiments dmo, python -m nothing run, python -m release verify\n"
        "```\n[e](in_code.md)\n```\n"
        "```python\nimport os\nfrom bundles.run import load_config, gone\nfrom experiments.stages import x\n```\n"
    )
    assert missing_names(page) == ["bundles.run.gone", "experiments.stages.x"]
    assert broken_links(page) == ["gone.md", "#nowhere"]
    assert unknown_commands(page) == ["experiments dmo", "nothing"]


def test_architecture_names_every_module_of_common():
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([\w/]+\.py)` \|", text.split("## Modules of `common`")[1], re.MULTILINE)
    common = REPOSITORY / "common"
    modules = {path.relative_to(common).as_posix() for path in common.rglob("*.py") if path.name != "__init__.py"}
    assert sorted(listed) == sorted(modules)


def documented_options(text: str) -> set[str]:
    """Return the ids in the first columns of the tables whose head says `id`."""
    tables = re.findall(r"^\| id \|.*\n\|[-| ]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return {
        option for table in tables for row in table.splitlines() for option in re.findall("`(.*?)`", row.split("|")[1])
    }


def stages(bundle: Path) -> list[dict[str, Any]]:
    """Return the configs of a bundle that are written for a stage."""
    names = [path.name.removesuffix(".jinja") for path in STAGES.glob("*.json.jinja")]
    return [json.loads((bundle / "configs" / name).read_text(encoding="utf-8")) for name in names]


@pytest.mark.parametrize("bundle", BUNDLES, ids=name_of)
def test_documented_options_are_ids_of_a_config(bundle):
    options = documented_options((bundle / "docs" / "README.md").read_text(encoding="utf-8"))
    assert len(options) > 5
    assert options <= {option for config in stages(bundle) for option in config}


def test_every_option_is_documented():
    """In the manual of ACDC, to which those of the other bundles refer."""
    text = (REPOSITORY / "bundle_acdc" / "docs" / "README.md").read_text(encoding="utf-8")
    trainings = [config for config in stages(REPOSITORY / "bundle_acdc") if "lineage" in config]
    options = {option for config in trainings for option in config["lineage"]["settings"] if option in config}
    assert len(trainings) == 4
    assert documented_options(text) >= options | NOT_COMPARED - {"bundle_root"}


def test_what_may_differ_when_a_run_goes_on_is_documented():
    text = (REPOSITORY / "bundle_acdc" / "docs" / "README.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"all options of the tables below but places, (.*?):", text, re.DOTALL)
    places = {"bundle_root", *(name for name in NOT_COMPARED if name.endswith(("_dir", "_path")))}
    assert set(re.findall("`(.*?)`", listed)) == NOT_COMPARED - places


def test_citation_is_of_this_version():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert {"title", "authors", "message"} <= set(citation)
    (paper,) = citation["references"]
    assert paper["year"] == 2020 and paper["identifiers"][0]["value"] == "arXiv:2006.10511"


def test_hooks_download_nothing():
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (local,) = hooks["repos"]
    assert local["repo"] == "local"
    assert {hook["language"] for hook in local["hooks"]} == {"system"}
    modules = [_COMMAND.match(hook["entry"])[1] for hook in local["hooks"]]
    assert all(importlib.util.find_spec(module) for module in modules)
    assert {"ruff", "mypy", "bundles"} == set(modules)


@pytest.mark.parametrize("bundle", BUNDLES, ids=name_of)
def test_manuals_have_the_parts_that_the_model_zoo_asks_for(bundle):
    text = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    assert all(f"**{part}**: " in text for part in ("Authors", "Tags", "Licence"))
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    parts = [
        "Data",
        "Preprocessing",
        "Input and output",
        "Commands",
        "Performance",
        "System",
        "Limitations",
        "Citation",
    ]
    assert [title for title in titles if title in parts] == parts
    system = re.search(r"^## System\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)[1]
    assert all(word in system for word in ("memory", "segmentation", "TorchScript", "TensorRT"))


def test_annotators_read_what_was_measured():
    """The table of docs/annotators.md against the file that the measurement wrote."""
    measured = json.loads((REPOSITORY / "docs" / "pictures" / "annotators.json").read_text(encoding="utf-8"))
    page = (REPOSITORY / "docs" / "annotators.md").read_text(encoding="utf-8")
    assert measured["epochs"] == 50 and measured["device"] == "cpu"
    for state, words in [
        ("released", "`model.pt` as released"),
        ("trained_1", "trained on one label"),
        ("trained_2", "trained on two labels"),
    ]:
        dice = list(measured["dice"][state].values())
        seconds = measured["training_seconds"].get(state)
        minutes = f"{seconds / 60:.1f}" if seconds else "–"
        assert len(dice) == 20
        assert f"| {words} | {sum(dice) / 20:.3f} | {min(dice):.3f} | {minutes} |".replace(" 0.", " .") in page
