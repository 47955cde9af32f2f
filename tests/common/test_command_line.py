"""Slips at the command line are refused; every documented command passes."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import fire
import monai.bundle
import pytest

from common.command_line import CommandLineError, _read, check, check_arguments
from tests.places import REPOSITORY
from tests.processes import run_here

BUNDLE = REPOSITORY / "bundle_acdc"
DOCUMENTS = sorted(
    path
    for path in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("*/*.md"), *REPOSITORY.glob("bundle_*/*/*.md")]
    if path.name != "CHANGELOG.md"
)
COMMAND = re.compile(r"-m monai\.bundle run ((?:[^`#\n\\]|\\\n)+)")
INFERENCE = "run --config_file configs/inference.json"
TRAIN = "training --config_file configs/train.json"
EVALUATE = "run --config_file configs/evaluate.json"
GLOBAL = "training --config_file configs/pretrain_global.json"


def documented():
    for path in DOCUMENTS:
        for match in COMMAND.finditer(path.read_text(encoding="utf-8")):
            command = match[1].replace("\\\n", " ").strip()
            if "--config_file" in command:
                yield pytest.param(path, command, id=f"{path.relative_to(REPOSITORY)}: {command[:60]}")


@pytest.fixture(autouse=True)
def in_the_bundle(monkeypatch):
    monkeypatch.chdir(BUNDLE)


@pytest.mark.parametrize(("document", "command"), documented())
def test_documented_commands_pass(monkeypatch, document, command):
    folder = next((parent for parent in document.parents if parent.name.startswith("bundle_")), BUNDLE)
    # The last is where MONAI Label puts a bundle.
    command = command.replace("bundle_kidney", "bundle_acdc").replace("monaibundle/model/", "")
    command = command.replace("$bundle", str(BUNDLE))
    monkeypatch.chdir(REPOSITORY if "bundle_acdc/configs" in command else folder)
    check_arguments(shlex.split(command))


def test_documents_have_commands():
    assert len(list(documented())) > 25


@pytest.mark.parametrize(
    "command",
    [
        GLOBAL + " --unlabelled_frames all",
        TRAIN + " --num_labelled all --steps_per_epoch 10 --device cpu --slice_axis fixed --channel 0",
        TRAIN + """ --extra_unlabelled_ids "['a']" --device "$torch.device('cpu')" --cache_dir '$None' --resume True""",
        TRAIN + " --tracking mlflow --run_name x --experiment_name y --learning_rate 1 --learning_rate_decay none",
        TRAIN + " --train#trainer#max_epochs 3 --train::dataset::num_workers 0 --train#handlers#2#interval 2",
        TRAIN + " --spacing_mm [1,1.5] --image_size 192,192 --_meta_#version 1.2.3 --+extra_unlabelled_ids [a,b]",
        TRAIN + " --trim_margin_mm 10 --label_values {0:0,5:1} --num_labelled '@seed' --class_names [a,b,c]",
        TRAIN
        + " --datalist '$datalists.json_datalist' --train#handlers [] --output-dir=x --meta_file configs/metadata.json",
        INFERENCE + " --largest_component --nopictures --input a,b --logging_file configs/logging.conf",
        INFERENCE
        + """ --dataset_dir "['one','two']" --init_id x --final_id y --input '$[1]' --checkpoint ../a/~b.pt""",
        "--run_id training --config_file \"['configs/train.json','configs/multi_gpu_train.json']\" "
        "--distributed_network @network",
        "--config_file configs/inference.json run -- --verbose",
    ],
)
def test_what_is_right_passes(command):
    check_arguments(shlex.split(command))


WRONG = {
    TRAIN + " --num_labeled 2": "no option.*Write --num_labelled",
    TRAIN + " --combination c2": "--combination is called --draw now: write that",
    TRAIN + " --run_name x": "--run_name is no option: configs/train.json has no 'run_name'",
    TRAIN + " --train#trainer#max_epoch 3": "at train#trainer has no 'max_epoch'.*--train#trainer#max_epochs",
    TRAIN + " --train#trainr#max_epochs 3": "Write --train#trainer",
    TRAIN + " --train#dataset#num_worker 0": "Write --train#dataset#num_workers",
    TRAIN + " --train#handlers#99#interval 1": "has no '99'",
    TRAIN + " --+extra_ids [a]": "no option",
    TRAIN + " --steps two": "--steps must be a whole number, got 'two'",
    TRAIN + " --steps 1e4": "--steps must be a whole number, got 10000.0",
    TRAIN + " --steps": "--steps must be a whole number, got no value. Write one behind it",
    TRAIN + " --steps 5 --steps 6": "--steps must be given once, got it 2 times",
    TRAIN + " --steps 5 -- --seed 3": "--seed 3 stands after '--', where nothing is read",
    TRAIN + " --seed 5#3": "'5#3' is read as 5",
    TRAIN + " --resume false": "--resume must be True or False, got 'false'. Write it as Python does",
    TRAIN + " --resume 0": "--resume must be True or False, got 0",
    TRAIN + " --learning_rate nan": "--learning_rate must be a finite number, got 'nan'",
    TRAIN + " --learning_rate 1e999": "--learning_rate must be a finite number, got inf",
    TRAIN + " --draw 1": """--draw must be a text, got 1. To give it as a text write "'1'".""",
    TRAIN + " --num_labelled 1.5": "--num_labelled must be a whole number or a text, got 1.5",
    TRAIN + " --extra_unlabelled_ids a": "must be a list of texts, got 'a'. Write a list, as in \"['a']\"",
    TRAIN + " --extra_unlabelled_ids [1]": "must be a list of texts",
    TRAIN + " --cache_dir None": "got None, which MONAI ignores: write '$None'",
    TRAIN + " --unlabelled_frames": "--unlabelled_frames must be a text, got no value",
    EVALUATE + " --unlabelled_frames all": "no option of configs/evaluate.json: it is for training .*. Leave it out.",
    TRAIN + " --datalist acdc": "--datalist must be an expression",
    TRAIN + " --network_def x": "--network_def must be a dictionary",
    TRAIN + " --device": "--device must be a value, got no value",
    TRAIN + " --device true": "'true', which is a text and not what it says",
    TRAIN + " --ckpt_dir 2024": """To give it as a text write "'2024'".""",
    TRAIN + " --dataset_dir \"['a']\"": "--dataset_dir must be a text, got ['a']",
    GLOBAL + " --crop_start 10": "--crop_start must be a list of 2 whole numbers, got 10. Write a list, as in",
    INFERENCE + " --chekpoint x": "Write --checkpoint",
    INFERENCE + " -o x": "-o must begin with two dashes",
    INFERENCE + " -output_dir x": "-output_dir must begin with two dashes: write --output_dir",
    INFERENCE + " --image_size 192": '--image_size must be a list of 2 whole numbers, got 192. .*"[192,192]"',
    INFERENCE + " --image_size [192]": "--image_size must be a list of 2 whole numbers, got [192]",
    INFERENCE + " --image_size [192.5,192]": "--image_size must be a list of 2 whole numbers",
    INFERENCE + " --largest_component false": "--largest_component must be True or False, got 'false'",
    INFERENCE + " --nosuch": "--such is no option",
    INFERENCE + " --input scan#2": "'scan#2' is read as 'scan'. A value cannot hold '#'.*rename",
    INFERENCE + " --input \"'scan#2'\"": "A value cannot hold '#'",
    INFERENCE + " --input a::b": "A value cannot hold '#' or '::'",
    INFERENCE + " --input \"['a','b#c']\"": "A value cannot hold '#'",
    INFERENCE + " --input '(scan)'": """'(scan)' is read as 'scan'. Write "'(scan)'".""",
    INFERENCE + " --input a b c": "--input has 'b', 'c' after its value, which belong to no option.*of a wildcard",
    INFERENCE + " --input a - b": "--input has '-', 'b' after its value",
    INFERENCE + " --input": "--input must be a text or a list of texts, got no value",
    INFERENCE + " --input -": "got no value",
    INFERENCE + " --input ''": "a text that is not empty, got ''. Was a variable of the shell not set?",
    INFERENCE + " --input '~/x'": "which the shell has not completed: write ",
    INFERENCE + " --output_dir=~/x": "which the shell has not completed",
    INFERENCE + " --input 5": "--input must be a text or a list of texts, got 5",
    INFERENCE + " --channel two": "--channel must be a whole number, got 'two'",
    INFERENCE + " --slice_axis": "--slice_axis must be a text, got no value",
    "run extra --config_file configs/inference.json": "run has 'extra' after its value",
    "x --run_id run --config_file configs/inference.json": "run has 'x' after its value",
}


@pytest.mark.parametrize(("command", "message"), WRONG.items(), ids=WRONG)
def test_slips_are_refused(command, message):
    with pytest.raises(CommandLineError) as error:
        check_arguments(shlex.split(command))
    assert all(part in str(error.value) for part in message.split(".*")), str(error.value)
    assert all(len(line) < 800 for line in str(error.value).splitlines())


def test_all_slips_are_named():
    with pytest.raises(CommandLineError) as error:
        check_arguments(shlex.split(TRAIN + " --steps two --sed 3 --resume false"))
    assert [line.split()[0] for line in str(error.value).splitlines()] == ["--steps", "--sed", "--resume"]


@pytest.mark.parametrize("bundle", ["bundle_prostate", "bundle_mmwhs"])
def test_defaults_of_other_bundles(monkeypatch, bundle):
    monkeypatch.chdir(REPOSITORY / bundle)
    check_arguments(
        shlex.split(TRAIN + " --channel 1 --trim_margin_mm '$None' --label_values {0:0,205:1} --spacing_mm 1")
    )
    for slip in ("--channel None", "--extra_unlabelled_ids a", "--trim_margin_mm x"):
        if slip != "--channel None" or bundle == "bundle_prostate":  # elsewhere the default is none
            with pytest.raises(CommandLineError):
                check_arguments(shlex.split(f"{TRAIN} {slip}"))


@pytest.mark.parametrize("option", ["spacing_mm 1", "n4_shrink [4,4,1]", "crop_size 100", "slice_axis fixed"])
def test_options_of_volumes_are_none_of_photographs(monkeypatch, option):
    monkeypatch.chdir(REPOSITORY / "bundle_cityscapes")
    check_arguments(shlex.split(f"{TRAIN} --num_labelled 200 --image_size [128,256] --augmentation none"))
    with pytest.raises(CommandLineError, match=f"--{option.split()[0]} is no option: configs/train.json has no"):
        check_arguments(shlex.split(f"{TRAIN} --{option}"))


def test_photographs_have_no_uncertainty(monkeypatch):
    monkeypatch.chdir(REPOSITORY / "bundle_cityscapes")
    with pytest.raises(CommandLineError, match=r"--uncertainty is no option: configs/inference\.json has no"):
        check_arguments(shlex.split(f"{INFERENCE} --uncertainty True"))


@pytest.mark.parametrize("bundle", ["bundle_prostate", "bundle_mmwhs", "bundle_cityscapes"])
@pytest.mark.parametrize("value", ["all", "single"])
def test_an_option_of_other_bundles_is_explained(monkeypatch, bundle, value):
    monkeypatch.chdir(REPOSITORY / bundle)
    for stage in ("pretrain_global", "pretrain_local", "pretrain_joint", "train"):
        with pytest.raises(CommandLineError) as error:
            check_arguments(shlex.split(f"training --config_file configs/{stage}.json --unlabelled_frames {value}"))
        assert str(error.value) == (
            f"--unlabelled_frames is no option of configs/{stage}.json: it is for training where a dataset has several "
            "frames of a patient. Leave it out; further volumes are named by --extra_unlabelled_ids."
        )


def test_options_from_a_file(tmp_path):
    path = tmp_path / "args.json"
    path.write_text(json.dumps({"config_file": "configs/train.json", "steps": 5, "run_id": "training"}))
    check_arguments(["--args_file", str(path), "--seed", "1"])
    path.write_text(json.dumps({"config_file": "configs/train.json", "stps": 5}))
    with pytest.raises(CommandLineError, match="Write --steps"):
        check_arguments(["training", "--args_file", str(path)])


@pytest.mark.parametrize(
    "arguments",
    [
        ["training", "--a", "1", "--b=2", "--c-d", "x", "-e", "[1,2]", "--f"],
        ["--a", "-1", "--b", "'x'", "--nopictures", "--c=a=b", "--config_file", "['a','b']"],
        ["--nothing", "--pictures", "--train#x", "{a: 1}", "--+b", "$1", "-long", "3", "--d", "scan#2"],
        ["--novel", "x", "--init_id", "--seed", "0x10", "--", "--verbose"],
    ],
)
def test_options_are_read_as_fire_reads_them(arguments, capsys):
    """With the parameters of `monai.bundle.run`, of which a first word without dashes is the first."""
    read = {}

    def record(
        run_id=None, init_id=None, final_id=None, meta_file=None, config_file=None, logging_file=None, tracking=None,
        args_file=None, **override,
    ):  # fmt: skip
        read.update(override, init_id=init_id, config_file=config_file)

    fire.Fire(record, command=[word for word in arguments if word != "--verbose"])
    options, _ = _read(arguments)
    found = {option.name: option.value for option in options}
    assert found == {name: value for name, value in read.items() if value is not None or name in found}


@pytest.mark.parametrize("program", ["/usr/bin/pytest", "monailabel/main.py", "monai/apps/__main__.py"])
def test_nothing_is_checked_from_python(monkeypatch, program):
    monkeypatch.setattr(sys, "argv", [program, "run", *shlex.split(TRAIN), "--num_labeled", "2"])
    check()


@pytest.mark.parametrize("command", ["ckpt_export", "verify_metadata"])
def test_other_commands_of_monai_are_not_checked(monkeypatch, command):
    monkeypatch.setattr(sys, "argv", [str(Path(monai.bundle.__file__).with_name("__main__.py")), command, "--x", "1"])
    check()


def test_a_slip_ends_a_run_with_one_line(capsys):
    command = ["monai.bundle", "run", "training", "--config_file", "configs/train.json", "--num_labeled", "2"]
    assert run_here(REPOSITORY / "bundle_acdc", *command) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "Cause: CommandLineError: --num_labeled is no option: configs/train.json has no 'num_labeled'. "
        "Write --num_labelled if that is meant."
    )
