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


class Panels:
    """What a figure shows: rows of slices, which are parts of one image.

    Args:
        figure: the figure.
        size: (height, width) of a slice in voxels.
    """

    def __init__(self, figure, size):
        self.axis = figure.axes[0]
        self.rows = [text.get_text() for text in self.axis.get_yticklabels()]
        self.slices = [text.get_text() for text in self.axis.get_xticklabels()]
        self.size = size
        self.all = self.axis.images[0].get_array()
        self.pitch = self.all.shape[0] // len(self.rows), self.all.shape[1] // len(self.slices)

    def shown(self, row, column):
        """Return the values of a panel."""
        top, left = row * self.pitch[0], column * self.pitch[1]
        return np.asarray(self.all[top : top + self.size[0], left : left + self.size[1]])

    def coloured(self, picture, row, column, value):
        """Return where a colour is in a panel, in voxels: (left, right, top, bottom), or None."""
        height, width, _ = picture.shape
        x, y, w, h = self.axis.get_position().bounds
        (start, end), (low, high) = self.axis.get_xlim(), self.axis.get_ylim()
        scale = w * width / (end - start), h * height / (low - high)
        left = x * width + column * self.pitch[1] * scale[0]
        top = (1 - y - h) * height + row * self.pitch[0] * scale[1]
        panel = picture[
            round(top) : round(top + self.size[0] * scale[1]), round(left) : round(left + self.size[1] * scale[0])
        ]
        rows, columns = np.nonzero(np.abs(panel - to_rgb(COLOURS[value - 1])).max(axis=2) < 0.15)
        if not len(rows):
            return None
        return (
            *(edge / scale[0] for edge in (columns.min(), columns.max())),
            rows.min() / scale[1],
            rows.max() / scale[1],
        )


@pytest.fixture
def panels(figures):
    """What the figure shows that was saved last."""
    return lambda size=SHAPE[1::-1]: Panels(figures[-1], size)


@pytest.mark.parametrize("title", ["one line", "two\nlines"])
@pytest.mark.parametrize("shape", [SHAPE, (90, 30, 9)])
def test_a_title_does_not_cover_the_names_of_slices(tmp_path, figures, title, shape):
    path = tmp_path / "image.nii.gz"
    save(path, make_image(shape), LPS)
    draw_comparison(path, *make_maps(shape), NAMES, title, tmp_path / "a.png")
    names = [text.get_window_extent().y1 for text in figures[0].axes[0].get_xticklabels()]
    assert max(names) < figures[0]._suptitle.get_window_extent().y0


def test_panels(tmp_path, figures, panels):
    image = make_image()
    draw(tmp_path, image, *make_maps())
    (figure,) = figures
    shown = panels()
    assert shown.slices == ["slice 2", "slice 3", "slice 5", "slice 6"]
    assert shown.rows == ["image", "label", "prediction"]
    for row in range(3):
        for column, index in enumerate([2, 3, 5, 6]):
            assert np.array_equal(shown.shown(row, column), image[:, :, index].T)
    assert shown.axis.images[0].origin == "upper"
    assert shown.axis.get_aspect() == 2  # a voxel is twice as high as wide
    assert figure.get_suptitle() == "a title"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == NAMES[1:]
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["a.png"]


def test_voxels_are_shown_in_their_true_proportions(tmp_path, figures, panels):
    picture = draw(tmp_path, make_image(), *make_maps())
    height, width, _ = picture.shape
    axis = panels().axis
    *_, w, h = axis.get_position().bounds
    voxel = w * width / np.ptp(axis.get_xlim()), h * height / np.ptp(axis.get_ylim())
    assert voxel[1] / voxel[0] == pytest.approx(2, rel=0.01)


def test_outlines_are_where_the_classes_are(tmp_path, panels):
    picture = draw(tmp_path, make_image(), *make_maps())
    shown = panels()
    for column in (0, 3):
        assert shown.coloured(picture, 0, column, 1) is None and shown.coloured(picture, 0, column, 2) is None
        assert shown.coloured(picture, 1, column, 1) == pytest.approx((3, 8, 2, 6), abs=0.3)
        assert shown.coloured(picture, 1, column, 2) == pytest.approx((12, 16, 5, 9), abs=0.3)
        assert shown.coloured(picture, 2, column, 1) == pytest.approx((5, 10, 4, 8), abs=0.3)
        assert shown.coloured(picture, 2, column, 2) is None


