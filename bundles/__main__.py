"""`python -m bundles path | copy | data | check | write | new | draw`."""

from __future__ import annotations

import sys
from importlib import import_module

import fire

_COMMANDS = {
    "path": "places",
    "copy": "places",
    "data": "data",
    "check": "check",
    "write": "write",
    "new": "new",
    "draw": "draw",
}

if __name__ == "__main__":
    # Only what is asked for is imported: `$(python -m bundles path acdc)` is not to wait for torch.
    asked = {command: _COMMANDS[command] for command in sys.argv[1:2] if command in _COMMANDS} or _COMMANDS
    fire.Fire(
        {command: getattr(import_module(f".{module}", __package__), command) for command, module in asked.items()}
    )
