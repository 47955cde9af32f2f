"""Contrastive losses of the paper: global (section 3.1) and local (section 3.2)."""

from __future__ import annotations

from .global_contrastive import GlobalContrastiveLoss as GlobalContrastiveLoss
from .layout import BatchLayout as BatchLayout
from .local_contrastive import LocalContrastiveLoss as LocalContrastiveLoss
