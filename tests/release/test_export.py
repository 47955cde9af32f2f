"""The export of a bundle: what is in it, and when there is none."""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path

import pytest
import torch

import common
import release.export
from bundles.run import commit
from common.checkpoints import content_hash, read_weights, save_atomically
from common.networks import UNet2d
from common.records import write_record
from release.export import export
from release.source import ReleaseError
from tests.experiments.made_up import make_result
from tests.places import REPOSITORY

from .made_up_repository import CELL, DICE, NAME, PARTS, copy_bundle, edit, git

STEM = f"{NAME}_v{json.loads((REPOSITORY / NAME / 'configs' / 'metadata.json').read_text(encoding='utf-8'))['version']}"
TEXTS = {".py", ".json", ".conf", ".md"}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- what is in it ---------------------------------------------------------------------------------------------------


def test_every_bundle_of_the_repository_can_be_exported(exported):
    bundles, out = exported
    names = {path.name for path in out.iterdir()}
    assert len(names) == 3 * len(bundles)
    for bundle in bundles:
        described = read(REPOSITORY / bundle / "configs" / "metadata.json")
        archive = f"{bundle}_v{described['version']}.zip"
        assert {bundle, archive, f"{archive}.sha256"} <= names
        weights = {path.name: content_hash(path) for path in (out / bundle / "models").glob("*.pt")}
        assert weights == {name: entry["sha256"] for name, entry in described.get("weights", {}).items()}


def test_the_model_zoos_rules_hold(exported):
    """What its checks ask of a bundle: files that must be there, the version in the changelog, sizes."""
    bundles, out = exported
    for bundle in bundles:
        contents = files(out / bundle)
        assert {"LICENSE", "configs/metadata.json", "configs/inference.json", "configs/train.json"} <= set(contents)
        assert max(map(len, contents.values())) <= 25_000_000
        metadata = json.loads(contents["configs/metadata.json"])
        assert metadata["version"] in metadata["changelog"]
        assert re.fullmatch(r"[\w.]+", bundle) and (out / f"{bundle}_v{metadata['version']}.zip").is_file()


def test_bytes_are_the_same_every_time(bundle, tmp_path, capsys):
    for out, mask in (("one", 0o022), ("two", 0o077)):
        before = os.umask(mask)
        try:
            export(str(bundle), out=str(tmp_path / out))
        finally:
            os.umask(before)
        for path in bundle.rglob("*"):
            os.utime(path, (1e9, 1e9))
    one, two = (files(tmp_path / out) for out in ("one", "two"))
    assert one == two
    digest, name = (tmp_path / "one" / f"{STEM}.zip.sha256").read_text().split()
    assert (name, digest) == (f"{STEM}.zip", content_hash(tmp_path / "one" / f"{STEM}.zip"))
    assert ".unfinished" not in capsys.readouterr().out


def test_zip_holds_the_folder(released):
    with zipfile.ZipFile(released / f"{STEM}.zip") as archive:
        entries = archive.infolist()
        contents = {info.filename: archive.read(info) for info in entries}
    assert contents == {f"{NAME}/{name}": content for name, content in files(released / NAME).items()}
    assert list(contents) == sorted(contents)
    assert {info.date_time for info in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {(info.external_attr >> 16, info.create_system, info.compress_type) for info in entries} == {
        (0o100644, 3, 0)
    }


def test_what_a_run_leaves_is_not_in_it(bundle, tmp_path):
    export(str(bundle), out=str(tmp_path / "before"))
    for name in (
        *(
            "cache/entry.pt",
            "output/train/last.pt",
            "configs/__pycache__/x.pyc",
            "models/.gitkeep",
            "models/joint/model.pt",
        ),
        *("docs/.DS_Store", "models/.unfinished-abc/model.pt", "notes.txt"),
    ):
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_text("x")
    export(str(bundle), out=str(tmp_path / "after"))
    assert files(tmp_path / "before") == files(tmp_path / "after")


def test_nothing_is_left_out(bundle, released):
    found = set(files(released / NAME))
    package = Path(common.__file__).parent
    code = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    code = {name for name in code if not name.endswith(".pyc")}
    assert {"report/page.html.jinja", "report/page.css", "report/page.js"} <= code
    assert {name.removeprefix(f"scripts/{NAME}/") for name in found if name.startswith(f"scripts/{NAME}/")} == code
    assert {name for name in found if name.startswith("configs/")} == {
        path.relative_to(bundle).as_posix() for path in (bundle / "configs").iterdir()
    }
    assert {"LICENSE", "README.md", "docs/README.md", "docs/data_license.txt", "models/model.pt"} <= found


def test_nothing_names_the_package_of_the_repository(released):
    for path in (released / NAME).rglob("*"):
        if path.suffix in TEXTS:
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"(?<![\w.])common\.[a-z_]|import common\b|from common\b", text), path
    targets = re.findall(r"scripts\.[\w.]+", (released / NAME / "configs" / "train.json").read_text(encoding="utf-8"))
    assert len(targets) > 20 and all(target.startswith(f"scripts.{NAME}.") for target in targets)


