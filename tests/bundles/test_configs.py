"""The configs as files: what MONAI asks of them, and their defaults. All bundles have the same but for facts."""

from __future__ import annotations

import inspect
import json
import pydoc
import re
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow
from monai.bundle.config_item import ComponentLocator

from common.checkpoints import save_atomically
from common.networks import UNet2d
from tests.phantoms import OPTIONS, TRAINING, contents
from tests.places import BUNDLE, BUNDLES, CONFIGS
from tests.processes import undisturbed

# MONAI defines properties of trainings and of what segments; a selection is neither.
WORKFLOWS = {name: "train" if name in TRAINING else "infer" for name in OPTIONS if name != "select"}
BY_HAND = [bundle / "configs" / "splits.json" for bundle in BUNDLES.values()]

REFERENCE = re.compile(r"[@%]([A-Za-z_]\w*(?:#\w+)*)")
TAKEN_WHOLE = {"key_metric", "label_values", "settings"}  # of which no part is referred to
# Ids that are asked for from outside: by `monai.bundle run`, or as what every config has (see metadata.json and MONAI's
# properties of a workflow).
ENTRY_POINTS = {"imports", "evaluation_imports", "run", "training", "prepare", "dataset_dir"}


@pytest.fixture(scope="module")
def configs():
    """The configs of a bundle, by name."""
    return contents(BUNDLE)


def strings(value, path=""):
    """Yield (id, text) of every string in a config."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from strings(entry, f"{path}#{key}" if path else key)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from strings(entry, f"{path}#{index}")
    elif isinstance(value, str):
        yield path, value


def components(value):
    """Yield every dictionary of a config that makes an object."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from components(entry)


def references(content):
    """Yield (id of the place, id that it refers to)."""
    for place, text in strings(content):
        if text.startswith(("@", "%", "$")):
            for target in REFERENCE.findall(text):
                yield place, target


def within(name, parent):
    return name == parent or name.startswith(f"{parent}#")


def refuse_duplicates(pairs):
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), f"a key is there twice among {keys}"
    return dict(pairs)


@pytest.mark.parametrize("path", BY_HAND, ids=lambda path: path.parents[1].name)
def test_is_json_without_duplicate_keys(path):
    assert json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=refuse_duplicates)


def test_every_config_is_tested_here():
    overlays = {"paper", "multi_gpu_evaluate", *(f"multi_gpu_{name}" for name in TRAINING)}
    found = {path.stem for path in CONFIGS.glob("*.json")}
    assert found <= {*OPTIONS, *overlays, "onnx_export", "metadata", "splits"}, "list new configs in phantoms.OPTIONS"


@pytest.mark.parametrize(
    ("name", "config"),
    [*(("acdc", config) for config in WORKFLOWS), *((name, "train") for name in ("prostate", "mmwhs", "cityscapes"))],
)
def test_has_the_properties_that_monai_defines(request, tmp_path, name, config):
    phantom = request.getfixturevalue("phantom" if name == "acdc" else f"{name}_phantom")
    configs = phantom.bundle / "configs"
    content = contents(phantom.bundle)[config]
    network = {"num_classes": len(content["class_names"]), "in_channels": content["network_def"].get("in_channels", 1)}
    for name in ("model.pt", "pretrained_encoder.pt", "pretrained_encoder_decoder.pt"):
        save_atomically(UNet2d(**network).state_dict(), tmp_path / "models" / name)
    settings = phantom.settings(config, tmp_path)
    if config == "inference":
        settings["input"] = phantom.image(next(iter(phantom.items)))
    with undisturbed():
        workflow = ConfigWorkflow(
            config_file=str(configs / f"{config}.json"),
            meta_file=str(configs / "metadata.json"),
            logging_file=False,
            workflow_type=WORKFLOWS[config],
            **{key: str(value) if isinstance(value, Path) else value for key, value in settings.items()},
        )
        workflow.initialize()
        assert workflow.check_properties() == []  # it also makes every object that a property names


@pytest.mark.parametrize("config", OPTIONS)
def test_entry_points(configs, config):
    content = configs[config]
    assert "initialize" not in content  # MONAI runs it before it has put the bundle on the import path
    assert content["bundle_root"] == "."
    if config in TRAINING:
        assert content["run"] == "%training"
    lists = [content[name] for name in ("training", "prepare", "run") if isinstance(content.get(name), list)]
    assert lists and all(steps[0].startswith("$runs.start(") for steps in lists)
    assert ("prepare" in content) == (config == "pretrain_global")