def test_an_outline_ends_where_its_panel_ends(tmp_path, panels):
    label, prediction = make_maps()
    label[:] = 0
    label[15:, 4:8] = 1
    picture = draw(tmp_path, make_image(), label, prediction)
    shown = panels()
    for column in range(4):
        left, right, *_ = shown.coloured(picture, 1, column, 1)
        assert (left, right) == pytest.approx((15, 19.5), abs=0.3)
    label[:] = 1
    picture = draw(tmp_path, make_image(), label, prediction)
    assert all(panels().coloured(picture, 1, column, 1) is None for column in range(4))


@pytest.mark.parametrize("axcodes", ["RAS", "SAR", "PSL"])
def test_orientation_of_the_file_does_not_matter(tmp_path, figures, axcodes):
    arguments = (make_image(), *make_maps())
    expected = draw(tmp_path, *arguments)
    assert np.array_equal(draw(tmp_path, *arguments, axcodes=axcodes), expected)


def test_head_is_up_in_a_coronal_stack(tmp_path, panels):
    height = np.broadcast_to(np.arange(12, dtype=np.int16)[None, :, None], SHAPE)  # grows to the head
    affine = np.array([[-1, 0, 0, 0], [0, 0, -8, 0], [0, 2, 0, 0], [0, 0, 0, 1.0]])
    draw(tmp_path, height, None, make_maps()[1], affine)
    first_column = panels((12, 20)).shown(0, 0)[:, 0]
    assert first_column.tolist() == list(range(12))[::-1]


def test_without_a_label_its_row_is_missing(tmp_path, panels):
    picture = draw(tmp_path, make_image(), None, make_maps()[1])
    assert panels().rows == ["image", "prediction"]
    assert panels().coloured(picture, 1, 0, 1) is not None


@pytest.mark.parametrize(("depth", "expected"), [(1, ["0"]), (2, ["0", "1"]), (3, ["0", "1", "2"])])
def test_few_slices(tmp_path, panels, depth, expected):
    shape = (*SHAPE[:2], depth)
    picture = draw(tmp_path, make_image(shape), *make_maps(shape))
    shown = panels()
    assert shown.slices == [f"slice {k}" for k in expected] and shown.rows == ["image", "label", "prediction"]
    assert shown.coloured(picture, 2, len(expected) - 1, 1) == pytest.approx((5, 10, 4, 8), abs=0.6)


def test_nothing_to_outline(tmp_path, panels):
    empty = np.zeros(SHAPE, np.uint8)
    picture = draw(tmp_path, make_image(), empty, empty, num_slices=1)
    shown = panels()
    assert shown.slices == ["slice 4"]
    assert all(shown.coloured(picture, row, 0, value) is None for row in range(3) for value in (1, 2))


@pytest.mark.parametrize("dtype", [">i2", np.uint16, np.float64], ids=str)
def test_any_kind_of_file(tmp_path, panels, dtype):
    image = make_image()
    label, prediction = make_maps()
    save(
        tmp_path / "image.nii", np.stack([image, image[::-1]], axis=-1).astype(dtype)
    )  # 4-D: the first channel is shown
    draw_comparison(str(tmp_path / "image.nii"), label, prediction, NAMES, "", tmp_path / "a.png")
    assert np.array_equal(panels().shown(0, 0), image[:, :, 2].T)


def test_a_failure_leaves_no_picture(tmp_path, monkeypatch):
    def fail(self, path, **options):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        draw(tmp_path, make_image(), *make_maps())
    assert list((tmp_path / "pictures").iterdir()) == []


def test_uncertainty_is_a_row_of_colours_over_the_image(tmp_path, figures, panels):
    image = make_image()
    save(tmp_path / "image.nii.gz", image)
    label, prediction = make_maps()
    uncertainty = np.zeros(SHAPE, np.float32)
    uncertainty[5:10, 4:8] = 0.9
    draw_comparison(
        tmp_path / "image.nii.gz", label, prediction, NAMES, "a", tmp_path / "a.png", uncertainty=uncertainty
    )
    shown = panels()
    assert shown.rows == ["image", "label", "prediction", "uncertainty"]
    assert len(figures[0].axes) == 2  # and the scale
    assert np.array_equal(shown.shown(3, 2), image[:, :, 5].T)
    (heat,) = shown.axis.images[1:]
    values, opacity = np.nan_to_num(np.asarray(heat.get_array())), heat.get_alpha()
    assert values.max() == np.float32(0.9) and np.array_equal(opacity > 0, values > 0)
    assert np.array_equal(np.argwhere(values > 0).min(axis=0), [4, 5])  # rows are the second axis
    assert heat.get_extent()[2:] == [4 * shown.pitch[0] - 0.5, 3 * shown.pitch[0] - 0.5]  # the bottom and the top
