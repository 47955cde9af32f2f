"""Puts the package `common` into a bundle and makes the bundle's files name it by its new name.

A bundle's own code belongs into a package `scripts`. Every bundle has one, and Python would give the first that it met
to all bundles of a process; so the code is in a package within it that is called like the bundle.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any

import common

from .source import ReleaseError

NAMED = re.compile(r"(?<![\w.])common(?=\.[A-Za-z_])|(?<=\bimport )common\b|(?<=\bfrom )common(?= import\b)")
"""`common` where it is the package: before a dot and a name, or imported as a whole."""

_PACKAGE = "common"
_TEXT = {".py", ".md", ".txt", ".conf"}
_SCRIPTS = '''\
"""The code of this bundle, in a package that is called like the bundle.

Other bundles have a package `scripts` as well. Whichever is imported first also looks for subpackages in those of the
others, wherever `sys.path` leads at the time; so each bundle finds its own code, and never another's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator


class _Folders(list):
    """This folder, then the folders `scripts` in all places that modules are imported from."""

    def __iter__(self) -> Iterator[str]:
        yield from super().__iter__()
        yield from [os.path.join(place or os.getcwd(), "scripts") for place in sys.path]


__path__ = _Folders(__path__)
'''


def package_of(name: str) -> str:
    """Return what `common` is called in the bundle of this name."""
    return f"scripts.{name}"


def vendor(folder: Path) -> None:
    """Copy `common` into a bundle's folder, and rename it in all code, configs and documents there.

    Args:
        folder: of a copy of the bundle.

    Raises:
        ReleaseError: if a config names `common` where it could not be renamed, or code calls something else so.
    """
    package = package_of(folder.name)
    target = folder.joinpath(*package.split("."))
    shutil.copytree(Path(common.__file__).parent, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    (folder / "scripts" / "__init__.py").write_text(_SCRIPTS, encoding="utf-8")
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".json":
            content = rename(json.loads(path.read_text(encoding="utf-8")), package)
            path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
            check_renamed(path.relative_to(folder).as_posix(), content)
        elif path.suffix in _TEXT:
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".py":
                check_code(path.relative_to(folder).as_posix(), text)
            path.write_text(NAMED.sub(package, text), encoding="utf-8")


def check_code(where: str, text: str) -> None:
    """Check that code has no variable, argument or the like called `common`, which would be renamed like the package.

    Args:
        where: the file's name, for the error.
        text: of the file.

    Raises:
        ReleaseError: if it has one.
    """
    for node in ast.walk(ast.parse(text)):
        names = (getattr(node, field, None) for field in ("id", "arg", "name"))
        if _PACKAGE in names and not isinstance(node, ast.alias):
            raise ReleaseError(
                f"{where}:{getattr(node, 'lineno', 1)} calls something `common`, which would be renamed like the "
                "package: give it another name."
            )


def rename(content: Any, package: str, key: str = "") -> Any:
    """Rename `common` in a config's targets and expressions; other text is left alone.

    Args:
        content: of the config, or a part of it.
        package: the new name.
        key: that the content has in what it is a part of.
    """
    if isinstance(content, dict):
        return {name: rename(value, package, name) for name, value in content.items()}
    if isinstance(content, list):
        return [rename(value, package) for value in content]
    if isinstance(content, str) and (content.startswith("$") or key.endswith("_target_")):
        return NAMED.sub(package, content)
    return content


def check_renamed(where: str, content: Any) -> None:
    """Check that nothing in a config names `common`.

    Args:
        where: the config's name, for the error.
        content: of the config.

    Raises:
        ReleaseError: if something does.
    """
    for text in _texts(content):
        if NAMED.search(text):
            raise ReleaseError(
                f"{where} still names `common`, which a released bundle does not have, in {text!r}: only what stands "
                "in a `_target_` or in an expression ($...) is renamed."
            )


def _texts(content: Any) -> list[str]:
    if isinstance(content, dict):
        return [text for key, value in content.items() for text in (key, *_texts(value))]
    if isinstance(content, list):
        return [text for value in content for text in _texts(value)]
    return [content] if isinstance(content, str) else []
