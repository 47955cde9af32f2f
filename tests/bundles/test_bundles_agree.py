"""The bundles differ in the facts of their datasets and in nothing else, and the package knows no dataset by name."""

from __future__ import annotations

import ast
import json
import re

import pytest

from tests.conftest import REPOSITORY

from .conftest import BUNDLE, BUNDLES

# What may differ between the bundles' configs: where the data is and how it is read, ...
FACTS = {"dataset_dir", "datalist", "label_values", "class_names", "extra_unlabelled_ids"}
# ... and what is done to it before it is learnt from.
FACTS |= {"image_size", "spacing_mm", "channel", "slice_axis", "trim_margin_mm", "n4_shrink"}
METADATA_FACTS = {
    *("changelog", "name", "task", "description", "data_source", "references"),
    *("image_classes", "label_classes", "pred_classes", "network_data_format"),
    *("eval_metrics", "weights", "weights_license"),
}
FORMS = r"\$datalists\.\w+|\$range\(len\(@class_names\)\)$|\$@input or '[\w/]+'$"  # of facts that are no values
CONFIGS = sorted(path.name for path in (BUNDLE / "configs").glob("*.json") if path.name != "splits.json")
OTHERS = [name for name in BUNDLES if BUNDLES[name] != BUNDLE]
DATASET_NAMES = re.compile(r"acdc|prostate|mm[-_ ]?whs|\bmsd|decathlon|task05|cityscapes|camvid", re.IGNORECASE)


def read(bundle, config):
    return json.loads((BUNDLES[bundle] / "configs" / config).read_text(encoding="utf-8"))


def differing(config):
    """Return the keys in which a config of some bundle differs from ACDC's, absent ones included."""
    ours = read("acdc", config)
    others = [read(bundle, config) for bundle in OTHERS]
    keys = {key for content in (ours, *others) for key in content}
    return {key for key in keys if any(content.get(key, ...) != ours.get(key, ...) for content in others)}


@pytest.mark.parametrize("config", CONFIGS)
def test_configs_differ_in_facts_of_the_dataset_only(config):
    assert differing(config) <= (METADATA_FACTS if config == "metadata.json" else FACTS)


@pytest.mark.parametrize("config", CONFIGS)
def test_configs_have_the_same_keys_in_the_same_order(config):
    keys = list(read("acdc", config))
    assert all(list(read(bundle, config)) == keys for bundle in OTHERS)


def test_every_fact_is_one():
    """A key that is the same everywhere must not be on the list."""
    assert set().union(*(differing(config) for config in CONFIGS if config != "metadata.json")) == FACTS
    assert differing("metadata.json") == METADATA_FACTS


def test_facts_are_values_or_name_a_function_for_a_dataset():
    """No fact hides a piece of the pipeline."""
    for bundle in BUNDLES:
        for config in CONFIGS:
            for key, value in read(bundle, config).items():
                if key in FACTS and isinstance(value, str) and value.startswith(("$", "@")):
                    assert re.match(r"\$datalists\.\w+|\$range\(len\(@class_names\)\)$|\$@input or '[\w/]+'$", value), (
                        config,
                        key,
                    )


@pytest.mark.parametrize("bundle", OTHERS)
def test_bundles_have_the_same_files(bundle):
    def files(folder):
        parts = [folder / "LICENSE", *(folder / "configs").iterdir(), *(folder / "docs").glob("*.*")]
        return {str(path.relative_to(folder)) for path in parts if path.suffix != ".png"}

    assert files(BUNDLES[bundle]) == files(BUNDLE)
    for file in ("LICENSE", "configs/logging.conf"):
        assert (BUNDLES[bundle] / file).read_bytes() == (BUNDLE / file).read_bytes()


def code_of(path):
    """Return a module's code without comments and docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [part for part in node.body if not is_text(part)] or [ast.Pass()]
    return ast.unparse(tree)


def is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "common").rglob("*.py")), ids=lambda path: str(path.relative_to(REPOSITORY))
)
def test_datasets_are_named_in_their_datalists_only(path):
    own = {"__init__", "acdc_folders", "decathlon_prostate", "mmwhs_files"} if path.parent.name == "datalists" else ()
    found = DATASET_NAMES.findall(code_of(path))
    assert bool(found) == (path.stem in own), found
