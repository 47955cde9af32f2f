"""The options of `python -m monai.bundle run`, compared with the configs that they are for before anything is started.

Fire reads every value as Python, and MONAI adds any id to the config. So a slip changes nothing, or something else,
without a word: a misspelt id, a second file where the shell has replaced a wildcard, `false` (a text, and so true),
what follows a `#`. From Python, as in MONAI Label, nothing is checked here.

Values that begin with `$`, `@` or `%` are expressions, references and macros of MONAI and are left to it.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from pydoc import locate
from typing import Any, NamedTuple

from monai.bundle import ComponentLocator, ConfigComponent, ConfigParser, ConfigWorkflow, run
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS
from monai.utils import ensure_tuple

_PROGRAM = ("monai", "bundle", "__main__.py")
_SEPARATOR = "::"  # MONAI's; it writes it for every `#`, also in values
_OURS = ("$", "@", "%")  # what makes a text an expression, a reference or a macro
_COMPONENT_KEYS = ("_target_", "_disabled_", "_requires_", "_desc_", "_mode_")
_PATH_DEFAULT = re.compile(r"\$@\w+ \+ '[^']*'")  # "$@bundle_root + '/models'"
_SECOND_NAME = re.compile(r"\$@(\w+) or '[^']*'")  # "$@input or '/data'"
_NOT_TEXT = {"true": "True", "false": "False", "null": "'$None'"}

# Values of each kind that an option may have, where its default does not tell.
_SAMPLES: dict[str, tuple[Any, ...]] = {
    "config_file": ("", [""]),
    "meta_file": ("", [""]),
    "logging_file": ("", False),
    "tracking": ("", {}),
    **dict.fromkeys(("run_id", "init_id", "final_id", "args_file", "workflow_type", "properties_path"), ("",)),
    "input": ("", [""]),
    "num_labelled": (1, ""),
    "labelled": ("", [""]),
    "channel": (0,),
    "trim_margin_mm": (0.0,),
    "n4_shrink": ([1, 1, 1],),
    "n4_iterations": ([1],),
    "spacing_mm": (1.0, [1.0, 1.0]),
    "extra_unlabelled_ids": ([""],),
    "label_values": ([0], {}),
    "resume": (False,),
    "steps_per_epoch": (1,),
}
_RENAMED = {"combination": "draw"}  # what an option is called now
_ELSEWHERE = {  # options that only some bundles have
    "unlabelled_frames": "it is for training where a dataset has several frames of a patient. Leave it out",
}
_EXPRESSIONS = {"datalist": "$datalists.image_label_folders"}  # for what no plain value stands


class CommandLineError(ValueError):
    """An option that the configs do not have, or a value that cannot be meant."""


class _Option(NamedTuple):
    name: str  # as written, without the dashes in front
    text: str | None  # as written; None if there is no value, or if it is from an args_file
    value: Any  # as Fire reads it

    @property
    def id(self) -> str:
        return self.name.removeprefix("+").replace("#", _SEPARATOR)


def check() -> None:
    """Check the command line of this process, if that is `python -m monai.bundle run ...`.

    Raises:
        CommandLineError: see `check_arguments`.
    """
    if Path(sys.argv[0]).parts[-3:] == _PROGRAM and sys.argv[1:2] == ["run"]:
        check_arguments(sys.argv[2:])


def check_arguments(arguments: Sequence[str]) -> None:
    """Check what stands behind `python -m monai.bundle run`.

    Args:
        arguments: as the shell has passed them on. The files that `config_file` names are read.

    Raises:
        CommandLineError: if an argument belongs to no option, an option is given twice or has no id in the configs, or
            a value is of another kind than the option's default, or is not what was written. All of these are listed.
    """
    options, problems = _read(arguments)
    given = {option.name: option.value for option in options}
    if isinstance(given.get("args_file"), str):
        further = ConfigParser.load_config_file(given["args_file"])
        options += [_Option(name, None, value) for name, value in further.items() if name not in given]
        given = {**further, **given}
    files = ensure_tuple(given["config_file"])  # MONAI has read them
    config = ConfigParser(ConfigParser.load_config_files(files))
    with suppress(ValueError, OSError):  # without metadata MONAI goes on
        config.read_meta(given.get("meta_file") or str(Path(files[0]).with_name("metadata.json")))
    more = _parameters() | _tracking_ids(given.get("tracking"))
    for option in options:
        problem = _unwritten(option) or _unknown(option, config, more, files) or _unfit(option, config)
        problems += [problem] if problem else []
    if problems:
        raise CommandLineError("\n".join(problems))


def _read(arguments: Sequence[str]) -> tuple[list[_Option], list[str]]:
    """Take the arguments apart as Fire does; return the options, and what it would leave or misread."""
    from fire import parser  # here, since who uses a bundle from Python need not have it

    options: list[_Option] = []
    positional: list[tuple[str, str]] = []  # with what is before it
    problems: list[str] = []
    arguments, flags = parser.SeparateFlagArgs(list(arguments))
    while arguments:
        word, *arguments = arguments
        if not _is_flag(word):
            positional.append((f"--{options[-1].name}" if options else "run", word))
            continue
        name, equals, text = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        if not word.startswith("--"):
            problems.append(f"{word} must begin with two dashes: write -{word}.")
        if equals:
            options.append(_Option(name, text, parser.DefaultParseValue(text)))
        elif arguments and arguments[0] != "-" and not _is_flag(arguments[0]):
            text, *arguments = arguments
            options.append(_Option(name, text, parser.DefaultParseValue(text)))
        elif name.startswith("no") and name not in _parameters():
            options.append(_Option(name[2:], None, False))
        else:
            options.append(_Option(name, None, True))
    names = [option.name for option in options]
    if ignored := parser.CreateParser().parse_known_args(flags)[1]:
        problems.append(f"{' '.join(ignored)} stands after '--', where nothing is read: take out the '--'.")
    stray = positional if "run_id" in names else positional[1:]  # the first one is the id of what is run
    for before in dict.fromkeys(before for before, _ in stray):
        words = ", ".join(repr(word) for option, word in stray if option == before)
        problems.append(
            f"{before} has {words} after its value, which belong to no option. Put a value with spaces into "
            "quotation marks; instead of a wildcard, which becomes several arguments, give a folder or a list: "
            "\"['first','second']\"."
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    problems += [f"--{name} must be given once, got it {names.count(name)} times: keep one." for name in repeated]
    return options, problems


def _is_flag(word: str) -> bool:
    return re.match("--|-[a-zA-Z]", word) is not None


def _parameters() -> set[str]:
    """Return what `monai.bundle run` itself takes, beside ids of the config."""
    return {*inspect.signature(run).parameters, *inspect.signature(ConfigWorkflow).parameters} - {"override"}


def _tracking_ids(tracking: Any) -> set[str]:
    """Return the ids that MONAI adds to the config for the tracking of experiments."""
    if not tracking:
        return set()
    known = isinstance(tracking, str) and tracking in DEFAULT_EXP_MGMT_SETTINGS
    settings = DEFAULT_EXP_MGMT_SETTINGS[tracking] if known else ConfigParser.load_config_files(tracking)
    return set(settings.get("configs", {}))


def _unwritten(option: _Option) -> str:
    """Say where Fire reads something else than what is written."""
    name, text, value = option
    if text is None or value == text:
        return ""
    texts = list(_texts(value))
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError):
        return ""
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]  # words without quotation marks
    changed = isinstance(value, str) and not isinstance(tree.body, ast.Constant)
    if changed or text.count("#") > sum(each.count("#") for each in texts) or any(each not in text for each in names):
        return f"--{name} {text!r} is read as {value!r}. {_rewritten(text)}"
    return ""


def _rewritten(text: str) -> str:
    """Say how to write what Fire or MONAI would change."""
    if "#" in text or _SEPARATOR in text:
        return (
            "A value cannot hold '#' or '::', which mean something else to Fire and to MONAI: rename the file or "
            "folder, or make a link to it with another name."
        )
    return f"Write {_quoted(text)}."


def _quoted(text: str) -> str:
    """Return how a text is written so that Fire reads it as this text."""
    return f'"{text!r}"'


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts within a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _texts(pair)
    elif isinstance(value, (list, tuple, set)):
        for entry in value:
            yield from _texts(entry)


def _unknown(option: _Option, config: ConfigParser, more: set[str], files: Sequence[str]) -> str:
    """Say that there is no such id, and which is nearest."""
    if option.name in more:
        return ""
    if option.name in _RENAMED:
        return f"--{option.name} is called --{_RENAMED[option.name]} now: write that."
    if option.name in _ELSEWHERE and option.name not in config:
        instead = "; further volumes are named by --extra_unlabelled_ids" if "extra_unlabelled_ids" in config else ""
        return f"--{option.name} is no option of {', '.join(files)}: {_ELSEWHERE[option.name]}{instead}."
    part, keys = config.get(), option.id.split(_SEPARATOR)
    for depth, key in enumerate(keys):
        known = [str(index) for index in range(len(part))] if isinstance(part, list) else _keys(part)
        if key not in known and not (isinstance(part, list) and key.startswith("-") and key[1:] in known[1:]):
            above = "#".join(keys[:depth])
            nearest = difflib.get_close_matches(key, known if above else [*known, *more], n=1)
            known = known if above else [name for name in known if not isinstance(config.get(name), dict)]
            hint = (
                f"Write --{'#'.join([*keys[:depth], *nearest])} if that is meant"
                if nearest
                else f"Choose among {', '.join(known)}"
            )
            place = ", ".join(files) + (f" at {above}" if above else "")
            return f"--{option.name} is no option: {place} has no {key!r}. {hint}."
        if depth + 1 < len(keys):
            part = part[int(key)] if isinstance(part, list) else part.get(key)
    return ""


def _keys(part: Any) -> list[str]:
    """Return the keys that a part of a config has or, if it makes an object, could have."""
    if not isinstance(part, dict):
        return []
    target = part.get("_target_")
    if not isinstance(target, str):
        return [key for key in part if not key.endswith("imports")]
    name = ConfigComponent(part, locator=ComponentLocator()).resolve_module_name()
    made: Any = locate(name) if isinstance(name, str) else name
    return list(dict.fromkeys([*part, *inspect.signature(made).parameters, *_COMPONENT_KEYS]))


def _unfit(option: _Option, config: ConfigParser) -> str:
    """Say that a value is of another kind than the option's default, or cannot be meant."""
    name, text, value = option
    default, samples = config.get(option.id), _samples(config, option.id)
    if isinstance(value, str) and value.startswith(_OURS):
        return ""
    written = f"--{name} must be %s, got {'no value' if text is None and value is True else repr(value)}"
    if value is None:
        return "" if default is None else f"{written % 'a value'}, which MONAI ignores: write '$None' if it is meant."
    if name in _EXPRESSIONS:
        return f"{written % 'an expression'}: write it as in '{_EXPRESSIONS[name]}'."
    if not any(_fits(value, sample) for sample in samples) if samples else text is None and isinstance(value, bool):
        return f"{written % (' or '.join(map(_kind, samples)) or 'a value')}. {_remedy(text, value, samples)}"
    for each in _texts(value):
        if each.lower() in _NOT_TEXT:
            return f"{written % 'a value'}, which is a text and not what it says: write {_NOT_TEXT[each.lower()]}."
        if each.startswith("~"):
            return f"{written % 'a path'}, which the shell has not completed: write {os.path.expanduser(each)}."
        if name not in _parameters() and not each.startswith(_OURS) and ("#" in each or _SEPARATOR in each):
            return f"{written % 'another text'}. {_rewritten(each)}"
    if value == "" and default != "":
        return f"{written % 'a text that is not empty'}. Was a variable of the shell not set?"
    return ""


