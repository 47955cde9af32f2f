"""The notebook of the first hour: run cell by cell in a kernel where the extra `notebook` is installed."""

from __future__ import annotations

import ast
import json
import os

import pytest

from .places import REPOSITORY
from .test_documents import LINK, is_there

NOTEBOOK = REPOSITORY / "docs" / "first_hour.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
SOURCES = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def test_nothing_that_was_measured_is_stored():
    """Numbers and pictures of phantoms would be taken for results."""
    assert SOURCES
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CELLS if "outputs" in cell)


def test_imports_are_there():
    nodes = [node for source in SOURCES for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in nodes if (REPOSITORY / node.module.split(".")[0]).is_dir()]
    assert ours
    assert [alias.name for node in ours for alias in node.names if not is_there(node.module, alias.name)] == []


def test_links_lead_somewhere():
    links = [
        link for cell in CELLS if cell["cell_type"] == "markdown" for link in LINK.findall("".join(cell["source"]))
    ]
    assert links and [link for link in links if not (NOTEBOOK.parent / link).exists()] == []


def test_every_cell_runs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="the extra `notebook` is not installed")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("FIRST_HOUR_QUICK", "1")
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    made = {path.relative_to(tmp_path / "first_hour").as_posix() for path in (tmp_path / "first_hour").rglob("*")}
    assert {"models/pretrained_encoder.pt", "models/model.pt", "model.ts", "evaluate/evaluation.json"} <= made
    shown = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(shown) == 2
