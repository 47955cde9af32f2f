"""What Hugging Face reads of a model card: YAML that says what was measured, as in the result file."""

from __future__ import annotations

import json

import pytest
import yaml

from release.front_matter import front_matter, measured
from release.results import MAIN_EVALUATION, metrics_of
from tests.places import BUNDLE, BUNDLES, CONFIGS, REPOSITORY

from .made_up_repository import NAME

CARD = (BUNDLE / "models" / "README.md").read_text(encoding="utf-8")


def content_of(card):
    start, header, _ = card.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(header)


def test_the_committed_card_has_the_numbers_of_the_result_file():
    metadata = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))
    result = json.loads((REPOSITORY / metadata["weights"]["model.pt"]["result"]).read_text(encoding="utf-8"))
    content = content_of(CARD)
    assert content["pipeline_tag"] == "image-segmentation" and content["metrics"] == ["dice"]
    (model,) = content["model-index"]
    (entry,) = model["results"]
    assert model["name"] == "bundle_acdc" and content["datasets"] == [entry["dataset"]["type"]] == ["acdc"]
    assert [metric["value"] for metric in entry["metrics"]] == list(metrics_of(result).values())
    assert entry["metrics"][0]["value"] == result["evaluations"][MAIN_EVALUATION]["mean_dice"]["mean"]


@pytest.mark.parametrize(
    "text", ["plain", "with: colon", "- dash", "quote ' and \"", "é 1.0", "yes", "null", "1.5", ""]
)
def test_texts_stay_texts(text):
    mean = {"mean_dice": {"mean": 0.5, "RV": 0.25}}
    content = measured("bundle_x", "x", text, {"evaluations": {MAIN_EVALUATION: mean}})
    read = content_of(front_matter("mit", **content, more=text))
    assert read["model-index"] == content["model-index"] and read["license"] == "mit" and read["more"] == text


def test_a_release_without_weights_states_no_numbers(exported):
    for name in {bundle.name for bundle in BUNDLES.values()} - {BUNDLE.name}:
        content = content_of((exported[1] / name / "README.md").read_text(encoding="utf-8"))
        assert content["license"] == "apache-2.0" and "model-index" not in content and "metrics" not in content


def test_it_is_valid_for_the_card_classes_of_the_hub(released):
    """Reads, checks and writes it as the hub's own client does; nothing is sent."""
    hub = pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    for text in (CARD, (released / NAME / "README.md").read_text(encoding="utf-8"), front_matter("apache-2.0")):
        data = hub.ModelCard(text, ignore_metadata_errors=False).data
        assert data.library_name == "monai" and data.pipeline_tag == "image-segmentation" and data.license
        if "model-index" in text:
            assert data.model_name in ("bundle_acdc", NAME)
            assert [result.metric_type for result in data.eval_results] == ["dice"] * 4
            assert all(result.metric_value == pytest.approx(result.metric_value) for result in data.eval_results)
            assert {result.dataset_split for result in data.eval_results} == {"test"}
        again = hub.ModelCardData(**{key: value for key, value in data.to_dict().items() if key != "model-index"})
        assert again.license == data.license
