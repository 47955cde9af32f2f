"""Contrastive losses: global (section 3.1 of the paper), local (section 3.2), dense, and two at once (supplement)."""

from __future__ import annotations

from .dense_contrastive import DenseContrastiveLoss as DenseContrastiveLoss
from .global_contrastive import GlobalContrastiveLoss as GlobalContrastiveLoss
from .joint import JointLoss as JointLoss
from .local import local_loss as local_loss
from .local_contrastive import LocalContrastiveLoss as LocalContrastiveLoss
