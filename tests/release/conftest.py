"""A repository with a bundle that has weights and results, its export, and processes that cannot see ours."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from common.checkpoints import content_hash, save_atomically
from common.networks import UNet2d
from common.records import write_record
from experiments.grid import SCHEDULES, Cell, Pretraining
from experiments.ship import model_card
from release.export import export
from release.results import metrics_of
from tests.conftest import REPOSITORY
from tests.experiments.made_up import make_result

from .environments import link_packages, named_packages

NAME = "bundle_acdc"
PARTS = {
    "pretrained_encoder.pt": ("encoder.",),
    "pretrained_encoder_decoder.pt": ("encoder.", "decoder.blocks.0.", "decoder.blocks.1.", "decoder.blocks.2."),
    "model.pt": ("",),
}
CELL = Cell("acdc", Pretraining("GD"), 1, "c1", 0, SCHEDULES["smoke"])
DICE = {"RV": 0.5, "Myo": 0.25, "LV": 0.75, "mean": 0.5}
RESULT = make_result(CELL, DICE)
# Runs a module or a file as Python does by itself, with the given folders and the current one on the path and nothing
# else: without `site` there is neither an editable install nor a folder of the user, and PYTHONPATH is ignored.
_BOOT = """
import runpy, sys
cut = sys.argv.index("--")
sys.path[:0], sys.path[len(sys.path):] = [""], sys.argv[1:cut]
sys.argv = sys.argv[cut + 1:]
if sys.argv[0].endswith(".py"):
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
_SITE = [entry for entry in sys.path if Path(entry).name == "site-packages"]


def run_clean(
    cwd: Path, *arguments: object, site: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a module or a file in a process that does not see this repository.

    It sees the packages in `site`, all that are installed here if there is none.
    """
    folders = _SITE if site is None else [str(site)]
    command = [sys.executable, "-I", "-S", "-c", _BOOT, *folders, "--", *map(str, arguments)]
    # Whatever asks for something beyond this machine gets nowhere.
    environment = {**os.environ, "https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="session")
def named_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages that the bundle's metadata name, what these require, and nothing else."""
    return link_packages(named_packages(REPOSITORY / NAME), tmp_path_factory.mktemp("site"))


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def edit(path: Path, **changes: object) -> None:
    """Change entries of a JSON file; None removes one."""
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def write_weights(bundle: Path) -> None:
    """Give a bundle random weights, described as those of a run are."""
    torch.manual_seed(0)
    state = UNet2d(num_classes=4).state_dict()
    entries = {}
    for name, parts in PARTS.items():
        path = bundle / "models" / name
        save_atomically({key: value for key, value in state.items() if key.startswith(parts)}, path)
        entries[name] = {
            "cell": CELL.name,
            "schedule": CELL.schedule.name,
            "pretraining": CELL.pretraining.name,
            "sha256": content_hash(path),
        }
    entries["model.pt"] |= {"largest_component": False, "result": "results/cell.json"}
    path = bundle / "configs" / "metadata.json"
    edit(path, weights=entries, eval_metrics=metrics_of(RESULT))
    card = model_card(bundle, json.loads(path.read_text(encoding="utf-8")), RESULT, CELL)
    (bundle / "models" / "README.md").write_text(card, encoding="utf-8")


def copy_bundle(root: Path, name: str = NAME) -> Path:
    """Copy the sources of a bundle without its weights and without what is said of them."""
    bundle = root / name
    for part in ("configs", "docs"):
        shutil.copytree(REPOSITORY / NAME / part, bundle / part)
    shutil.copyfile(REPOSITORY / NAME / "LICENSE", bundle / "LICENSE")
    edit(bundle / "configs" / "metadata.json", weights={}, eval_metrics={})
    return bundle


@pytest.fixture(scope="session")
def _repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    write_weights(copy_bundle(root))
    write_record(root / "results" / "cell.json", RESULT)
    git(root, "init", "-q")
    git(root, "add", "results")
    git(root, "commit", "-qm", "results")
    return root


@pytest.fixture
def bundle(_repository: Path, tmp_path: Path) -> Path:
    """A bundle with weights in a repository with its committed result, to be changed."""
    shutil.copytree(_repository, tmp_path / "repository")
    return tmp_path / "repository" / NAME


@pytest.fixture(scope="session")
def released(_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was exported, with the pre-trained weights beside it: not to be changed."""
    out = tmp_path_factory.mktemp("released")
    export(str(_repository / NAME), out=str(out), large_files_url="https://example.org/releases")
    return out


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """The names of all bundles of this repository, and the folder to which they were exported as they are."""
    out = tmp_path_factory.mktemp("exported")
    bundles = sorted(path.parents[1] for path in REPOSITORY.glob("bundle_*/configs/metadata.json"))
    for bundle in bundles:
        described = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8")).get("weights", {})
        if trained_here := {path.name for path in (bundle / "models").glob("*.pt")} - set(described):
            pytest.skip(f"{bundle / 'models'} holds weights that were trained here: {', '.join(trained_here)}")
        export(str(bundle), out=str(out))
    return [bundle.name for bundle in bundles], out


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        """Serve a file; one that is asked for below /short/ ends at half of the length that is announced."""
        if not self.path.startswith("/short/"):
            return super().do_GET()
        content = Path(self.directory, self.path.removeprefix("/short/")).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address on loopback from which its files can be had."""
    folder = tmp_path / "www"
    folder.mkdir()
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
