"""What a newcomer meets first: the image of Docker and the forms for issues. Neither Docker nor a forge is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from .places import REPOSITORY

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
FORMS = sorted((REPOSITORY / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def instruction(name: str) -> str:
    """Return what is behind the only, or the last, instruction of this name."""
    return re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)[-1]


def test_the_image_has_a_python_that_is_supported():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = re.fullmatch(r"python:(3\.\d+)-slim", instruction("FROM"))[1]
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]


def test_the_version_of_torch_is_found():
    command = re.search(r"\$\((grep [^)]*)\)", DOCKERFILE)[1]
    done = subprocess.run(["sh", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"torch==[\d.]+\n", done.stdout)


def test_a_command_runs_in_a_copy_of_the_bundle(tmp_path):
    """The entry point, with another folder for /workspace."""
    shell, options, script, name = json.loads(instruction("ENTRYPOINT"))
    script = script.replace("/workspace", str(tmp_path))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY), "BUNDLE": "mmwhs"}
    command = [shell, options, script, name, "sh", "-c", "pwd; echo kept >> note; cat note"]
    for number in (1, 2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-number - 1 :] == [str(tmp_path / "bundle_mmwhs"), *["kept"] * number]
    assert (tmp_path / "bundle_mmwhs" / "configs" / "train.json").is_file()
    failed = subprocess.run(command, env={**environment, "BUNDLE": "heart"}, capture_output=True, text=True)
    assert failed.returncode and "name must be acdc" in failed.stderr


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_forms_for_issues_are_whole(form):
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.stem == "config":
        assert content == {"blank_issues_enabled": True}
        return
    assert content["name"] and content["description"] and content["labels"]
    fields = [field for field in content["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["type"] in ("textarea", "input") and field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)
