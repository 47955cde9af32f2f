"""MONAI Label with the released bundles: its environment, a server run from Python, and the pictures of its manual."""

from __future__ import annotations
