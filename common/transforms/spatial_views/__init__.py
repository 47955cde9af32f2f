"""Random crops, affine maps and elastic deformations of a whole batch, on the device it lies on.

These are the spatial augmentations of the paper (Chaitanya et al., NeurIPS 2020, arXiv 2006.10511): random crops for
the views of the global contrastive stage, affine maps and elastic deformations for fine-tuning. The paper's local stage
has none, because there two views must agree position by position; the views of dense strategies are moved windows, and
know which of their pixels show the same place. Photographs have crops in their own proportions.

Every random transform draws its parameters on the CPU (``draw``) and hands them to a function that applies them, so
that known parameters can be applied too. Nothing loops over images and nothing waits for the device.

Letters: B images, C channels, K classes, H rows, W columns. Positions are in pixels, (row, column), from the centre of
the first pixel.
"""

from __future__ import annotations

from .affine import RandomSpatial as RandomSpatial
from .affine import RandomStrongSpatial as RandomStrongSpatial
from .crop import RandomCropResize as RandomCropResize
from .elastic import RandomElastic as RandomElastic
from .elastic import RandomFineElastic as RandomFineElastic
from .window import RandomWindow as RandomWindow
from .zoom import RandomLabelledZoom as RandomLabelledZoom
from .zoom import RandomZoom as RandomZoom