def test_configs_change_in_names_only(bundle, released):
    for path in (bundle / "configs").glob("*.json"):
        text = json.dumps(read(released / NAME / "configs" / path.name)).replace(f"scripts.{NAME}.", "common.")
        exported = json.loads(text)
        if path.name == "metadata.json":
            source = exported.pop("source")
            assert source["version"] == common.__version__ and source["commit"] == commit()
            assert exported["weights"].pop("model.ts")["made_from"] == "model.pt"
        assert exported == read(path), path


# --- weights ---------------------------------------------------------------------------------------------------------


def test_weights_are_included(bundle, tmp_path):
    export(str(bundle), out=str(tmp_path / "out"))
    for name in PARTS:
        assert files(tmp_path / "out" / NAME / "models")[name] == (bundle / "models" / name).read_bytes()
    assert not (tmp_path / "out" / NAME / "large_files.json").exists()


def test_other_weights_can_be_listed_instead(bundle, released):
    listed = [name for name in PARTS if name != "model.pt"]
    assert {path.name for path in (released / NAME / "models").glob("*.pt")} == {"model.pt"}
    assert read(released / NAME / "large_files.json")["large_files"] == [
        {
            "path": f"models/{name}",
            "url": f"https://example.org/releases/{STEM}_{name}",
            "hash_val": content_hash(bundle / "models" / name),
            "hash_type": "sha256",
        }
        for name in listed
    ]
    for name in listed:
        assert (released / f"{STEM}_{name}").read_bytes() == (bundle / "models" / name).read_bytes()


def test_options_of_training_can_be_set_for_ones_own_use(bundle, released, tmp_path):
    export(str(bundle), str(tmp_path / "out"), train_options={"batch_size": 20, "steps_per_epoch": 50})
    assert [path.name for path in (tmp_path / "out").iterdir()] == [NAME]  # no zip that would be taken for the release
    ours, theirs = (read(folder / NAME / "configs" / "train.json") for folder in (tmp_path / "out", released))
    assert ours == {**theirs, "batch_size": 20, "steps_per_epoch": 50}


@pytest.mark.parametrize("name", ["batch", "network_def", "training"])
def test_options_must_be_there(bundle, tmp_path, name):
    with pytest.raises(ReleaseError, match=f"train_options must be options of train.json, got {name}. There are "):
        export(str(bundle), str(tmp_path / "out"), train_options={name: 20})
    assert list((tmp_path / "out").iterdir()) == []


def test_without_weights_it_says_so(tmp_path, capsys):
    export(str(copy_bundle(tmp_path)), out=str(tmp_path / "out"))
    assert "NO WEIGHTS, nothing measured" in capsys.readouterr().out
    exported = tmp_path / "out" / NAME
    assert {path.name for path in (exported / "models").iterdir()} == {"README.md"}
    for name in ("README.md", "docs/README.md", "models/README.md"):
        assert "This release has no weights" in (exported / name).read_text(encoding="utf-8")


