"""Export a bundle: a folder and a zip that need nothing of this repository."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import common
from bundles.json_text import layout
from bundles.run import commit
from common.checkpoints import content_hash

from .archive import check_archive, write_zip
from .documents import write_documents
from .entries import LARGEST_FILE
from .source import MODEL, Bundle, ReleaseError, check_card, check_metrics, check_version, check_weights, read_bundle
from .torchscript import TORCHSCRIPT, write_torchscript
from .vendor import vendor

_NO_OPTIONS = ("imports", "training", "run")
_IGNORED = shutil.ignore_patterns("__pycache__", ".*")


def export(
    bundle: str, out: str = "dist", large_files_url: str | None = None, train_options: dict[str, Any] | None = None
) -> None:
    """Write `out`/NAME and `out`/NAME_vVERSION.zip with its SHA-256, the same to the byte every time.

    Args:
        bundle: the bundle's folder, such as bundle_acdc.
        out: the folder to write to; made if needed.
        large_files_url: the address below which files are going to be. If given, the pre-trained weights are not in the
            bundle but beside it in `out`, to be put there, and are listed in its `large_files.json`.
        train_options: values of options of `train.json`, for a bundle of one's own use, as in MONAI Label, where no
            command line can give them. Only the folder is written then, no zip.

    Raises:
        ReleaseError: if the bundle must not be released (see `release.source` and `release.vendor`), a file is larger
            than the model zoo allows or changes meanwhile, something of this name is in `out` already, which is left
            as it is, or `train.json` has no such option.
    """
    source = read_bundle(bundle)
    check_version(source.metadata, f"{source.folder / 'configs' / 'metadata.json'}")
    check_weights(source)
    check_card(source)
    check_metrics(source)
    listed = [name for name in source.weights if name != MODEL and large_files_url]
    target = Path(out).resolve()
    archive, assets = f"{source.stem}.zip", {f"{source.stem}_{name}": name for name in listed}
    for name in (source.name, archive, f"{archive}.sha256", *assets):
        if (target / name).exists():
            raise ReleaseError(
                f"{target / name} exists and is left as it is: choose another folder for `out`, or move it away. What "
                "was released is never changed; a change needs a new version."
            )
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".unfinished-") as temporary:
        work = Path(temporary)
        folder = work / source.name
        _write_bundle(source, folder, listed, large_files_url)
        if train_options:
            _set_options(folder / "configs" / "train.json", train_options)
        else:
            write_zip(folder, work / archive)
            check_archive(work / archive)
            checksum = f"{content_hash(work / archive)}  {archive}\n"
            (work / f"{archive}.sha256").write_text(checksum, encoding="utf-8")
        for asset, name in assets.items():
            _copy_weights(source, name, work / asset)
        for path in sorted(work.iterdir()):
            path.rename(target / path.name)
    weights = ", ".join(source.weights) or "NO WEIGHTS, nothing measured"
    written = source.name if train_options else f"{archive} and {source.name}"
    print(f"Wrote {written} to {target}: {weights}; source {commit()}.")
    if large_files_url:
        for asset in assets:
            print(f"To be put at {large_files_url.rstrip('/')}/{asset}: {target / asset}.")


def _write_bundle(source: Bundle, folder: Path, listed: list[str], url: str | None) -> None:
    """Write all files of a release into a folder."""
    for part in ("configs", "docs"):
        shutil.copytree(source.folder / part, folder / part, ignore=_IGNORED)
    shutil.copyfile(source.folder / "LICENSE", folder / "LICENSE")
    (folder / "models").mkdir()
    for name in source.weights:
        if name not in listed:
            _copy_weights(source, name, folder / "models" / name)
    if listed:
        (folder / "large_files.json").write_text(json.dumps(_large_files(source, listed, url)), encoding="utf-8")
    metadata = {**source.metadata, "source": {"version": common.__version__, "commit": commit()}}
    described = folder / "configs" / "metadata.json"
    described.write_text(json.dumps(metadata), encoding="utf-8")
    write_documents(source, folder)
    vendor(folder)
    if MODEL in source.weights:
        made = {"made_from": MODEL, "sha256": write_torchscript(source, folder)}
        metadata["weights"] = {**source.weights, TORCHSCRIPT: made}
        described.write_text(json.dumps(metadata, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
    for path in folder.rglob("*"):
        if path.stat().st_size > LARGEST_FILE:
            raise ReleaseError(
                f"{path.relative_to(folder)} has {path.stat().st_size:,} bytes, the model zoo allows {LARGEST_FILE:,} "
                "in a bundle: pass large_files_url if it is a pre-trained file."
            )


def _set_options(path: Path, options: dict[str, Any]) -> None:
    """Set options of an exported config."""
    config = json.loads(path.read_text(encoding="utf-8"))
    known = [name for name, value in config.items() if not isinstance(value, dict) and name not in _NO_OPTIONS]
    if unknown := [name for name in options if name not in known]:
        raise ReleaseError(
            f"train_options must be options of {path.name}, got {', '.join(unknown)}. There are {', '.join(known)}."
        )
    path.write_text(layout({**config, **options}), encoding="utf-8")


def _copy_weights(source: Bundle, name: str, target: Path) -> None:
    """Copy a file of weights, and check of the copy that it is the one that the metadata name."""
    path = source.folder / "models" / name
    shutil.copyfile(path, target)
    if (found := content_hash(target)) != source.weights[name]["sha256"]:
        raise ReleaseError(
            f"{path} was changed while it was exported: the copy has the SHA-256 {found}, the metadata name "
            f"{source.weights[name]['sha256']}. Export it again when nothing writes to it."
        )


def _large_files(source: Bundle, listed: list[str], url: str | None) -> dict[str, list[dict[str, str]]]:
    """Return what `download_large_files` of MONAI needs to fetch files and to check them."""
    return {
        "large_files": [
            {
                "path": f"models/{name}",
                "url": f"{str(url).rstrip('/')}/{source.stem}_{name}",
                "hash_val": source.weights[name]["sha256"],
                "hash_type": "sha256",
            }
            for name in listed
        ]
    }
