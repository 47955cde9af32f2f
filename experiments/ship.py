"""Put the weights of finished runs into a bundle, with what was measured of them and a model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundles.places import REPOSITORY, RUNS
from common.checkpoints import content_hash, read_weights
from common.files import atomic_file, write_text_atomically
from release.front_matter import front_matter, measured
from release.results import EVALUATIONS, MAIN_EVALUATION, metrics_of

from .cells import bundle_of, stages_of
from .grid import SCHEDULES, Cell
from .recipes import OUTPUT
from .results import cell_of, read_any_result

_MODEL = EVALUATIONS[MAIN_EVALUATION]
_CHOSEN = """

The recipe was chosen, and these weights were, on labelled volumes that are in no list of the split: neither for
pre-training nor for the test nor in a draw. The test volumes had no part in it."""
_ENCODER, _DECODER = "pretrained_encoder.pt", "pretrained_encoder_decoder.pt"


def ship(result: str, decoder_result: str, runs_dir: str = str(RUNS)) -> None:
    """Copy the weights of two cells' runs into their bundle's `models`, and write down what they are.

    `pretrained_encoder.pt` and `model.pt` are those of the first cell, `pretrained_encoder_decoder.pt` is that of the
    second one. `eval_metrics` and `weights` of the bundle's metadata and the model card `models/README.md` are written
    from the result files.

    Args:
        result: file of a cell whose pre-training is global.
        decoder_result: file of a cell whose pre-training is global and local, of the same dataset.
        runs_dir: where the cells were run.

    Raises:
        ResultError: if a result file is missing or damaged, or the weights of its run are.
        ValueError: if a cell has not the pre-training that is asked for, or the two have different datasets.
    """
    content = read_any_result(Path(result))
    cell, decoder_cell = cell_of(content), cell_of(read_any_result(Path(decoder_result)))
    _check(cell, decoder_cell)
    runs = Path(runs_dir).resolve()
    stages, decoder_stages = (stages_of(one, runs / one.schedule.name) for one in (cell, decoder_cell))
    sources = {
        _ENCODER: (cell, stages[0].folder / _ENCODER),
        _DECODER: (decoder_cell, decoder_stages[-2].folder / _DECODER),
        _MODEL: (cell, stages[-1].folder / _MODEL),
    }
    for _, path in sources.values():
        read_weights(path)  # before anything is copied
    bundle = bundle_of(cell.dataset)
    weights: dict[str, Any] = {}
    for name, (own, path) in sources.items():
        with atomic_file(bundle / "models" / name) as temporary:
            shutil.copyfile(path, temporary)
        weights[name] = _described(own, bundle / "models" / name)
    weights[_MODEL] |= _tested(cell, result)
    path = bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    metadata["eval_metrics"] = metrics_of(content)
    metadata["weights"] = weights
    write_text_atomically(path, json.dumps(metadata, indent=4, ensure_ascii=False) + "\n")
    write_text_atomically(bundle / "models" / "README.md", model_card(bundle, metadata, content, cell))
    print(f"Wrote {', '.join(weights)} and README.md to {bundle / 'models'}.")


def ship_beside(result: str, name: str = "model_all_labels.pt", runs_dir: str = str(RUNS)) -> None:
    """Copy the network of another cell's run beside the `model.pt` that `ship` has put into the bundle.

    It takes part in nothing by itself: `--checkpoint` chooses it. The metadata and the model card name it with what was
    measured of it. `ship` leaves it out again.

    Args:
        result: file of the cell.
        name: of the file; it begins with "model_", so that it is longer than `model.pt`, which MONAI Label takes for
            that alone.
        runs_dir: where the cell was run.

    Raises:
        ResultError: if a result file is missing or damaged, or the weights of the run are.
        ValueError: if the name is another, or nothing was shipped before.
    """
    if not (name.startswith("model_") and name.endswith(".pt") and Path(name).name == name):
        raise ValueError(f"name must be of the form model_NAME.pt, got {name!r}: give it such a name.")
    content = read_any_result(Path(result))
    cell = cell_of(content)
    bundle, source = bundle_of(cell.dataset), stages_of(cell, Path(runs_dir).resolve() / cell.schedule.name)[-1]
    path = bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    if _MODEL not in metadata.get("weights", {}):
        raise ValueError(f"{bundle.name} must have weights that were shipped: run `python -m experiments ship` first.")
    read_weights(source.folder / _MODEL)  # before anything is copied
    with atomic_file(bundle / "models" / name) as temporary:
        shutil.copyfile(source.folder / _MODEL, temporary)
    metadata["weights"][name] = _described(cell, bundle / "models" / name) | _tested(cell, result)
    write_text_atomically(path, json.dumps(metadata, indent=4, ensure_ascii=False) + "\n")
    main = read_any_result(REPOSITORY / metadata["weights"][_MODEL]["result"])
    write_text_atomically(bundle / "models" / "README.md", model_card(bundle, metadata, main, cell_of(main)))
    print(f"Wrote {name} and README.md to {bundle / 'models'}.")


def _described(cell: Cell, path: Path) -> dict[str, Any]:
    """Return what the metadata say of a file of weights."""
    return {
        "cell": cell.name,
        "schedule": cell.schedule.name,
        "pretraining": cell.pretraining.name,
        "sha256": content_hash(path),
    }


def _tested(cell: Cell, result: str) -> dict[str, Any]:
    """Return what the metadata say besides of a network that was evaluated: how, and where the result is."""
    options = {name: getattr(cell.recipe, name) for name in OUTPUT}
    return {**options, "result": Path(result).resolve().relative_to(REPOSITORY).as_posix()}


def model_card(bundle: Path, metadata: dict[str, Any], result: dict[str, Any], cell: Cell) -> str:
    """Write the model card of a bundle's weights from its metadata and the result file of `model.pt`."""
    evaluation = result["evaluations"][MAIN_EVALUATION]
    structures = [name for name in evaluation["mean_dice"] if name != "mean"]
    numbers = " | ".join(f"{evaluation['mean_dice'][name]:.3f}" for name in (*structures, "mean"))
    worst = min(evaluation["volumes"], key=lambda volume: volume["mean"])
    weights = metadata["weights"]
    files = "\n".join(
        f"| `{name}` | {entry['pretraining']} | {entry['cell']}, {entry['schedule']} | `{entry['sha256']}` |"
        for name, entry in weights.items()
    )
    defaults = json.loads((bundle / "configs" / "evaluate.json").read_text(encoding="utf-8"))
    values = {name: getattr(cell.recipe, name) for name in OUTPUT}
    options = "".join(f" --{name} {value}" for name, value in values.items() if value != defaults[name])
    header = front_matter(
        metadata["weights_license"], **measured(bundle.name, cell.dataset, metadata["data_source"], result)
    )
    return f"""{header}
# Weights of {metadata["name"]}

Written by `python -m experiments ship` from `{weights[_MODEL]["result"]}`.

{metadata["description"]}.

| file | pre-training | run, schedule | SHA-256 |
|---|---|---|---|
{files}

`{_ENCODER}` holds the encoder, `{_DECODER}` the encoder and decoder blocks, `{_MODEL}` the whole network with
batch-norm statistics recomputed on training volumes. All are state dicts that load with `weights_only=True`.

## Training

Data: {metadata["data_source"]}. Labelled volumes: {cell.num_labelled} (draw {cell.draw}), seed {cell.seed}, \
recipe "{cell.recipe.name}" (see `experiments/results/README.md` of the repository). Schedule: \
{cell.lengths}; the paper's: {SCHEDULES["full"].lengths}. Device: {result["device"]}; \
commit {result["commit"]}.{_CHOSEN if cell.recipe.self_training_rounds else ""}

## Measured

Test Dice of `{_MODEL}` over {len(evaluation["volumes"])} volumes that no stage has seen, in 3-D on the native grid; \
lowest: {worst["id"]}, {worst["mean"]:.3f}.

| {" | ".join(structures)} | mean |
|{"---|" * (len(structures) + 1)}
| {numbers} |

To repeat it:

    python -m monai.bundle run run --config_file configs/evaluate.json --dataset_dir DIR{options}
{_beside(weights)}
## Terms, use and limits

{(bundle / "docs" / "data_license.txt").read_text(encoding="utf-8").strip()}

{metadata["intended_use"]} One draw and one seed: the repository's results say how much runs scatter. Further limits:
`docs/README.md`.
"""