# --- when there is none ----------------------------------------------------------------------------------------------


def metadata(**changes):
    return lambda bundle: edit(bundle / "configs" / "metadata.json", **changes)


def stray(bundle):
    save_atomically(UNet2d(num_classes=4).state_dict(), bundle / "models" / "pretrained_other.pt")


def missing(bundle):
    (bundle / "models" / "pretrained_encoder.pt").unlink()


def put(name, make):
    """Replace a file of weights, and describe it as it is now."""

    def apply(bundle):
        make(bundle / "models" / name)
        path = bundle / "configs" / "metadata.json"
        weights = read(path)["weights"]
        source = weights.get(name, weights["model.pt"])
        edit(path, weights={**weights, name: {**source, "sha256": content_hash(bundle / "models" / name)}})

    return apply


def other_classes(path):
    save_atomically(UNet2d(num_classes=3).state_dict(), path)


def without_a_part(path):
    save_atomically({key: value for key, value in read_weights(path).items() if "levels.5" not in key}, path)


def with_more(path):
    save_atomically({**read_weights(path), "unknown": torch.zeros(1)}, path)


def pickled(path):
    torch.save(UNet2d(num_classes=4), path)


def other_metrics(bundle):
    metrics = read(bundle / "configs" / "metadata.json")["eval_metrics"]
    edit(bundle / "configs" / "metadata.json", eval_metrics={**metrics, "mean_dice": 0.6})


def other_result(bundle):
    """What was measured is what is committed, whatever the file says now."""
    edit(bundle.parent / "results" / "cell.json", evaluations={})
    other_metrics(bundle)


def uncommitted(bundle):
    (bundle.parent / "results" / "new.json").write_text((bundle.parent / "results" / "cell.json").read_text())
    weights = read(bundle / "configs" / "metadata.json")["weights"]
    weights["model.pt"]["result"] = "results/new.json"
    edit(bundle / "configs" / "metadata.json", weights=weights)


def metrics_of_nothing(bundle):
    for path in (bundle / "models").glob("*.pt"):
        path.unlink()
    edit(bundle / "configs" / "metadata.json", weights={})


def card(old, new):
    def apply(bundle):
        path = bundle / "models" / "README.md"
        path.write_text(re.sub(old, new, path.read_text(encoding="utf-8"), count=1))

    return apply


def config(name, **changes):
    return lambda bundle: edit(bundle / "configs" / name, **changes)


def no_json(bundle):
    (bundle / "configs" / "metadata.json").write_text("{")


REFUSED = {
    "metadata that are not JSON": (no_json, "metadata.json is not JSON"),
    "version not in the changelog": (
        metadata(version="9.9.9"),
        r"metadata.json: version 9.9.9 is not in its changelog \(\d.*say there what is new",
    ),
    "no changelog": (metadata(changelog=None), r"is not in its changelog \(which is empty\)"),
    "version that is none": (metadata(version="1.0"), "version must be three numbers such as 1.2.3, got '1.0'"),
    "plain text that names common": (
        config("train.json", loss="common.losses.Dice"),
        "configs/train.json still names `common`.*'common.losses.Dice'",
    ),
    "key that names common": (
        config("inference.json", **{"common.x": 1}),
        "configs/inference.json still names `common`",
    ),
    "undescribed weights": (stray, r"pretrained_other.pt: the metadata have no entry for it in `weights`"),
    "missing weights": (missing, "pretrained_encoder.pt: there is no such file, the metadata name one with"),
    "changed weights": (lambda bundle: other_classes(bundle / "models" / "model.pt"), "model.pt: its SHA-256 is"),
    "another number of classes": (
        put("model.pt", other_classes),
        r"model.pt does not fit the bundle's network. .*'head.1.weight' has shape \(3, ",
    ),
    "part that is missing": (
        put("pretrained_encoder.pt", without_a_part),
        "pretrained_encoder.pt does not fit the bundle's network. .*not in the file, such as 'encoder.levels.5",
    ),
    "part that the network lacks": (
        put("pretrained_encoder_decoder.pt", with_more),
        "pretrained_encoder_decoder.pt does not fit .*not in the network, such as 'unknown'",
    ),
    "pickle": (put("model.pt", pickled), "model.pt does not fit .*not a file of weights that can be loaded safely"),
    "file of another name": (
        put("weights.pt", lambda path: save_atomically(UNet2d(num_classes=4).state_dict(), path)),
        "weights.pt does not fit .*must be model.pt, model_NAME.pt or pretrained_encoder.pt",
    ),
    "no model card": (
        lambda bundle: (bundle / "models" / "README.md").unlink(),
        "models/README.md: must be the card of",
    ),
    "card of other weights": (card("[0-9a-f]{64}", "0" * 64), "models/README.md: must be the card of these weights"),
    "card with another licence": (card("license: .*", "license: mit"), "begins with `license: cc-by-nc-sa-4.0`"),
    "metrics that were not measured": (
        other_metrics,
        r"eval_metrics differ from results/cell.json: \{'mean_dice': 0.6",
    ),
    "metrics of an uncommitted change": (other_result, "eval_metrics differ from results/cell.json"),
    "result that is not committed": (
        uncommitted,
        "must be named in the metadata and committed, got 'results/new.json'",
    ),
    "metrics without a model": (metrics_of_nothing, "eval_metrics must be empty where there is no model.pt"),
}


