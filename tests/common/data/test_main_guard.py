"""Scripts that new processes would run again, and preprocessing that does without these."""

from __future__ import annotations

import logging
import sys
import types

import pytest

from common.data.cache import CachedTransformd, fill_cache, filling
from common.data.main_guard import unguarded_script


def run_as(monkeypatch, tmp_path, source, spec=None):
    """Make this process one that runs a script."""
    main = types.ModuleType("__main__")
    main.__spec__ = spec and types.SimpleNamespace(name=spec)
    if source is not None:
        (tmp_path / "script.py").write_text(source)
        main.__file__ = str(tmp_path / "script.py")
    monkeypatch.setitem(sys.modules, "__main__", main)
    return tmp_path / "script.py"


@pytest.mark.parametrize(
    "source",
    [
        "run()",
        "def main():\n    if __name__ == '__main__':\n        run()\nmain()",
        "if name == '__main__':\n    run()",
        "if __name__ == 'script':\n    run()",
    ],
)
def test_scripts_without_a_guard_are_found(monkeypatch, tmp_path, source):
    path = run_as(monkeypatch, tmp_path, source)
    assert unguarded_script() == str(path)


@pytest.mark.parametrize(
    ("source", "spec"),
    [
        ("import a\nif __name__ == '__main__':\n    run()", None),
        ('if "__main__" == __name__:\n    run()', None),
        ("if a and __name__ == '__main__':\n    run()", None),
        (None, None),
        ("run()", "monai.bundle.__main__"),
        ("not a script", None),
    ],
)
def test_others_are_not(monkeypatch, tmp_path, source, spec):
    run_as(monkeypatch, tmp_path, source, spec)
    assert unguarded_script() is None


class Seen(Exception):
    pass


@pytest.mark.parametrize(("source", "workers"), [("run()", 0), ("if __name__ == '__main__':\n    run()", 2)])
def test_without_a_guard_volumes_are_preprocessed_in_this_process(
    monkeypatch, tmp_path, phantom, caplog, source, workers
):
    path = run_as(monkeypatch, tmp_path, source)
    cached = phantom.config("pretrain_global").get_parsed_content("cached_preprocessing")
    cached = CachedTransformd("image", cached.transform, tmp_path / "cache")
    seen = {}

    def loader(*_, num_workers, **__):
        seen["workers"] = num_workers
        raise Seen

    monkeypatch.setattr(filling, "DataLoader", loader)
    files = [phantom.image(patient) for patient in list(phantom.items)[:2]]
    with caplog.at_level(logging.WARNING), pytest.raises(Seen):
        fill_cache(files, cached, num_workers=2, progress=False)
    assert seen["workers"] == workers
    assert ([f"{path} has no `if __name__" in record.message for record in caplog.records] == [True]) == (workers == 0)