def _remedy(text: str | None, value: Any, samples: Sequence[Any]) -> str:
    if text is None:
        return "Write one behind it."
    if any(isinstance(sample, str) for sample in samples):
        return f"To give it as a text write {_quoted(text)}."
    lists = [sample for sample in samples if isinstance(sample, list)]
    if lists and not isinstance(value, (list, tuple)):
        return f'Write a list, as in "[{",".join([repr(value)] * max(1, len(lists[0])))}]".'
    if any(isinstance(sample, bool) for sample in samples):
        return "Write it as Python does, with a capital letter."
    return "Give such a value."


def _samples(config: ConfigParser, name: str) -> tuple[Any, ...]:
    """Return a value of each kind that an option may have; none if its default does not tell."""
    default = config.get(name)
    if name in _SAMPLES:
        return _SAMPLES[name]
    if isinstance(default, str) and default.startswith("@"):
        return _samples(config, default[1:].replace("#", _SEPARATOR))
    if isinstance(default, str) and default.startswith(_OURS):
        second = _SECOND_NAME.fullmatch(default)
        return _samples(config, second[1]) if second else ("",) if _PATH_DEFAULT.fullmatch(default) else ()
    return () if default is None else (default,)


def _fits(value: Any, sample: Any) -> bool:
    if isinstance(value, str) and value.startswith(_OURS):
        return True
    if isinstance(sample, float):
        return type(value) in (int, float) and math.isfinite(value)
    if isinstance(sample, (list, tuple)):
        if not isinstance(value, (list, tuple)):
            return False
        if not sample or not isinstance(sample[0], (int, float, str)):
            return True
        fixed = len(sample) > 1 and not isinstance(sample[0], str)
        return not (fixed and len(value) != len(sample)) and all(_fits(each, sample[0]) for each in value)
    return type(value) is type(sample)


def _kind(sample: Any) -> str:
    if isinstance(sample, (list, tuple)):
        if not sample or not isinstance(sample[0], (int, float, str)):
            return "a list"
        number = f"{len(sample)} " if len(sample) > 1 and not isinstance(sample[0], str) else ""
        return f"a list of {number}{_KINDS[type(sample[0])][1]}"
    return _KINDS[type(sample)][0]


_KINDS = {
    bool: ("True or False", "True or False"),
    int: ("a whole number", "whole numbers"),
    float: ("a finite number", "finite numbers"),
    str: ("a text", "texts"),
    dict: ("a dictionary", "dictionaries"),
}
