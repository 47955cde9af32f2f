"""Rooms: which package may import which other of ours, and how long a file may be. Every file is read."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from .places import REPOSITORY

BELOW_ALL = {"common"}
BELOW_MOST = {*BELOW_ALL, "bundles", "release", "phantom", "reference"}
MAY_IMPORT = {
    "common": set(),
    "phantom": BELOW_ALL,
    "reference": BELOW_ALL,
    "bundles": BELOW_ALL,
    "release": {*BELOW_ALL, "bundles"},
    "label": {*BELOW_ALL, "bundles", "release"},
    "deploy": set(),  # it runs where only a release is
    "benchmarks": BELOW_MOST,
    "experiments": BELOW_MOST,
    "experiments.gpu": {*BELOW_MOST, "benchmarks"},  # a kit that runs both elsewhere
    "tests": {*BELOW_MOST, "label", "deploy", "benchmarks", "experiments"},
}
MOST_LINES = 350
PACKAGES = sorted(path.parent.name for path in REPOSITORY.glob("*/__init__.py"))


def imported(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Yield line and module of every import in a file of `package`, with dots; also where functions import."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom(level=0):
                yield node.lineno, str(node.module)
            case ast.ImportFrom():
                parts = package.split(".")[: 1 - node.level or None]  # of the folder that the dots lead to
                names = [node.module] if node.module else [alias.name for alias in node.names]
                yield from ((node.lineno, ".".join([*parts, name])) for name in names)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[first, *_]):
                text = first.values[0] if isinstance(first, ast.JoinedStr) else first
                if name in ("import_module", "__import__") and isinstance(text, ast.Constant):
                    yield node.lineno, str(text.value)


def upwards(source: str, file: str) -> list[str]:
    """List what a file must not import: `file`, line, what it imports and the rule."""
    package = ".".join(file.split("/")[:-1])
    room = next(name for name in (package, package.rpartition(".")[0], package.split(".")[0]) if name in MAY_IMPORT)
    allowed = {room.split(".")[0], *MAY_IMPORT[room]}
    return [
        f"{file}:{line} imports {module}: {room} may import {', '.join(sorted(MAY_IMPORT[room])) or 'none of ours'}"
        for line, module in imported(source, package)
        if module.split(".")[0] in MAY_IMPORT and module.split(".")[0] not in allowed
    ]


def test_every_package_has_a_rule():
    assert set(PACKAGES) == {name for name in MAY_IMPORT if "." not in name}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_down(package):
    files = sorted((REPOSITORY / package).rglob("*.py"))
    assert files
    wrong = [
        line
        for path in files
        for line in upwards(path.read_text(encoding="utf-8"), path.relative_to(REPOSITORY).as_posix())
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("file", "source", "module"),
    [
        ("release/source.py", "import experiments", "experiments"),
        ("release/source.py", "import json, experiments.results as results", "experiments.results"),
        ("release/source.py", "from experiments.results import ResultError", "experiments.results"),
        ("release/source.py", "from ..experiments import grid", "experiments"),
        ("release/deep/source.py", "def f():\n    from label import server", "label"),
        ("common/data/cache.py", "class A:\n    def f(self):\n        import bundles.run", "bundles.run"),
        ("bundles/run.py", "if True:\n    import release", "release"),
        ("phantom/acdc.py", "from tests.places import REPOSITORY", "tests.places"),
        ("reference/loss.py", "from phantom import files", "phantom"),
        ("benchmarks/step.py", "from experiments import cells", "experiments"),
        ("experiments/cells.py", "import benchmarks.harness", "benchmarks.harness"),
        ("experiments/gpu/cells.py", "import tests", "tests"),
        ("label/pictures.py", "import importlib\nimportlib.import_module('experiments.plots')", "experiments.plots"),
        ("label/pictures.py", "__import__('benchmarks')", "benchmarks"),
        ("label/pictures.py", "import_module(f'benchmarks.{name}')", "benchmarks."),
    ],
)
def test_imports_that_run_up_are_found(file, source, module):
    (line,) = upwards(source, file)
    assert line.startswith(f"{file}:{source.count(chr(10)) + 1} imports {module}: ")


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("label/pictures.py", "from release.export import export\nfrom .server import serve\nimport json"),
        ("release/source.py", "from .results import experiments\nfrom . import label\nfrom bundles.run import commit"),
        ("experiments/studies/probe.py", "from ..plots import benchmarks\nfrom .. import cells\nfrom . import tests"),
        ("experiments/gpu/deep/cells.py", "from benchmarks import harness\nimport experiments.cells"),
        ("common/data/cache.py", "import commonplace\nimport torch.testing\nfrom ..files import atomic_file"),
        ("tests/conftest.py", "import label, benchmarks, experiments"),
    ],
)
def test_imports_that_run_down_or_stay_are_not(file, source):
    assert upwards(source, file) == []


@pytest.mark.parametrize("package", sorted(set(PACKAGES) - {"tests"}))
def test_files_have_one_job(package):
    long = {
        path.relative_to(REPOSITORY).as_posix(): lines
        for path in (REPOSITORY / package).rglob("*.py")
        if (lines := path.read_text(encoding="utf-8").count("\n")) > MOST_LINES
    }
    assert not long, f"{long}: a file of the product has at most {MOST_LINES} lines; cut it by its jobs."


def test_dots_lead_up_the_folders():
    source = "from . import a, b\nfrom .c import d\nfrom .. import e\nfrom ..f import g"
    assert [module for _, module in imported(source, "x.y")] == ["x.y.a", "x.y.b", "x.y.c", "x.e", "x.f"]
