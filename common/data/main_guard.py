"""Whether new processes can be started: those that are spawned run the script of this one once more."""

from __future__ import annotations

import ast
import sys
from pathlib import Path


def unguarded_script() -> str | None:
    """Return the script that this process runs, if a new process would do all of its work again.

    A spawned process imports the script to have what is defined there. What does not stand below
    `if __name__ == "__main__":` is then run anew; Python ends such a process with an error, and its parent waits in
    vain. Sessions without a script, such as those of a notebook, and modules called `__main__` are not imported.

    Returns:
        The path of a script without such a line; None if there is one, or no script.
    """
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    name = getattr(getattr(main, "__spec__", None), "name", "")
    if path is None or name == "__main__" or name.endswith(".__main__"):
        return None
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):  # not a script of text, so nobody can look
        return None
    return None if any(_is_guard(statement) for statement in tree.body) else path


def _is_guard(statement: ast.stmt) -> bool:
    """Whether a statement is `if __name__ == "__main__":`, in whatever order, also among other conditions."""
    if not isinstance(statement, ast.If):
        return False
    parts = [ast.unparse(part) for part in ast.walk(statement.test) if isinstance(part, ast.Compare)]
    return any("__name__" in part and "'__main__'" in part for part in parts)
