"""The committed configs are what the templates and the facts give, short, and free of logic."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace

import pytest

from bundles.facts import FACTS_FILE, read_facts
from bundles.write import STAGES, bundles_of_repository, write_folder, written
from tests.phantoms import OPTIONS, TRAINING
from tests.places import BUNDLES, REPOSITORY

CONFIGS = sorted(path.name.removesuffix(".jinja") for path in STAGES.glob("*.json.jinja"))
MOST_LINES = {
    "train": 160,
    "pretrain_global": 100,
    "pretrain_local": 100,
    "evaluate": 90,
    "inference": 80,
    "select": 60,
}
WITHOUT = {"further_frames": None, "end_systole": None, "ventricles": ()}
DATASET_NAMES = re.compile(r"acdc|prostate|mm[-_ ]?whs|\bmsd|decathlon|task05|cityscapes|camvid", re.IGNORECASE)


@pytest.fixture(scope="module", params=BUNDLES)
def bundle(request):
    return BUNDLES[request.param]


def expressions(value):
    """Yield every expression in a config."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from expressions(entry)
    elif isinstance(value, str) and value.startswith("$") and not value.startswith(("$import", "$from")):
        yield value


def conditionals(expression):
    """List the conditionals in an expression, those of comprehensions included."""
    tree = ast.parse(re.sub(r"@[\w#]+", "x", expression[1:]), mode="eval")
    found = [node for node in ast.walk(tree) if isinstance(node, ast.IfExp)]
    return found + [test for node in ast.walk(tree) if isinstance(node, ast.comprehension) for test in node.ifs]


def test_every_bundle_is_written():
    assert bundles_of_repository() == sorted(BUNDLES.values())


def test_committed_files_are_what_is_written(bundle):
    assert write_folder(bundle, check=True) == [], "run `python -m bundles write`"


def test_nothing_else_is_in_the_folder_of_configs(bundle):
    assert {path.name for path in (bundle / "configs").iterdir()} == {*CONFIGS, "splits.json", "logging.conf"}
    assert {*OPTIONS} <= {name.removesuffix(".json") for name in CONFIGS}


@pytest.mark.parametrize("config", MOST_LINES)
def test_configs_are_short(bundle, config):
    assert len((bundle / "configs" / f"{config}.json").read_text().splitlines()) <= MOST_LINES[config]


@pytest.mark.parametrize(
    ("expression", "number"),
    [("$a if @b#c else d", 1), ("$[a for a in @b if a]", 1), ("$@a or '/b'", 0), ("$[a['if'] for a in @b]", 0)],
)
def test_conditionals_are_found(expression, number):
    assert len(conditionals(expression)) == number


@pytest.mark.parametrize("config", CONFIGS)
def test_no_expression_has_a_conditional(config):
    texts = list(expressions(json.loads((BUNDLES["acdc"] / "configs" / config).read_text())))
    assert [text for text in texts if conditionals(text)] == []


@pytest.mark.parametrize("config", CONFIGS)
def test_no_override_names_a_position_in_a_list(config):
    content = json.loads((BUNDLES["acdc"] / "configs" / config).read_text())
    assert [key for key in content if re.search(r"#\d+(#|$)", key)] == []


def test_templates_name_no_dataset():
    assert [path.name for path in STAGES.iterdir() if DATASET_NAMES.search(path.read_text())] == []


