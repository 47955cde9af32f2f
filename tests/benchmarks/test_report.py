from __future__ import annotations

import json
import shutil

import pytest

from benchmarks import harness
from benchmarks.report import KEYS, number, report
from common.records import write_record


def make_outcome(benchmark="local_loss", **overrides):
    return {
        "benchmark": benchmark,
        "command": f"python -m benchmarks run {benchmark}",
        "commit": "abc123",
        "date": "2020-02-02",
        "device": "CPU (Example)",
        "threads": 2,
        "versions": {"torch": "9.9"},
        "rows": [{"contender": "ours", "times ours": 1.0}, {"contender": "loop", "times ours": 123.4, "K": 3}],
        "targets": [
            {"rule": "speed", "at_least": 50, "measured": 123.4, "met": True},
            {"rule": "memory", "at_most": 1.25, "measured": 1.26, "met": False},
        ],
        "notes": ["Shortened."],
    } | overrides


def make_report(folder, *outcomes):
    for outcome in outcomes:
        suffix = "" if outcome["device"].startswith("CPU") else "_gpu"
        write_record(folder / f"{outcome['benchmark']}{suffix}.json", outcome)
    report(str(folder))
    return (folder / "README.md").read_text(encoding="utf-8")


def test_every_number_is_that_of_the_file(tmp_path, capsys):
    text = make_report(tmp_path, make_outcome())
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for line in (
        "## local_loss",
        "Local contrastive losses, forward and backward: ours beside a loop over pairs of regions, or of pixels.",
        "CPU (Example), 2 threads. Commit abc123, 2020-02-02. To repeat: `python -m benchmarks run local_loss`. "
        "torch 9.9.",
        "| contender | times ours | K |",
        "| ours | 1 | – |",
        "| loop | 123 | 3 |",
        "| speed | at least 50 | 123 | met |",
        "| memory | at most 1.25 | 1.26 | **NOT met** |",
        "- Shortened.",
    ):
        assert lines.count(line) == 1, line
    assert f"Wrote {tmp_path / 'README.md'}" in capsys.readouterr().out

    changed = make_outcome(rows=[{"contender": "ours", "times ours": 0.0123}], device="CPU (Other)", threads=1)
    text = make_report(tmp_path, changed)
    assert "0.0123" in text and "123.4" not in text and "CPU (Other), 1 thread." in text


def test_order_is_that_of_the_runs_and_a_gpu_follows_its_cpu(tmp_path):
    outcomes = [make_outcome(name) for name in ("step", "local_loss")]
    text = make_report(tmp_path, *outcomes, make_outcome("local_loss", device="NVIDIA H200"))
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == ["## step", "## local_loss", "## local_loss_gpu", "## 50,000 subjects"]


def test_the_report_begins_with_how_many_targets_are_met(tmp_path):
    text = make_report(tmp_path, make_outcome(), make_outcome("step", targets=[]))
    head = [" ".join(line.split()) for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    assert head[0] == "| benchmark | about | targets met |" and len(head) == 4
    assert head[2].startswith("| [step](#step) | A whole training step beside") and head[2].endswith("| 0 of 0 |")
    assert head[3].startswith("| [local_loss](#local_loss) | ") and head[3].endswith("| 1 of 2 |")


def test_costs_of_the_global_loss_are_drawn(tmp_path):
    rows = [
        {"strategy": strategy, "N": size, "contender": contender, "cost": float(size)}
        for strategy, size, contender in [
            ("GR", 40, "ours"),
            ("GR", 250, "ours"),
            ("GD", 40, "ours"),
            ("GR", 40, "loop"),
        ]
    ]
    text = make_report(tmp_path, make_outcome("global_loss", rows=rows))
    assert "(global_loss.png)" in text
    picture = (tmp_path / "global_loss.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    rows[1]["cost"] *= 2
    make_report(tmp_path, make_outcome("global_loss", rows=rows))
    assert (tmp_path / "global_loss.png").read_bytes() != picture


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (40, "40"),
        (1.0, "1"),
        (0.12345, "0.123"),
        (99.96, "100"),
        (12345.6, "12,346"),
        (1.2e-7, "1.2e-07"),
        (True, "True"),
        ("a|b", "a\\|b"),
    ],
    ids=str,
)
def test_number(value, text):
    assert number(value) == text


def without(key):
    return {name: value for name, value in make_outcome("step").items() if name != key}


def with_target(**changes):
    return make_outcome("step", targets=[make_outcome()["targets"][0] | changes])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"stage": "global"}]', "must be a JSON object, got list"),
        (json.dumps(make_outcome("step")), "has no entry 'sha256'"),
        ('{"benchmark": ', "is damaged"),
        (without("rows"), f"must have the keys {', '.join(KEYS)}, got .* without rows"),
        (make_outcome("step", threads="2"), "with threads '2'"),
        (make_outcome("step", threads=-1), "with threads -1"),
        (make_outcome("step", rows=[1]), "with the row 1"),
        (with_target(met="true"), "with the target .*'met': 'true'"),
        (with_target(met=False), "with the target .*'met': False"),
        (with_target(measured="fast"), "with the target .*'measured': 'fast'"),
        (with_target(at_most=2), "with the target .*'at_most': 2"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith(("with", "must", "has", "is")) else "",
)
@pytest.mark.parametrize("name", ["step", "step_gpu"])
def test_file_of_another_form(tmp_path, content, message, name):
    path = tmp_path / f"{name}.json"
    if isinstance(content, dict):
        write_record(path, content)
    else:
        path.write_text(content)
    with pytest.raises(ValueError, match=rf"{message}.*make it anew with `python -m benchmarks run step`") as raised:
        report(str(tmp_path))
    assert str(path) in str(raised.value)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_benchmark_that_does_not_exist(tmp_path):
    with pytest.raises(ValueError, match=r"got .*nothing\.json of 'nothing'; remove the file"):
        make_report(tmp_path, make_outcome("nothing"))


def test_no_results(tmp_path):
    with pytest.raises(
        ValueError, match=r"results_dir must hold result files, got none in .* `python -m benchmarks run`"
    ):
        report(str(tmp_path))


@pytest.mark.skipif(not (harness.RESULTS / "README.md").exists(), reason="no report has been made yet")
def test_the_committed_report_is_that_of_the_committed_results(tmp_path):
    for path in harness.RESULTS.glob("*.json"):
        shutil.copy(path, tmp_path)
    report(str(tmp_path))
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == (harness.RESULTS / "README.md").read_text("utf-8")
