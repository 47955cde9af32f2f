"""Get a dataset: fetched where its terms allow that, otherwise where it is to be had and what to unpack."""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
from pathlib import Path

from monai.apps import DecathlonDataset, download_url, extractall

from .facts import FactsError
from .places import bundle_folder

# By the name of the bundle; what is not here is to be had from its owners only, who want to know to whom they give it.
_TASKS = {"bundle_prostate": "Task05_Prostate"}
_SECTION = re.compile(r"^## Data\n(.*?)^#", re.MULTILINE | re.DOTALL)
_NEEDED = 700_000_000  # bytes: the archive and what is in it


class DownloadError(OSError):
    """A dataset that could not be fetched."""


def data(name: str, out: str = "", accept_terms: bool = False) -> None:
    """Show the terms and the layout of a dataset, and fetch it if that is allowed.

    Only the prostate dataset, MSD Task05, can be fetched without registration. MONAI's downloader does it and compares
    the checksum that MONAI knows.

    Args:
        name: bundle by name or folder, such as "prostate".
        out: the folder that gets `Task05_Prostate`; without it nothing is fetched.
        accept_terms: fetch it; without this the terms are shown only.

    Raises:
        FactsError: if there is no such bundle, or its dataset cannot be fetched.
        DownloadError: if it could not be fetched, or has another checksum.
    """
    folder = bundle_folder(str(name))
    short = folder.name.removeprefix("bundle_")
    print((folder / "docs" / "data_license.txt").read_text(encoding="utf-8"))
    if found := _SECTION.search((folder / "docs" / "README.md").read_text(encoding="utf-8")):
        print(found[1].strip(), end="\n\n")
    task = _TASKS.get(folder.name)
    then = f"python -m bundles check {short} --dataset_dir"
    if task is None:
        print(
            f"Only its owners give it out: get it at the address above, unpack it as shown, then\n\n    {then} FOLDER"
        )
        if out:
            raise FactsError(f"out must be left out for {short}, whose owners alone give it out, got {out!r}.")
        return
    if not out or accept_terms is not True:
        print(
            f"To accept the terms above and fetch it:\n\n    python -m bundles data {short} --out FOLDER --accept_terms"
        )
        return
    fetch(task, Path(out))
    print(f"Fetched. Next:\n\n    {then} {Path(out) / task}")


def fetch(task: str, out: Path) -> None:
    """Fetch a task of the Medical Segmentation Decathlon, unless it is there.

    Raises:
        DownloadError: see `data`.
    """
    url, md5 = DecathlonDataset.resource[task], DecathlonDataset.md5[task]
    target, archive = out / task, out / f"{task}.tar"
    if target.exists():
        print(f"{target} is there already, and left as it is.")
        return
    out.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(out).free) < _NEEDED:
        raise DownloadError(f"{out} must have {_NEEDED:,} bytes free, got {free:,}: make room, or take another folder.")
    try:
        with tempfile.TemporaryDirectory(dir=out) as temporary:  # so that what is there is whole
            # Not MONAI's `download_and_extract`, which asks for the file's name with `requests`, no dependency of ours.
            download_url(url, archive, md5, hash_type="md5")
            extractall(archive, temporary)
            (Path(temporary) / task).rename(target)
    except (OSError, RuntimeError, ValueError, tarfile.TarError) as error:
        raise DownloadError(
            f"{url} could not be fetched to {archive}: {error} Check the network (a proxy is taken from https_proxy), "
            f"and move away a file of that name that is damaged. An archive that was fetched by other means is taken "
            f"from there, if its MD5 is {md5}."
        ) from error
    archive.unlink()
