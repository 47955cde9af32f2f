"""`monai.bundle run --tracking mlflow` into a local store."""

from __future__ import annotations

import pytest

mlflow = pytest.importorskip("mlflow", reason="`--tracking mlflow` needs the extra `tracking`")


@pytest.mark.parametrize(
    ("config", "overrides", "steps"),
    [
        ("pretrain_global", {}, {"train_loss": [10, 20], "lr_group_0": [10, 20]}),
        (
            "train",
            {"initialisation": "random", "batch_size": 4, "val_interval": 1},
            {"train_loss": [10, 20], "lr_group_0": [10, 20], "mean_dice": [1, 2]},  # Dice by epoch
        ),
    ],
)
def test_losses_and_scores_are_in_the_store(phantom, tmp_path, config, overrides, steps):
    phantom.run(config, tmp_path, tracking="mlflow", steps=20, steps_per_epoch=10, **overrides)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / config / 'mlruns.db'}")
    experiment = client.get_experiment_by_name("monai_experiment")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.params == {"max_epochs": "2", "epoch_length": "10"}
    assert set(run.data.metrics) == set(steps)
    for name, expected in steps.items():
        history = client.get_metric_history(run.info.run_id, name)
        assert [value.step for value in history] == expected
        assert all(0 < value.value < 100 for value in history)