@pytest.mark.parametrize("config", TRAINING)
def test_handlers_and_datasets_have_the_form_that_monai_reads(configs, config):
    content = configs[config]
    assert all(isinstance(entry, dict) and "_target_" in entry for entry in content["train"]["handlers"])
    assert content["train"]["trainer"]["train_handlers"] == "@train#handlers"
    sections = ["train", "validate"] if config == "train" else ["train"]
    for section in sections:
        assert {"_target_", "data", "transform"} <= set(content[section]["dataset"])
    assert content["train"]["handlers"][-1]["_target_"] == "common.engines.Resume"  # so that it saves what others did


@pytest.mark.parametrize(
    ("config", "defaults"),
    [
        (
            "pretrain_global",
            {
                "strategy": "GD",
                "temperature": 0.1,
                "hidden_features": 3200,
                "batch_size": 40,
                "num_partitions": 4,
                "steps": 10000,
                "learning_rate": 1e-3,
            },
        ),
        (
            "pretrain_local",
            {
                "strategy": "LR",
                "temperature": 0.1,
                "num_blocks": 3,
                "region_size": 3,
                "batch_size": 40,
                "num_partitions": 4,
                "steps": 10000,
                "learning_rate": 1e-3,
            },
        ),
        ("pretrain_joint", {"strategy": "GD", "local_strategy": "LR", "local_weight": 1.0, "num_blocks": 3}),
        (
            "train",
            {
                "augmentation": "paper",
                "mixup_alpha": 0.0,
                "weight_averaging": 0.0,
                "self_training_rounds": 0,
                "batch_size": 40,
                "steps": 10000,
                "learning_rate": 1e-3,
                "learning_rate_decay": "none",
                "initialisation": "encoder_decoder",
                "largest_component": False,
                "num_labelled": 1,
                "draw": "c1",
            },
        ),
        ("evaluate", {"subset": "test", "num_labelled": 1, "draw": "c1"}),
    ],
)
def test_defaults_are_those_of_the_paper(configs, config, defaults):
    """Of fine-tuning, those that `paper.json` leaves."""
    content = configs[config]
    if config == "train":
        content = content | json.loads((CONFIGS / "paper.json").read_text(encoding="utf-8"))
    assert {key: content[key] for key in defaults} == defaults


def test_what_is_laid_over_fine_tuning_are_its_own_options(configs):
    content = json.loads((CONFIGS / "paper.json").read_text(encoding="utf-8"))
    assert [name for name, value in content.items() if configs["train"][name] == value] == []


@pytest.mark.parametrize("config", OPTIONS)
def test_every_id_is_used(configs, config):
    content, found = configs[config], list(references(configs[config]))
    ids = [name for name in content if name not in ENTRY_POINTS]
    ids += [
        f"{section}#{name}"
        for section, parts in content.items()
        if isinstance(parts, dict) and "_target_" not in parts and section not in TAKEN_WHOLE
        for name in parts
    ]
    unused = [name for name in ids if not any(within(to, name) and not within(place, name) for place, to in found)]
    assert unused == []


@pytest.mark.parametrize("config", OPTIONS)
def test_every_reference_leads_somewhere(configs, config):
    missing = set()
    for _, name in references(configs[config]):
        part = configs[config]
        for key in name.split("#"):
            part = part.get(key, ...) if isinstance(part, dict) else ...
        # What an object was made with is looked up in its config, as in @validate#dataset#data.
        if part is ...:
            missing.add(name)
    assert missing == set()


@pytest.mark.parametrize("config", OPTIONS)
def test_imports_are_those_that_are_used(configs, config):
    (imports,) = (value for name, value in configs[config].items() if name.endswith("imports"))
    imported = [re.split(r" as | import |^\$import ", text)[-1] for text in imports]
    code = " ".join(text for place, text in strings(configs[config]) if text[0:1] == "$" and "imports" not in place)
    # A name with a dot or a call behind it and no dot before it; "@" begins the id of something else, quotes a path.
    used = set(re.findall(r"(?<![\w.@#'/])([A-Za-z_]\w*)[.(]", code))
    assert sorted(imported) == sorted(used & {*imported, "torch", "monai", "os", "common"})


@pytest.mark.parametrize("config", OPTIONS)
def test_components_exist_and_take_their_arguments(configs, config):
    locator = ComponentLocator()
    for component in components(configs[config]):
        name = component["_target_"]
        path = name if "." in name else f"{locator.get_component_module_name(name)}.{name}"
        target = pydoc.locate(path)
        assert target is not None, name
        inspect.signature(target).bind(**{key: value for key, value in component.items() if key[0] != "_"})
