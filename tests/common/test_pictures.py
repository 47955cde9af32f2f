"""Pictures: what is drawn, where, and in which colour."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from common.pictures import COLOURS, draw_comparison

NAMES = ["background", "RV", "Myo"]
SHAPE = (20, 12, 9)
LPS = np.diag([-1.0, -2.0, 8.0, 1.0])  # voxels of 1 x 2 x 8 mm; x runs to the left, y to the back, z to the head


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved."""
    saved = []
    save = Figure.savefig

    def keep(self, *arguments, **options):
        saved.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def make_image(shape=SHAPE):
    return np.random.default_rng(0).integers(0, 200, shape).astype(np.int16)


def make_maps(shape=SHAPE):
    label, prediction = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    label[3:8, 2:6] = 1
    label[12:16, 5:9] = 2
    prediction[5:10, 4:8] = 1
    return label, prediction


def save(path, array, affine=LPS, axcodes=None):
    image = nibabel.Nifti1Image(array, affine)
    if axcodes is not None:
        wanted = nibabel.orientations.axcodes2ornt(axcodes)
        image = image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), wanted))
    nibabel.save(image, path)
    return np.asanyarray(image.dataobj)


def draw(folder, image, label, prediction, affine=LPS, axcodes=None, **options):
    save(folder / "image.nii.gz", image, affine, axcodes)
    given = [
        None if classes is None else save(folder / "x.nii", classes, affine, axcodes) for classes in (label, prediction)
    ]
    path = folder / "pictures" / "a.png"
    draw_comparison(folder / "image.nii.gz", *given, NAMES, "a title", path, **options)
    return imread(path)[:, :, :3]


def coloured(picture, axis, value):
    """Return the extent of a colour in a panel, in voxels: (left, right, top, bottom), or None if it is not there."""
    height, width, _ = picture.shape
    x, y, w, h = axis.get_position().bounds
    left, top = round(x * width), round((1 - y - h) * height)
    panel = picture[top : top + round(h * height), left : left + round(w * width)]
    rows, columns = np.nonzero(np.abs(panel - to_rgb(COLOURS[value - 1])).max(axis=2) < 0.15)
    if not len(rows):
        return None
    (columns_, rows_) = axis.images[0].get_array().shape[::-1]
    x_scale, y_scale = columns_ / panel.shape[1], rows_ / panel.shape[0]
    return (columns.min() * x_scale, columns.max() * x_scale, rows.min() * y_scale, rows.max() * y_scale)


def test_panels(tmp_path, figures):
    image = make_image()
    draw(tmp_path, image, *make_maps())
    (figure,) = figures
    assert len(figure.axes) == 3 * 4
    assert [axis.get_title() for axis in figure.axes[:4]] == ["slice 2", "slice 3", "slice 5", "slice 6"]
    assert [axis.get_ylabel() for axis in figure.axes[::4]] == ["image", "label", "prediction"]
    for axis, index in zip(figure.axes, [2, 3, 5, 6] * 3, strict=True):
        assert np.array_equal(axis.images[0].get_array(), image[:, :, index].T)
        assert axis.images[0].origin == "upper"
        assert axis.get_aspect() == 2  # a voxel is twice as high as wide
    assert figure.get_suptitle() == "a title"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == NAMES[1:]
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["a.png"]


def test_outlines_are_where_the_classes_are(tmp_path, figures):
    picture = draw(tmp_path, make_image(), *make_maps())
    image_axis, label_axis, prediction_axis = figures[0].axes[::4]
    assert coloured(picture, image_axis, 1) is None and coloured(picture, image_axis, 2) is None
    assert coloured(picture, label_axis, 1) == pytest.approx((3, 8, 2, 6), abs=0.3)
    assert coloured(picture, label_axis, 2) == pytest.approx((12, 16, 5, 9), abs=0.3)
    assert coloured(picture, prediction_axis, 1) == pytest.approx((5, 10, 4, 8), abs=0.3)
    assert coloured(picture, prediction_axis, 2) is None


