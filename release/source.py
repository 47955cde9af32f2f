"""The bundle that is to be released, and what has to be true of it before anything is written."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundles.run import REPOSITORY, load_config
from common.checkpoints import CheckpointError, content_hash, initialise, load_model, load_pretrained

from .results import EVALUATIONS, MAIN_EVALUATION, ResultError, metrics_of, parse_result

MODEL = EVALUATIONS[MAIN_EVALUATION]
_PRETRAINED = re.compile(r"pretrained_(\w+)\.pt")
_NETWORK = re.compile(r"model(_\w+)?\.pt")
_NAME = re.compile(r"bundle_[a-z0-9_]+")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


class ReleaseError(ValueError):
    """A bundle that must not be released as it is, or an archive that must not be unpacked."""


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder and its metadata.

    Attributes:
        folder: holds `configs`, `docs` and `models`.
        metadata: the content of `configs/metadata.json`.
    """

    folder: Path
    metadata: dict[str, Any]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def stem(self) -> str:
        """Name and version, by which the files of a release are called."""
        return f"{self.name}_v{self.metadata['version']}"

    @property
    def weights(self) -> dict[str, dict[str, Any]]:
        """What the metadata say of each file in `models`."""
        return self.metadata.get("weights", {})


def read_bundle(bundle: str) -> Bundle:
    """Read the metadata of a bundle.

    Args:
        bundle: its folder, from here or from the repository.

    Raises:
        ReleaseError: if there is no such bundle, its metadata cannot be read, or its name is not `bundle_...`.
    """
    folders = [Path(bundle).resolve(), REPOSITORY / bundle]
    folder = next((folder for folder in folders if (folder / "configs" / "metadata.json").is_file()), None)
    if folder is None:
        known = ", ".join(sorted(path.parents[1].name for path in REPOSITORY.glob("bundle_*/configs/metadata.json")))
        raise ReleaseError(f"bundle must be a folder with configs/metadata.json, such as {known}, got {bundle!r}.")
    if not _NAME.fullmatch(folder.name):
        raise ReleaseError(
            f"bundle must be called bundle_ and lower-case letters, digits or _, got {folder.name!r}: no bundle of the "
            "model zoo begins so, and MONAI Label takes the zoo's where two have one name."
        )
    path = folder / "configs" / "metadata.json"
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReleaseError(f"{path} is not JSON ({error}).") from error
    return Bundle(folder, metadata)


def check_version(metadata: dict[str, Any], where: str) -> None:
    """Check the model zoo's rules: a version of three numbers that is in the changelog.

    Args:
        metadata: of the bundle.
        where: how it is called in an error.

    Raises:
        ReleaseError: if a rule is broken.
    """
    version, changelog = metadata.get("version"), metadata.get("changelog", {})
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise ReleaseError(f"{where}: version must be three numbers such as 1.2.3, got {version!r}.")
    if version not in changelog:
        raise ReleaseError(
            f"{where}: version {version} is not in its changelog ({', '.join(changelog) or 'which is empty'}): "
            "say there what is new."
        )


def check_weights(bundle: Bundle) -> None:
    """Check that `models` holds the weights that the metadata name, and that they fit `network_def` of `train.json`.

    Raises:
        ReleaseError: if a file is missing, is another one than was described, is not described, or does not fit.
    """
    models = bundle.folder / "models"
    for path in sorted(models.glob("*.pt")):
        if path.name not in bundle.weights:
            raise ReleaseError(
                f"{path}: the metadata have no entry for it in `weights`, so that nobody could tell what it is: run "
                "`python -m experiments ship`, or move the file away."
            )
    for name, entry in bundle.weights.items():
        path = models / name
        found = content_hash(path)
        if found != entry["sha256"]:
            raise ReleaseError(
                f"{path}: {'there is no such file' if found is None else f'its SHA-256 is {found}'}, the metadata name "
                f"one with {entry['sha256']}: run `python -m experiments ship` again."
            )
        try:
            _load(bundle, name)
        except (CheckpointError, ValueError) as error:
            raise ReleaseError(f"{path} does not fit the bundle's network. {error}") from error


def check_card(bundle: Bundle) -> None:
    """Check that the model card is that of the weights and states their licence.

    Raises:
        ReleaseError: if there are weights and there is no such card.
    """
    path = bundle.folder / "models" / "README.md"
    card = path.read_text(encoding="utf-8") if path.is_file() else ""
    licence = f"license: {bundle.metadata.get('weights_license')}"
    for text in (entry["sha256"] for entry in bundle.weights.values()):
        if text not in card or not card.startswith(f"---\n{licence}\n"):
            raise ReleaseError(
                f"{path}: must be the card of these weights, which begins with `{licence}` as the metadata say and has "
                f"the SHA-256 {text}: run `python -m experiments ship` again."
            )


def check_metrics(bundle: Bundle) -> None:
    """Check that `eval_metrics` are those of the result file that was committed for `model.pt`.

    Raises:
        ReleaseError: if they differ, the file is not committed, or there are metrics without a model.
    """
    metrics = bundle.metadata.get("eval_metrics", {})
    if MODEL not in bundle.weights:
        if metrics:
            raise ReleaseError(
                f"eval_metrics must be empty where there is no {MODEL} that they could be of: {metrics}."
            )
        return
    path = bundle.weights[MODEL].get("result")
    try:
        measured = metrics_of(parse_result(_committed(bundle.folder.parent, path), str(path)))
    except ResultError as error:
        raise ReleaseError(f"eval_metrics must be those of a result file. As committed, {error}") from error
    if metrics != measured:
        raise ReleaseError(f"eval_metrics differ from {path}: {metrics} instead of {measured}.")


def _load(bundle: Bundle, name: str) -> None:
    network = load_config(bundle.folder, "train").get_parsed_content("network_def")
    models = bundle.folder / "models"
    if _NETWORK.fullmatch(name):
        load_model(network, models / name)
    elif match := _PRETRAINED.fullmatch(name):
        load_pretrained(network, models / name)  # nothing in it that the network lacks
        initialise(network, match[1], models)  # and all in it that fine-tuning asks for
    else:
        raise ReleaseError(f"Its name must be {MODEL}, model_NAME.pt or pretrained_encoder.pt and the like.")


def _committed(root: Path, path: str | None) -> str:
    """Return the text of a file as it is in the last commit."""
    command = ["git", "-C", str(root), "show", f"HEAD:./{path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if path is None or done.returncode:
        raise ReleaseError(
            f"The result file of {MODEL} must be named in the metadata and committed, got {path!r}. Git says: "
            f"{done.stderr.strip()}"
        )
    return done.stdout
