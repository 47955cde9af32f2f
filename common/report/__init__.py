"""Reports as one HTML file that a browser opens without a server or a network: a table of cases, and their slices."""

from __future__ import annotations

from .evaluated import EvaluationPage as EvaluationPage
from .page import FILE as FILE
from .page import Case as Case
from .page import Column as Column
from .page import Plot as Plot
from .page import Report as Report
from .segmented import SegmentationPage as SegmentationPage
from .selected import write_selection_page as write_selection_page
from .words import versions as versions
