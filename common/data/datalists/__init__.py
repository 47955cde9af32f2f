"""Lists of the volumes in a dataset folder, read from the layout the dataset is distributed in.

The volumes are those of the experiments of Chaitanya, Erdil, Karani and Konukoglu, "Contrastive learning of global and
local features for medical image segmentation with limited annotations", NeurIPS 2020, arXiv 2006.10511, section 4; for
other datasets there are a layout of folders and a datalist in JSON. A datalist has one dictionary for each volume: its
id, the path of its image and, where there is one, of its label. Where a patient has further frames, other phases of the
same cine, a second function lists these by the patient's id. Which volume serves for what is not decided here but by
the split file, see `splits`.

Only these modules know how the files of a dataset are called. Which files are volumes at all is said in `volume_files`.
"""

from __future__ import annotations

from .acdc_folders import acdc as acdc
from .acdc_folders import acdc_end_systole as acdc_end_systole
from .acdc_folders import acdc_further_frames as acdc_further_frames
from .camvid_folders import camvid as camvid
from .cityscapes_folders import cityscapes as cityscapes
from .decathlon_prostate import msd_prostate as msd_prostate
from .folders import further_image_ids as further_image_ids
from .folders import image_label_folders as image_label_folders
from .json_lists import json_datalist as json_datalist
from .json_lists import listed_labels as listed_labels
from .mmwhs_files import mmwhs as mmwhs
from .photograph_folders import photograph_label_folders as photograph_label_folders
