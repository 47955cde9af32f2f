"""Contrastive losses of the paper: global (section 3.1), local (section 3.2), and both at once (supplement)."""

from __future__ import annotations

from .global_contrastive import GlobalContrastiveLoss as GlobalContrastiveLoss
from .joint import JointLoss as JointLoss
from .local_contrastive import LocalContrastiveLoss as LocalContrastiveLoss
