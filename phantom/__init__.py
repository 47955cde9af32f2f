"""Phantom data: made-up volumes and photographs in the official file layouts of the datasets, and split files for them.

They stand in for the data of Chaitanya, Erdil, Karani and Konukoglu (NeurIPS 2020, arXiv 2006.10511), which cannot be
handed out with a program, wherever something has to run without it: the demonstration and the tests. They have what
the method lives on: a label anatomy that varies between patients, slices whose level can be told from their
surroundings, and scanner effects (partial volume, coil shading, noise, contrast). A Dice score on them says that the
pipeline works and nothing about patients.
"""

from .acdc import write_acdc_phantom
from .cityscapes import write_cityscapes_phantom
from .files import write_phantom_splits, write_reoriented
from .mmwhs import write_mmwhs_phantom
from .prostate import write_prostate_phantom

__all__ = [
    "write_acdc_phantom",
    "write_cityscapes_phantom",
    "write_mmwhs_phantom",
    "write_phantom_splits",
    "write_prostate_phantom",
    "write_reoriented",
]
