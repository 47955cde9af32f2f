"""Networks, losses, transforms, data access and Ignite engines shared by the bundles.

The method is that of Chaitanya, Erdil, Karani and Konukoglu, "Contrastive learning of global and local features for
medical image segmentation with limited annotations", NeurIPS 2020, arXiv 2006.10511, called "the paper" throughout.
Importing this package loads nothing heavy.
"""

from __future__ import annotations

__version__ = "0.9.0"
OF_BUNDLES = True
"""Tells this package from others that are called `common`, see `bundles.own_code`."""