def _beside(weights: Mapping[str, Mapping[str, Any]]) -> str:
    """Write what further networks are, as lines of the model card; empty if there is none."""
    lines = []
    for name, entry in weights.items():
        if "result" in entry and name != _MODEL:
            result = read_any_result(REPOSITORY / entry["result"])
            evaluation, cell = result["evaluations"][MAIN_EVALUATION], cell_of(result)
            of_all = "all of the split, and with them those that the recipe was chosen on"
            number = of_all if cell.num_labelled == "all" else cell.num_labelled
            lines.append(
                f"`{name}` was trained with other labelled volumes: {number} (draw {cell.draw}), recipe "
                f'"{cell.recipe.name}", {cell.lengths}. Its test Dice over the same volumes is '
                f"{evaluation['mean_dice']['mean']:.3f}; `--checkpoint` chooses it (`{entry['result']}`).\n"
            )
    return "\n".join(["", *lines])


def _check(cell: Cell, decoder_cell: Cell) -> None:
    """Refuse cells that have not the weights that are shipped."""
    for name, own, wanted in (("result", cell, "encoder"), ("decoder_result", decoder_cell, "encoder_decoder")):
        if own.pretraining.initialisation != wanted or own.pretraining.joint_weight:
            kind = "global and then local" if wanted == "encoder_decoder" else "global"
            raise ValueError(f"{name} must be of a cell whose pre-training is {kind}, got {own.name}.")
    if cell.dataset != decoder_cell.dataset:
        raise ValueError(
            f"result and decoder_result must be of one dataset, got {cell.dataset} and {decoder_cell.dataset}."
        )