@pytest.mark.parametrize("axcodes", ["RAS", "SAR", "PSL"])
def test_orientation_of_the_file_does_not_matter(tmp_path, figures, axcodes):
    arguments = (make_image(), *make_maps())
    expected = draw(tmp_path, *arguments)
    assert np.array_equal(draw(tmp_path, *arguments, axcodes=axcodes), expected)


def test_head_is_up_in_a_coronal_stack(tmp_path, figures):
    height = np.broadcast_to(np.arange(12, dtype=np.int16)[None, :, None], SHAPE)  # grows to the head
    affine = np.array([[-1, 0, 0, 0], [0, 0, -8, 0], [0, 2, 0, 0], [0, 0, 0, 1.0]])
    draw(tmp_path, height, None, make_maps()[1], affine)
    first_column = figures[0].axes[0].images[0].get_array()[:, 0]
    assert first_column.tolist() == list(range(12))[::-1]


def test_without_a_label_its_row_is_missing(tmp_path, figures):
    picture = draw(tmp_path, make_image(), None, make_maps()[1])
    assert [axis.get_ylabel() for axis in figures[0].axes[::4]] == ["image", "prediction"]
    assert coloured(picture, figures[0].axes[4], 1) is not None


@pytest.mark.parametrize(("depth", "expected"), [(1, ["0"]), (2, ["0", "1"]), (3, ["0", "1", "2"])])
def test_few_slices(tmp_path, figures, depth, expected):
    shape = (*SHAPE[:2], depth)
    picture = draw(tmp_path, make_image(shape), *make_maps(shape))
    assert [axis.get_title() for axis in figures[0].axes[: len(expected)]] == [f"slice {k}" for k in expected]
    assert len(figures[0].axes) == 3 * len(expected)
    assert coloured(picture, figures[0].axes[-1], 1) == pytest.approx((5, 10, 4, 8), abs=0.6)


def test_nothing_to_outline(tmp_path, figures):
    empty = np.zeros(SHAPE, np.uint8)
    picture = draw(tmp_path, make_image(), empty, empty, num_slices=1)
    assert len(figures[0].axes) == 3
    assert all(coloured(picture, axis, value) is None for axis in figures[0].axes for value in (1, 2))


@pytest.mark.parametrize("dtype", [">i2", np.uint16, np.float64], ids=str)
def test_any_kind_of_file(tmp_path, figures, dtype):
    image = make_image()
    label, prediction = make_maps()
    save(
        tmp_path / "image.nii", np.stack([image, image[::-1]], axis=-1).astype(dtype)
    )  # 4-D: the first channel is shown
    draw_comparison(str(tmp_path / "image.nii"), label, prediction, NAMES, "", tmp_path / "a.png")
    assert np.array_equal(figures[0].axes[0].images[0].get_array(), image[:, :, 2].T)


def test_a_failure_leaves_no_picture(tmp_path, monkeypatch):
    def fail(self, path, **options):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        draw(tmp_path, make_image(), *make_maps())
    assert list((tmp_path / "pictures").iterdir()) == []


def test_uncertainty_is_a_row_of_colours_over_the_image(tmp_path, figures):
    image = make_image()
    save(tmp_path / "image.nii.gz", image)
    label, prediction = make_maps()
    uncertainty = np.zeros(SHAPE, np.float32)
    uncertainty[5:10, 4:8] = 0.9
    draw_comparison(
        tmp_path / "image.nii.gz", label, prediction, NAMES, "a", tmp_path / "a.png", uncertainty=uncertainty
    )
    (figure,) = figures
    rows = [axis.get_ylabel() for axis in figure.axes[: 4 * 4 : 4]]
    assert rows == ["image", "label", "prediction", "uncertainty"]
    assert len(figure.axes) == 4 * 4 + 1  # and the scale
    shown = figure.axes[12].images
    assert len(shown) == 2 and np.array_equal(shown[0].get_array(), figure.axes[0].images[0].get_array())
    values, opacity = shown[1].get_array(), shown[1].get_alpha()
    assert np.asarray(values).max() == np.float32(0.9) and np.array_equal(opacity > 0, np.asarray(values) > 0)
    assert np.array_equal(np.argwhere(np.asarray(values) > 0).min(axis=0), [4, 5])  # rows are the second axis
