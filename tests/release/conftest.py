"""A repository with a bundle that has weights and results, its export, and a server to download it from."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from release.export import export
from tests.places import REPOSITORY

from .environments import link_packages, named_packages
from .made_up_repository import NAME, make_repository


@pytest.fixture(scope="session")
def named_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages that the bundle's metadata name, what these require, and nothing else."""
    return link_packages(named_packages(REPOSITORY / NAME), tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def _repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    make_repository(root)
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
