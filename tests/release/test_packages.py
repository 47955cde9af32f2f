"""A released bundle needs the packages that its metadata name and no others."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import json
import re
import sys
from pathlib import Path

import nibabel
import pytest

from tests.phantoms import as_text, make_phantom
from tests.places import BUNDLES

from .clean_process import run_clean
from .environments import install_packages, link_packages, named_packages
from .made_up_repository import NAME

COMMAND_LINE = "monai.bundle.__main__"
# What code that the bundle uses imports when it needs it, without requiring it; where that is written.
LEFT_TO_THE_USER = {
    "skimage": ("monai.transforms.utils", 'optional_import("skimage'),  # largest connected components
    "tensorboard": ("torch.utils.tensorboard", "import tensorboard"),  # the handlers' writer
    "fire": (COMMAND_LINE, 'optional_import("fire")'),
    "filelock": ("torch.utils._filelock", "from filelock import"),  # torch requires it as well
}


def imported(text):
    """Return the names of the packages that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def named_in(content, key=""):
    """Return the names of the packages that a config's imports and targets name."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from named_in(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from named_in(value)
    elif isinstance(content, str):
        if match := re.match(r"\$(?:import|from) (\w+)", content):
            yield match[1]
        elif key == "_target_" and "." in content:
            yield content.split(".")[0].removeprefix("$")


def needed(bundle):
    """Return the names of the packages that a released bundle imports, beside those of Python itself and its own."""
    names = set()
    for path in (bundle / "scripts").rglob("*.py"):
        names |= set(imported(path.read_text(encoding="utf-8")))
    for path in (bundle / "configs").glob("*.json"):
        names |= set(named_in(json.loads(path.read_text(encoding="utf-8"))))
    return names - set(sys.stdlib_module_names) - {"scripts"}


@functools.cache
def distributions():
    return importlib.metadata.packages_distributions()


def providers(module):
    return {name.lower() for name in distributions()[module]}


@pytest.mark.parametrize("module", LEFT_TO_THE_USER)
def test_what_others_import_is_still_imported_there(module):
    where, text = LEFT_TO_THE_USER[module]
    assert text in Path(importlib.util.find_spec(where).origin).read_text(encoding="utf-8")


def test_what_is_imported_is_named_and_what_is_named_is_imported(released):
    bundle = released / NAME
    modules = needed(bundle)
    assert {"torch", "monai", "numpy", "nibabel", "ignite", "itk", "tqdm", "matplotlib"} <= modules
    modules |= set(LEFT_TO_THE_USER)
    named = set(named_packages(bundle))
    assert {module for module in modules if not providers(module) & named} == set()
    assert named - set().union(*map(providers, modules)) == set()


def test_an_import_that_is_not_named_is_found(released, tmp_path):
    for text in ("import yaml", "def f():\n    from yaml import safe_load"):
        (tmp_path / "scripts").mkdir(exist_ok=True)
        (tmp_path / "scripts" / "new.py").write_text(f"from .x import y\nimport os\n{text}\n")
        assert needed(tmp_path) == {"yaml"}
    (tmp_path / "configs").mkdir()
    config = {"imports": ["$import pandas"], "a": [{"_target_": "sklearn.svm.SVC"}, {"_target_": "Compose"}]}
    (tmp_path / "configs" / "new.json").write_text(json.dumps(config))
    assert needed(tmp_path) == {"yaml", "pandas", "sklearn"}


def test_all_bundles_name_the_same():
    first, *others = (named_packages(bundle) for bundle in BUNDLES.values())
    assert all(other == first for other in others)


def test_without_a_package_the_command_line_says_so(released, tmp_path):
    """The packages are those of the folder: without `fire` there is no command line."""
    packages = named_packages(released / NAME)
    del packages["fire"]
    site = link_packages(packages, tmp_path / "site")
    done = run_clean(tmp_path, "monai.bundle", "--help", site=site, check=False)
    assert done.returncode and done.stderr.rstrip().endswith("No module named 'fire'")


@pytest.mark.slow
def test_commands_with_the_packages_installed_by_pip(exported, tmp_path):
    """Fine-tuning, evaluation and segmentation as the manual has them, with what pip makes of the names."""
    bundle = exported[1] / NAME
    site = install_packages(named_packages(bundle), tmp_path / "site")
    assert not [name for name in ("pytest", "onnx", "common") if (site / name).exists()]
    phantom = make_phantom("acdc", tmp_path / "phantom")
    output = {"ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output", "cache_dir": tmp_path / "cache"}

    def command(config, **options):
        own = {"output_dir": output["output_dir"]} if config == "inference" else output
        values = {**phantom.settings(config, tmp_path), **own, **options}
        arguments = [
            part for key, value in values.items() for part in (f"--{key}", str(as_text(value)).replace(" ", ""))
        ]
        run_clean(bundle, "monai.bundle", "run", "run", f"--config_file=configs/{config}.json", *arguments, site=site)

    command("train", pretrained_dir=bundle / "models")
    assert (tmp_path / "models" / "model.pt").is_file()
    command("evaluate", checkpoint=bundle / "models" / "model.pt")
    assert json.loads((tmp_path / "output" / "evaluation.json").read_text())["mean_dice"]
    image = phantom.image(list(phantom.items)[-1])
    command("inference", input=image, checkpoint=bundle / "models" / "model.pt")
    segmented = nibabel.load(tmp_path / "output" / image.name.replace(".nii", "_seg.nii"))
    assert segmented.shape == nibabel.load(image).shape[:3]
