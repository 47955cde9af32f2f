from __future__ import annotations

import pytest
import torch

from common.losses import BatchLayout
from common.losses.layout import LayoutTables, rows_by_partition, rows_by_slice

CPU = torch.device("cpu")


def grid_layout(num_views: int, num_volumes: int, num_partitions: int) -> BatchLayout:
    axes = [torch.arange(size) for size in (num_views, num_volumes, num_partitions)]
    views, volumes, partitions = torch.cartesian_prod(*axes).unbind(1)
    return BatchLayout(volumes * num_partitions + partitions, volumes, partitions, views)


def reorder(layout: BatchLayout, order: torch.Tensor) -> BatchLayout:
    return BatchLayout(*(field[order] for field in layout))


def changed(layout: BatchLayout, field: str, row: int, value: int) -> BatchLayout:
    values = getattr(layout, field).clone()
    values[row] = value
    return layout._replace(**{field: values})


def test_rows_by_slice_finds_each_view(generator: torch.Generator) -> None:
    layout = reorder(grid_layout(3, 2, 4), torch.randperm(24, generator=generator))
    rows = rows_by_slice(layout, 3)
    assert rows.shape == (3, 8)
    assert torch.equal(layout.views[rows], torch.arange(3)[:, None].expand(3, 8))
    assert torch.equal(layout.slices[rows], torch.arange(8).expand(3, 8))


def test_rows_by_partition_orders_volumes_and_partitions(generator: torch.Generator) -> None:
    layout = reorder(grid_layout(2, 3, 4), torch.randperm(24, generator=generator))
    rows = rows_by_partition(layout, 2, min_volumes=2)
    assert rows.shape == (2, 3, 4)
    assert torch.equal(layout.views[rows], torch.arange(2)[:, None, None].expand(2, 3, 4))
    assert torch.equal(layout.volumes[rows], torch.arange(3)[:, None].expand(2, 3, 4))
    assert torch.equal(layout.partitions[rows], torch.arange(4).expand(2, 3, 4))


def test_number_of_views_must_fit() -> None:
    with pytest.raises(ValueError, match=r"layout\.views must hold exactly 3 views, numbered from 0, got \[0, 1\]"):
        rows_by_slice(grid_layout(2, 2, 4), 3)


@pytest.mark.parametrize(
    "layout",
    [changed(grid_layout(2, 2, 4), "slices", 0, 1), changed(grid_layout(2, 2, 4), "views", 0, 1)],
    ids=["a slice twice in a view", "a slice missing from a view"],
)
def test_each_slice_must_occur_once_per_view(layout: BatchLayout) -> None:
    with pytest.raises(ValueError, match=r"layout\.slices must hold each slice exactly once per view, got \["):
        rows_by_slice(layout, 2)


def test_too_few_volumes() -> None:
    with pytest.raises(ValueError, match=r"layout\.volumes must hold at least 3 volumes, got 2; draw more volumes"):
        rows_by_partition(grid_layout(2, 2, 4), 2, min_volumes=3)


@pytest.mark.parametrize(
    "layout",
    [
        changed(grid_layout(2, 2, 4), "partitions", 0, 1),
        changed(grid_layout(2, 2, 4), "volumes", 0, 2),
        grid_layout(2, 2, 4)._replace(slices=torch.cat([torch.arange(8), torch.arange(8).flip(0)])),
    ],
    ids=["partition twice", "volume without all partitions", "views of different slices"],
)
def test_every_volume_must_have_every_partition(layout: BatchLayout) -> None:
    with pytest.raises(ValueError, match=r"layout\.volumes and layout\.partitions must hold one slice, the same in"):
        rows_by_partition(layout, 2, min_volumes=2)


def test_numbers_of_slices_need_no_order() -> None:
    layout = grid_layout(2, 2, 4)
    renumbered = layout._replace(slices=torch.tensor([70, 3, 9, 12, 4, 8, 1, 0]).repeat(2))
    assert torch.equal(rows_by_partition(renumbered, 2, min_volumes=2), rows_by_partition(layout, 2, min_volumes=2))


class TestLayoutTables:
    def make(self) -> tuple[LayoutTables, list[BatchLayout]]:
        calls: list[BatchLayout] = []

        def double_slices(layout: BatchLayout) -> tuple[torch.Tensor, ...]:
            calls.append(layout)
            return (2 * layout.slices,)

        return LayoutTables(double_slices), calls

    def test_equal_layouts_share_tables(self) -> None:
        tables, calls = self.make()
        (first,) = tables(grid_layout(2, 2, 4), 16, CPU)
        (second,) = tables(grid_layout(2, 2, 4), 16, CPU)
        assert first is second
        assert len(calls) == 1

    def test_another_layout_or_device_gives_new_tables(self) -> None:
        tables, calls = self.make()
        layout = grid_layout(2, 2, 4)
        tables(layout, 16, CPU)
        (table,) = tables(changed(layout, "slices", 0, 5), 16, CPU)
        assert table[0] == 10
        (table,) = tables(changed(layout, "slices", 0, 5), 16, torch.device("meta"))
        assert table.device.type == "meta"
        assert len(calls) == 3

    def test_a_layout_changed_in_place_gives_new_tables(self) -> None:
        tables, _ = self.make()
        layout = grid_layout(2, 2, 4)
        tables(layout, 16, CPU)
        layout.slices[0] = 7
        assert tables(layout, 16, CPU)[0][0] == 14

    def test_one_entry_per_image(self) -> None:
        tables, _ = self.make()
        with pytest.raises(ValueError, match=r"layout\.slices must have one entry per image, shape \(15,\), got \(16,"):
            tables(grid_layout(2, 2, 4), 15, CPU)

    @pytest.mark.parametrize(
        ("field", "found"),
        [(torch.zeros(16), "float32 on cpu"), (torch.zeros(16, dtype=torch.int64, device="meta"), "int64 on meta")],
        ids=["dtype", "device"],
    )
    def test_fields_are_int64_on_the_cpu(self, field: torch.Tensor, found: str) -> None:
        tables, _ = self.make()
        with pytest.raises(ValueError, match=rf"layout\.views must be an int64 tensor on the CPU, got torch\.{found}"):
            tables(grid_layout(2, 2, 4)._replace(views=field), 16, CPU)
