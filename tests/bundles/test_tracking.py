"""`monai.bundle run --tracking mlflow` into a local store."""

from __future__ import annotations

import json

import pytest

from common.checkpoints import save_atomically
from common.networks import UNet2d

mlflow = pytest.importorskip("mlflow", reason="`--tracking mlflow` needs the extra `tracking`")


EVERY = list(range(1, 21))
DICE = {f"{name}_dice": [1, 2] for name in ("mean", "RV", "Myo", "LV")}  # by epoch


def tracked(folder):
    """Return the one run of a store, and what MLflow has of it."""
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns.db'}")
    experiment = client.get_experiment_by_name("monai_experiment")
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


@pytest.mark.parametrize(
    ("config", "overrides", "dice"),
    [
        ("pretrain_global", {}, {}),
        ("train", {"initialisation": "random", "batch_size": 4, "val_interval": 1}, DICE),
    ],
)
def test_losses_and_scores_are_in_the_store(phantom, tmp_path, config, overrides, dice):
    phantom.run(config, tmp_path, tracking="mlflow", steps=20, steps_per_epoch=10, **overrides)
    client, run = tracked(tmp_path / config)
    steps = {"train_loss": EVERY, "lr_group_0": [10, 20], **dice}
    assert run.info.status == "FINISHED" and run.data.params == {"max_epochs": "2", "epoch_length": "10"}
    assert {"train_loss", "lr_group_0"} | ({"mean_dice"} & set(dice)) <= set(run.data.metrics) <= set(steps)
    for name in run.data.metrics:
        history = client.get_metric_history(run.info.run_id, name)
        assert [value.step for value in history] == steps[name]
        assert all(0 <= value.value < 100 for value in history)
    # What the run is made from: seed, settings and the volumes of each subset.
    made_from = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/lineage.json"))
    assert made_from["settings"]["seed"] == 0
    assert made_from["settings"]["steps"] == 20
    assert {id_ for entries in made_from["volumes"].values() for id_, *_ in entries} <= set(phantom.items)


def test_report_of_an_evaluation_is_in_the_store(phantom, tmp_path):
    save_atomically(UNet2d(4).state_dict(), tmp_path / "models" / "model.pt")
    phantom.run("evaluate", tmp_path, tracking="mlflow", pictures=False)
    client, run = tracked(tmp_path / "evaluate")
    names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"evaluation.json", "dice.csv"} <= names
    text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/evaluation.json")
    assert text == (tmp_path / "evaluate" / "evaluation.json").read_text(encoding="utf-8")
