"""What an ending counts as; the definitions are in the package's docstring.

The check of a message is mechanical, so it cannot tell a good remedy from a bad one; it tells whether there is one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .process import Ending

RIGHT, WARNED, CLEAR, UNCLEAR = "right", "warned", "clear error", "unclear error"
SILENT, CRASH, LOST = "silent", "crash", "lost"
VERDICTS = (RIGHT, WARNED, CLEAR, UNCLEAR, SILENT, CRASH, LOST)
GOOD = (RIGHT, WARNED, CLEAR)

# Classes whose name says that the product, not a library, found something wrong.
PRODUCT_CLASSES = ("CheckpointError", "VolumeError", "DatasetError", "SplitError")
# Lines of a library's inside that help nobody who has a damaged file.
_LIBRARY = re.compile(
    r"^(?:\w+\.)*\w*Error: (?:PytorchStream|Error\(s\) in loading|zlib|Error -\d)"
    r"|^\w*Error: \[Errno \d+\] [A-Z][A-Za-z -]+(?:: b?'|$)"
    r"|inline_container|enforce fail|\.cpp\b|\.cc:\d|\.h:\d|Traceback \(most recent call last\)|Exception raised from"
)
_REMEDIES = (
    "add annotate ask check choose compare convert copy correct crop delete download evaluate export free give grant "
    "install keep leave let make mark move name pass point put quote read record remount remove rename repair replace "
    "resample restore rotate run save say segment select separate set shorten split start state store take try unpack "
    "use wait write"
).split()
# An order at the start of a sentence or clause, such as "Copy it again." or "or pass --resume False".
_ORDER = re.compile(rf"(?:^|[.;:,!?)]\s+|\bor\s+|\band\s+|\n)(?:please\s+)?(?:{'|'.join(_REMEDIES)})\b", re.I)
_MEANT = re.compile(r"did you mean|do you mean|one of the following|must be one of|should be one of", re.I)
_RULE = re.compile(r"\bmust\b.*\bgot\b", re.I | re.S)


@dataclass(frozen=True)
class Verdict:
    """What became of a case.

    Attributes:
        verdict: one of `VERDICTS`.
        tried: what was done.
        detail: what there is to see of it.
    """

    verdict: str
    tried: str
    detail: str = ""


def is_clear(message: str, names: Sequence[str], option: bool = False) -> bool:
    """Whether a message names what is wrong and says what to do.

    Args:
        message: what the user reads last.
        names: file names, folders or options, of which one must be in it.
        option: it is about an option: then the rule, "must be ..., got ...", is the remedy too.
    """
    named = any(name in message for name in names)
    remedied = bool(_ORDER.search(message) or _MEANT.search(message) or (option and _RULE.search(message)))
    return named and remedied and not _LIBRARY.search(message)


def judge_error(ending: Ending, names: Sequence[str], tried: str, option: bool = False) -> Verdict:
    """Judge a command that did not succeed."""
    if ending.timed_out:
        return Verdict(CRASH, tried, f"hangs: killed after {ending.seconds:.0f} s")
    if ending.signal is not None:
        return Verdict(CRASH, tried, f"signal {ending.signal}: {_short(ending.output[-300:])}")
    if is_clear(ending.message, names, option):
        return Verdict(CLEAR, tried, _short(ending.message))
    ours = ending.by_product or ending.message.split(":")[0].split(".")[-1] in PRODUCT_CLASSES
    return Verdict(UNCLEAR if ours else CRASH, tried, _short(ending.message))


def judge(
    ending: Ending,
    same: bool,
    names: Sequence[str],
    tried: str,
    known: Sequence[str] = (),
    option: bool = False,
    difference: str = "another answer",
) -> Verdict:
    """Judge a command.

    Args:
        ending: of the command.
        same: whether its answer is the right one.
        names: one of these must be in an error or warning.
        tried: what was done.
        known: warnings that are there without any trouble, see `unlike`.
        option: see `is_clear`.
        difference: what a wrong answer is called.
    """
    if not ending.succeeded:
        return judge_error(ending, names, tried, option)
    if same:
        return Verdict(RIGHT, tried)
    for warning in unlike(ending.warnings, known):
        if any(name in warning for name in names):
            return Verdict(WARNED, tried, _short(warning))
    return Verdict(SILENT, tried, difference)


def unlike(warnings: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the warnings that are not among the known ones, whatever their paths and numbers."""
    seen = {_skeleton(text) for text in known}
    return [text for text in warnings if _skeleton(text) not in seen]


def _skeleton(text: str) -> str:
    return re.sub(r"\S*/\S*|[\d.]+", "_", text)


def _short(text: str, length: int = 400) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length // 2] + " ... " + text[-length // 2 :]
