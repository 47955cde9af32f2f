"""metadata.json and the other files that MONAI and its applications look for beside the configs."""

from __future__ import annotations

import json
import re

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow, verify_net_in_out

import common
from tests.conftest import REPOSITORY, SHARED_DATA

from .conftest import BUNDLE, CONFIGS, OPTIONS, undisturbed

METADATA = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))
SCHEMA = SHARED_DATA / "monai" / "meta_schema_20240725.json"
VERSION = re.compile(r"\d+\.\d+\.\d+")


def pinned_versions():
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


@pytest.mark.skipif(not SCHEMA.is_file(), reason=f"MONAI's schema is not at {SCHEMA}")
def test_follows_the_schema_of_monai():
    jsonschema = pytest.importorskip("jsonschema")
    assert METADATA["schema"].endswith(SCHEMA.name)
    jsonschema.validate(METADATA, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_has_the_keys_that_monai_requires():
    required = {
        *("schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version", "task", "description"),
        *("required_packages_version", "authors", "copyright", "network_data_format", "name", "intended_use"),
    }
    assert required <= set(METADATA)
    formats = METADATA["network_data_format"]
    assert (
        next(iter(formats["inputs"])) == "image" and next(iter(formats["outputs"])) == "pred"
    )  # MONAI takes the first
    for entry in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        assert {
            *("type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def")
        } <= set(entry)
        assert list(entry["channel_def"]) == [str(channel) for channel in range(entry["num_channels"])]


def test_version_is_that_of_the_package_and_in_the_changelog():
    assert VERSION.fullmatch(METADATA["version"])
    assert METADATA["version"] == common.__version__
    assert next(iter(METADATA["changelog"])) == METADATA["version"]


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("monai", METADATA["monai_version"]),
        ("torch", METADATA["pytorch_version"]),
        ("numpy", METADATA["numpy_version"]),
        *METADATA["required_packages_version"].items(),
    ],
)
def test_versions_are_those_the_tests_run_with(package, version):
    assert version == pinned_versions()[package]


@pytest.mark.parametrize("config", OPTIONS)
def test_classes_are_those_of_the_config(config):
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / f"{config}.json"))
    names = parser.get_parsed_content("class_names")
    assert list(METADATA["network_data_format"]["outputs"]["pred"]["channel_def"].values()) == names
    assert names[0] == "background"
    assert parser.get_parsed_content("network_def").head[-1].out_channels == len(names)


@pytest.mark.parametrize("config", ["train", "inference"])
def test_network_takes_and_gives_what_is_stated(config):
    # n = 1 gives the smallest size of the stated shape; the function raises if channels or type are not as stated.
    for n in (1, 3):
        verify_net_in_out(
            "network_def",
            meta_file=str(CONFIGS / "metadata.json"),
            config_file=str(CONFIGS / f"{config}.json"),
            device="cpu",
            n=n,
        )


def test_licence_is_that_of_the_repository():
    text = (BUNDLE / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and text == (REPOSITORY / "LICENSE").read_text(encoding="utf-8")


def test_logging_conf_is_accepted():
    # MONAI refuses, with a ValueError, handlers and arguments other than the plain ones of the standard library.
    with undisturbed():
        ConfigWorkflow(
            config_file=str(CONFIGS / "inference.json"),
            logging_file=str(CONFIGS / "logging.conf"),
            workflow_type="inference",
        )
