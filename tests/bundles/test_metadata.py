"""metadata.json and the other files that MONAI and its applications look for beside the configs."""

from __future__ import annotations

import json
import re

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow, verify_net_in_out

import common
from tests.phantoms import OPTIONS, contents
from tests.places import BUNDLES, CONFIGS, REPOSITORY
from tests.processes import undisturbed

VERSION = re.compile(r"\d+\.\d+\.\d+")


@pytest.fixture(params=BUNDLES)
def bundle(request):
    return BUNDLES[request.param]


@pytest.fixture
def metadata(bundle):
    return json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))


def pinned_versions():
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def test_follows_the_schema_of_monai(metadata, monai_schema):
    jsonschema = pytest.importorskip("jsonschema")
    assert metadata["schema"].endswith(monai_schema.name)
    jsonschema.validate(metadata, json.loads(monai_schema.read_text(encoding="utf-8")))


def test_has_the_keys_that_monai_requires(metadata):
    required = {
        *("schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version", "task", "description"),
        *("required_packages_version", "authors", "copyright", "network_data_format", "name", "intended_use"),
    }
    assert required <= set(metadata)
    formats = metadata["network_data_format"]
    assert (
        next(iter(formats["inputs"])) == "image" and next(iter(formats["outputs"])) == "pred"
    )  # MONAI takes the first
    for entry in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        assert {
            *("type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def")
        } <= set(entry)
        assert list(entry["channel_def"]) == [str(channel) for channel in range(entry["num_channels"])]
    # The 1st and 99th percentile of a volume, not its extremes; logits have no bounds.
    assert formats["inputs"]["image"]["value_range"] == [0, 1] and formats["outputs"]["pred"]["value_range"] == []


def test_version_is_that_of_the_package_and_in_the_changelog(metadata):
    assert VERSION.fullmatch(metadata["version"])
    assert metadata["version"] == common.__version__
    assert next(iter(metadata["changelog"])) == metadata["version"]


def test_versions_are_those_the_tests_run_with(metadata):
    core = {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
    }
    stated = {**core, **metadata["required_packages_version"]}
    pinned = pinned_versions()
    assert stated == {package: pinned[package] for package in stated}


def test_nothing_is_said_to_be_measured_before_it_is(bundle, metadata):
    assert bool(metadata["eval_metrics"]) == bool(metadata["weights"]) == (bundle.name == "bundle_acdc")
    if not metadata["weights"]:
        assert "not measured" in (bundle / "docs" / "README.md").read_text(encoding="utf-8").lower()


def test_all_configs_have_one_network(bundle):
    first, *others = ({name: one[name] for name in ("network_def", "class_names")} for one in contents(bundle).values())
    assert len(others) == len(OPTIONS) - 1 and all(other == first for other in others)


def test_classes_are_those_of_the_config(bundle, metadata):
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "train.json"))
    names = parser.get_parsed_content("class_names")
    assert list(metadata["network_data_format"]["outputs"]["pred"]["channel_def"].values()) == names
    assert names[0] == "background"
    assert parser.get_parsed_content("network_def").head[-1].out_channels == len(names)


# n = 1 gives the smallest size of the stated shape; the function raises if channels or type are not as stated.
@pytest.mark.parametrize("n", [1, 3])
def test_network_takes_and_gives_what_is_stated(bundle, n):
    configs = bundle / "configs"
    files = {"meta_file": str(configs / "metadata.json"), "config_file": str(configs / "inference.json")}
    verify_net_in_out("network_def", device="cpu", n=n, **files)


def test_logging_conf_is_accepted():
    # MONAI refuses, with a ValueError, handlers and arguments other than the plain ones of the standard library.
    with undisturbed():
        ConfigWorkflow(
            config_file=str(CONFIGS / "inference.json"),
            logging_file=str(CONFIGS / "logging.conf"),
            workflow_type="inference",
        )


@pytest.mark.parametrize("file", ["docs/README.md", "docs/data_license.txt"])
def test_other_files_are_there(bundle, file):
    path = bundle / file
    assert path.is_file() and len(path.read_text(encoding="utf-8")) > 200


def test_shipped_metrics_are_those_of_the_defaults(bundle, metadata):
    """What `evaluate.json` gives without options, and what is segmented with and without MONAI Label, is one thing."""
    defaults = {name: contents(bundle)[name]["largest_component"] for name in ("train", "evaluate", "inference")}
    assert len(set(defaults.values())) == 1
    if "model.pt" in metadata.get("weights", {}):
        assert metadata["eval_metrics"]
        assert metadata["weights"]["model.pt"]["largest_component"] == defaults["evaluate"]