@pytest.mark.parametrize(("fault", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses(bundle, tmp_path, fault, message):
    fault(bundle)
    with pytest.raises(ReleaseError, match=re.compile(message, re.DOTALL)):
        export(str(bundle), out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_committed_metrics_are_accepted_again_once_they_agree(bundle, tmp_path):
    write_record(bundle.parent / "results" / "cell.json", make_result(CELL, {**DICE, "mean": 0.6}))
    other_metrics(bundle)
    git(bundle.parent, "commit", "-qam", "measured again")
    export(str(bundle), out=str(tmp_path / "out"))


@pytest.mark.parametrize("there", [NAME, f"{STEM}.zip", f"{STEM}.zip.sha256"])
def test_does_not_replace_what_exists(bundle, tmp_path, there):
    out = tmp_path / "out"
    out.mkdir()
    (out / there).write_text("mine")
    with pytest.raises(ReleaseError, match=f"{there} exists and is left as it is: choose another folder"):
        export(str(bundle), out=str(out))
    assert files(out) == {there: b"mine"}


@pytest.mark.parametrize("name", ["spleen_ct_segmentation", "Bundle_ACDC", "bundle_a-b"])
def test_names_that_may_be_others_are_refused(tmp_path, name):
    copy_bundle(tmp_path, name)
    with pytest.raises(
        ReleaseError, match=f"bundle must be called bundle_ and lower-case.*got '{name}': no bundle of the"
    ):
        export(str(tmp_path / name), out=str(tmp_path / "out"))


def test_unknown_bundle(tmp_path):
    with pytest.raises(ReleaseError, match=rf"such as .*{NAME}.*, got 'nowhere'"):
        export("nowhere", out=str(tmp_path))


def test_files_that_the_model_zoo_does_not_take_are_refused(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(release.export, "LARGEST_FILE", 8_000_000)
    with pytest.raises(ReleaseError, match=r"\.pt has [\d,]+ bytes, the model zoo allows 8,000,000"):
        export(str(bundle), out=str(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["pretrained_encoder.pt", "model.pt"], ids=["beside the zip", "in the zip"])
def test_weights_that_change_while_they_are_exported(bundle, tmp_path, monkeypatch, name):
    """The check has seen other bytes than the copy gets."""
    check = release.export.check_metrics

    def write_meanwhile(source):
        check(source)
        with (source.folder / "models" / name).open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr(release.export, "check_metrics", write_meanwhile)
    with pytest.raises(ReleaseError, match=f"{name} was changed while it was exported: the copy has the SHA-256"):
        export(str(bundle), out=str(tmp_path / "out"), large_files_url="https://example.org/releases")
    assert not list((tmp_path / "out").iterdir())
