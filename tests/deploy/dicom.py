"""DICOM studies made of NIfTI volumes, and label maps read from DICOM segmentations.

Run in the environment of MONAI Deploy, which has pydicom:
    python dicom.py write IMAGE.nii.gz FOLDER       python dicom.py read FOLDER SEG_FOLDER IMAGE.nii.gz LABELS.nii.gz
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def texts(values):
    return [format_number_as_ds(float(value)) for value in values]


def write(image_path, folder):
    """Write one file for each slice; the voxels must be whole numbers of 16 bits."""
    image = nibabel.load(image_path)
    voxels = np.asanyarray(image.dataobj)
    stored = voxels.astype(np.int16)
    assert np.array_equal(stored, voxels)
    affine = RAS_TO_LPS @ image.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    folder = Path(folder)
    folder.mkdir(parents=True)
    for number in range(voxels.shape[2]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
        data.PatientID, data.PatientName, data.PatientBirthDate, data.PatientSex = "1", "Phantom", "", "O"
        data.StudyID, data.SeriesNumber, data.InstanceNumber, data.AccessionNumber = "1", 1, number + 1, ""
        data.StudyDate = data.SeriesDate = data.ContentDate = "20200101"
        data.StudyTime = data.SeriesTime = data.ContentTime = "120000"
        data.Modality, data.ImageType, data.SeriesDescription = "MR", ["ORIGINAL", "PRIMARY", "OTHER"], "cine"
        data.Manufacturer = data.ReferringPhysicianName = data.PositionReferenceIndicator = ""
        data.ImageOrientationPatient = texts([*affine[:3, 0] / spacing[0], *affine[:3, 1] / spacing[1]])
        data.ImagePositionPatient = texts((affine @ [0, 0, number, 1])[:3])
        data.PixelSpacing = texts([spacing[1], spacing[0]])  # between rows, between columns
        data.SliceThickness = texts([spacing[2]])[0]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.Rows, data.Columns = voxels.shape[1], voxels.shape[0]
        data.PixelData = np.ascontiguousarray(stored[:, :, number].T).tobytes()
        data.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)


def read(folder, seg_folder, image_path, labels_path):
    """Write the segments of the one segmentation in a folder as a label map on the grid of the volume."""
    (path,) = Path(seg_folder).glob("*.dcm")
    seg = pydicom.dcmread(path)
    number_of = {pydicom.dcmread(file).SOPInstanceUID: int(file.stem) for file in Path(folder).glob("*.dcm")}
    image = nibabel.load(image_path)
    labels = np.zeros(image.shape, np.uint8)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        segment = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        labels[:, :, number_of[source]][frame.T > 0] = segment
    nibabel.save(nibabel.Nifti1Image(labels, image.affine), labels_path)
    print([str(segment.SegmentLabel) for segment in seg.SegmentSequence])


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])
