"""`common` under another name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from release.source import ReleaseError
from release.vendor import check_code, check_renamed, rename


@pytest.mark.parametrize(
    ("key", "text", "renamed"),
    [
        ("_target_", "common.networks.UNet2d", "scripts.b.networks.UNet2d"),
        ("train#loss#_target_", "common.losses.Dice", "scripts.b.losses.Dice"),
        ("x", "$import common.errors as errors", "$import scripts.b.errors as errors"),
        ("x", "$from common.data.slices import Slices", "$from scripts.b.data.slices import Slices"),
        ("x", "$import common", "$import scripts.b"),
        ("x", "$import common as c", "$import scripts.b as c"),
        ("x", "$from common import errors", "$from scripts.b import errors"),
        ("x", "$f(common.a.b(@x), common.c)", "$f(scripts.b.a.b(@x), scripts.b.c)"),
        ("x", "$importlib.import_module('common.errors')", "$importlib.import_module('scripts.b.errors')"),
        ("x", "$my.common.x + uncommon.y + common_x.z + os.path.commonpath(@a)", None),
        ("x", "$@common + 1", None),
        ("_target_", "monai.common.x", None),
        ("_desc_", "what they have in common. More", None),
        ("x", "common.networks.UNet2d", None),
    ],
)
def test_rename(key, text, renamed):
    assert rename({key: text}, "scripts.b") == {key: renamed or text}
    assert rename({"list": [{key: text}]}, "scripts.b") == {"list": [{key: renamed or text}]}


def test_numbers_and_the_like_are_left_alone():
    content = {"a": 1, "b": [True, None, 2.5], "c": {}}
    assert rename(content, "scripts.b") == content


@pytest.mark.parametrize(
    "content",
    [{"x": "common.networks.UNet2d"}, {"a": [{"b": "%common.x"}]}, {"common.x": 1}],
    ids=["value", "nested", "key"],
)
def test_what_is_left_is_found(content):
    with pytest.raises(ReleaseError, match="train.json still names `common`"):
        check_renamed("train.json", content)


def test_common_as_a_word_is_no_name():
    check_renamed(
        "train.json", {"_desc_": "what they have in common. More", "common": 1, "x": "$os.path.commonpath(@a)"}
    )


@pytest.mark.parametrize(
    "line",
    [
        "common = 1",
        "x = common.shape",
        "def f(common): pass",
        "def common(): pass",
        "f(common=1)",
        "for common in x: pass",
    ],
)
def test_nothing_but_the_package_may_be_called_so(line):
    with pytest.raises(ReleaseError, match="x.py:2 calls something `common`.*another name"):
        check_code("x.py", f'"""What two have in common."""\n{line}\n')


@pytest.mark.parametrize("line", ["from .a import b", "uncommon = common_x = 1", "# common.x", "import common.errors"])
def test_other_code_is_accepted(line):
    check_code("x.py", line)


def test_the_code_of_a_release_has_no_undefined_names(exported):
    """As after a rename of something that is not the package; flake8 of the model zoo asks for the same."""
    bundles, out = exported
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "E9,F63,F7,F82",
        str(out / bundles[0] / "scripts"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