def different(one, other, where=""):
    """Yield the ids of what two configs do not have in common; of a list, its own."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        yield from [where] * (one != other)
        return
    for key in {**one, **other}:
        yield from different(one.get(key), other.get(key), f"{where}#{key}".lstrip("#"))


@pytest.mark.parametrize("config", OPTIONS)
def test_photographs_differ_in_what_is_of_volumes(config):
    """In facts; in how they are read, drawn and compared; and in what a network must not learn of them."""
    facts = [replace(read_facts(BUNDLES[name] / FACTS_FILE), **WITHOUT) for name in ("acdc", "cityscapes")]
    found = set(different(*(written(own)[f"{config}.json"] for own in facts)))
    expected = {
        *("volume_pipeline", "network_def", "views", "train#views", "train#global#views", "train#local#views"),
        *("key_metric", "validate#key_metric", "train#self_training#every_structure", "dataset", "run", "imports"),
        "evaluation_imports",
        *("handlers", "strategy", "augmentation", "n4_iterations", "lineage#settings"),
        *("uncertainty", "inferer#turned", "postprocessing", "num_pixels", "train#loss", "train#local#loss"),
        *("num_partitions", "selection#display", "settings#uncertainty"),
        *vars(facts[0]),
    }
    assert found
    assert not [name for name in found if not any(f"{name}#".startswith(f"{known}#") for known in expected)]


@pytest.mark.parametrize("config", OPTIONS)
def test_bundles_differ_in_facts_only(config):
    facts = [read_facts(BUNDLES[name] / FACTS_FILE) for name in ("acdc", "prostate", "mmwhs")]
    # That there are no further frames, or no end-systolic ones, are facts without an id of their own.
    configs = [written(replace(own, **WITHOUT))[f"{config}.json"] for own in facts]
    same = [{key: value for key, value in one.items() if not hasattr(facts[0], key)} for one in configs]
    assert same[0]["network_def"] and same[0] == same[1] == same[2]


@pytest.mark.parametrize("config", OPTIONS)
def test_further_frames_are_an_option_of_training(config):
    facts = read_facts(BUNDLES["mmwhs"] / FACTS_FILE)
    configs = [written(own)[f"{config}.json"] for own in (facts, replace(facts, further_frames="$datalists.frames"))]
    without, with_frames = ({**own, "split": own.get("split", "")} for own in configs)
    options = ", unlabelled_frames=@unlabelled_frames, further_frames=datalists.frames)"
    if config in TRAINING:
        assert with_frames.pop("unlabelled_frames") == "single"
        assert with_frames.pop("split") == without.pop("split").removesuffix(")") + options
    assert with_frames == without


@pytest.mark.parametrize("config", ["train", "pretrain_global", "pretrain_local", "pretrain_joint"])
def test_runs_are_told_apart_by_all_plain_options(config):
    """Those that were compared before the configs were written by a program, at least; and no path."""
    settings = written(read_facts(BUNDLES["acdc"] / FACTS_FILE))[f"{config}.json"]["lineage"]["settings"]
    always = {"seed", "batch_size", "learning_rate", "steps_per_epoch", "image_size", "spacing_mm", "channel"}
    always |= {"slice_axis", "trim_margin_mm", "n4_shrink", "n4_iterations", "extra_unlabelled_ids", "class_names"}
    own = {
        "train": {"initialisation", "augmentation", "mixup_alpha", "weight_averaging", "largest_component", "draw"}
        | {"label_values", "batch_norm_statistics", "num_labelled", "learning_rate_decay", "self_training_rounds"}
        | {"planned_steps", "copy_paste", "pretrained_rate", "kept_weights"},
        "pretrain_global": {"strategy", "temperature", "num_partitions", "gd_pairs", "hidden_features", "head_norm"}
        | {"crop_size", "crop_start"},
        "pretrain_local": {"strategy", "temperature", "num_partitions", "num_blocks", "region_size", "region_vector"}
        | {"encoder_batch_norm", "freeze_encoder", "num_pixels"},
        "pretrain_joint": {"strategy", "local_strategy", "local_weight", "temperature", "num_blocks", "crop_start"}
        | {"hidden_features", "head_norm", "region_size", "region_vector", "num_partitions", "gd_pairs", "crop_size"}
        | {"num_pixels"},
    }
    assert set(settings) == always | own[config] | {"steps"}
    assert all(value == f"@{name}" for name, value in settings.items() if name not in {"steps", "planned_steps"})


def code_of(path):
    """Return a module's code without comments and docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [part for part in node.body if not is_text(part)] or [ast.Pass()]
    return ast.unparse(tree)


def is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def test_code_names_no_dataset_but_where_their_layouts_are():
    found = [path for path in (REPOSITORY / "common").rglob("*.py") if DATASET_NAMES.search(code_of(path))]
    assert found and all("datalists" in str(path.relative_to(REPOSITORY)) for path in found), found
