"""MONAI Deploy: an application that segments DICOM studies with a released bundle, and its environment."""
