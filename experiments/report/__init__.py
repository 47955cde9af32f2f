"""Writes `experiments/results/README.md` with its figures, and the table of the first page, from the result files."""

from __future__ import annotations

from .page import report as report
