"""Dataset folders of empty files in the layouts that datasets are distributed in."""

from __future__ import annotations

from pathlib import Path


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def make_patient(folder: Path, name: str, frame: str = "01", suffix: str = ".nii.gz", label: bool = True) -> None:
    stem = folder / name / f"{name}_frame{frame}"
    touch(Path(f"{stem}{suffix}"), *([Path(f"{stem}_gt{suffix}")] if label else []))


def make_folders(root: Path, labelled=("b", "a"), unlabelled=("c",), further=("e", "d")) -> None:
    touch(*(root / "imagesTr" / f"{name}.nii.gz" for name in (*labelled, *unlabelled)))
    touch(*(root / "labelsTr" / f"{name}.nii.gz" for name in labelled))
    touch(*(root / "imagesTs" / f"{name}.nii.gz" for name in further))


def ids(items) -> list[str]:
    return [item["id"] for item in items]


def labelled_ids(items) -> list[str]:
    return [item["id"] for item in items if "label" in item]


def make_mmwhs(root: Path, test: bool = True) -> None:
    for number in (1002, 1001):
        touch(*(root / "mr_train" / f"mr_train_{number}_{kind}.nii.gz" for kind in ("image", "label")))
    if test:
        touch(root / "mr_test" / "mr_test_2001_image.nii.gz")
