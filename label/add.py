"""Put a released bundle where a MONAI Label server finds it: fetched, checked and unpacked in one command.

    python -m label.add https://release-address.invalid/bundle_acdc_vX.Y.Z.zip --app monaibundle

MONAI Label's own download cannot do it: it asks the model zoo alone, whatever repository its settings name, and
compares no hash.
"""

from __future__ import annotations

import re
import tempfile
import warnings
import zipfile
from pathlib import Path

import fire
from monai.apps import download_url
from monai.bundle import download_large_files

from release.archive import check_archive
from release.source import ReleaseError

_ADDRESS = re.compile(r"(https?|file)://")
_LARGE_FILES = "large_files.json"


def add(source: str, app: str = "monaibundle", sha256: str | None = None) -> None:
    """Fetch a release, check it, and unpack it into the app's folder of bundles, with the weights that belong to it.

    Nothing is there afterwards if anything goes wrong. A bundle is code, which the server runs: take it from people
    whom you trust.

    Args:
        source: the address of the zip, or a file.
        app: MONAI Label's app for bundles.
        sha256: that of the zip; by default what the file beside it says, which is called like it with `.sha256` behind.

    Raises:
        ReleaseError: if there is no such app, the bundle is there already, something cannot be fetched, or the zip or
            a file of weights is not what its hash says.
    """
    model = Path(app) / "model"
    if not (Path(app) / "main.py").is_file():
        raise ReleaseError(
            f"app must be the folder of MONAI Label's app for bundles, got {app!r}: make it as docs/annotators.md says."
        )
    model.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=model, prefix=".adding-") as temporary:
        archive = Path(source)
        if _ADDRESS.match(str(source)):
            archive = Path(temporary) / str(source).rpartition("/")[2]
            _fetch(str(source), archive)
            if sha256 is None:
                _fetch(f"{source}.sha256", archive.with_name(f"{archive.name}.sha256"), "give --sha256")
        elif sha256 is None and not archive.with_name(f"{archive.name}.sha256").is_file():
            raise ReleaseError(f"{archive} has no file {archive.name}.sha256 beside it: fetch that, or give --sha256.")
        name, version = check_archive(archive, sha256)
        target = model / name
        if target.exists():
            raise ReleaseError(
                f"{target} is there already, perhaps with weights that were trained there: move it away first."
            )
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(temporary)  # its entries were checked
        bundle = Path(temporary) / name
        if (bundle / _LARGE_FILES).is_file():
            try:
                download_large_files(str(bundle))
            except (OSError, ValueError, RuntimeError) as error:
                raise ReleaseError(f"The weights of {name} could not be fetched: {error}") from error
        bundle.rename(target)
    weights = sorted(path.name for path in (target / "models").glob("*.pt"))
    print(f"Added {name} {version} to {model}: {', '.join(weights) or 'no weights, so pre-train it first'}.")
    if "model.pt" not in weights and weights:
        print(f"It segments after the first training, which starts from {weights[0]}.")


def _fetch(address: str, path: Path, remedy: str = "check the address") -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no hash is compared, which is done afterwards
            download_url(address, str(path), progress=False)
    except (OSError, RuntimeError) as error:
        raise ReleaseError(f"{address} could not be fetched ({error}): {remedy}.") from error
    if not path.is_file():  # MONAI says nothing where it may not write
        raise ReleaseError(
            f"{path.parent} must be a folder that can be written to: get the right, or take another app."
        )


if __name__ == "__main__":
    fire.Fire(add)
