from __future__ import annotations

import itertools

import pytest
import torch

import common.data.loader as loader_module
from common.data.content import Content
from common.data.loader import BatchLoader, ConcatLoader, PseudoLabelledLoader
from common.data.pseudo_labelled import PseudoLabelled
from common.data.samplers import UniformSampler
from common.data.slices import MappedSlices, Slices
from common.transforms.copy_paste import CopyPaste

NOTHING = CopyPaste(0.0)


def volumes(count=3, value=0.0):
    """Volumes of two slices each, whose pixels tell the slices apart."""
    return [{"image": torch.full((1, 4, 4, 2), value + n), "id": f"v{n}"} for n in range(count)]


def make(tmp_path=None):
    """Unlabelled slices, in memory or mapped."""
    memory = {} if tmp_path is None else {"in_memory_gib": 0, "cache_dir": tmp_path}
    slices = Slices.from_volumes(volumes(), progress=False, **memory)
    labelled = Slices(torch.full((2, 1, 4, 4), 9.0), torch.ones(2, 4, 4, dtype=torch.uint8), torch.tensor([0, 2]))
    return PseudoLabelled(slices, labelled), labelled


def maps(first=1):
    return [torch.full((2, 4, 4), first + number, dtype=torch.uint8) for number in range(3)]


@pytest.fixture(params=["in memory", "mapped"])
def pseudo(request, tmp_path):
    slices, _ = make(tmp_path if request.param == "mapped" else None)
    assert isinstance(slices._slices, MappedSlices) == (request.param == "mapped")
    return slices


def test_images_come_with_the_labels_of_now(pseudo):
    pseudo.put(maps(1))
    read = pseudo.read(torch.tensor([5, 0]))
    pseudo.put(maps(4))  # between reading ahead and use
    images, labels = pseudo.to_device(*read)
    assert images[:, 0, 0, 0].tolist() == [2.0, 0.0]
    assert labels[:, 0, 0].tolist() == [6, 4] and labels.dtype == torch.uint8
    assert torch.equal(pseudo.take(torch.tensor([5]))[1], labels[:1])


def test_a_volume_is_there_as_a_whole(pseudo):
    assert pseudo.volume(1).shape == (2, 1, 4, 4) and pseudo.volume(1).unique().tolist() == [1.0]
    pseudo.put(maps())
    assert pseudo.maps(1).unique().tolist() == [2]


def test_labels_are_saved_and_loaded(pseudo):
    other, _ = make()
    assert not pseudo.is_labelled
    other.load_state_dict(pseudo.state_dict())
    assert not other.is_labelled
    pseudo.put(maps())
    other.load_state_dict(pseudo.state_dict())
    assert other.is_labelled and torch.equal(other._storage(), pseudo._storage())
    # What is loaded can be saved again.
    assert torch.equal(other.state_dict()["maps"], pseudo.state_dict()["maps"])


def views(images, labels, generator):
    return images + torch.rand(len(images), 1, 1, 1, generator=generator), labels[:, None]


def loader(pseudo, labelled, copy_paste=NOTHING):
    def of(slices, size, seed):
        return BatchLoader(slices, UniformSampler(slices, size), views, 5, seed)

    mixed = ConcatLoader(of(labelled, 2, 0), of(pseudo, 2, 7), copy_paste)
    return PseudoLabelledLoader(of(labelled, 4, 0), mixed, pseudo)


def batches(pseudo, labelled, first=0, number=6, change=3, copy_paste=NOTHING):
    """Take batches; labels come after `change` of them."""
    batches = loader(pseudo, labelled, copy_paste)
    batches.first_step = first
    found = []
    iterator = iter(batches)
    for step in range(first, number):
        if step == change:
            pseudo.put(maps(2))  # the true labels are 1
        found.append(next(iterator))
    return found


@pytest.mark.parametrize("mapped", [False, True])
def test_predicted_labels_are_drawn_from_when_they_are_there(tmp_path, mapped):
    pseudo, labelled = make(tmp_path if mapped else None)
    found = batches(pseudo, labelled)
    are_true = [[value >= 9 for value in images[:, 0, 0, 0].tolist()] for images, _ in found]
    assert are_true == [[True] * 4] * 3 + [[True, True, False, False]] * 3
    assert len(loader(pseudo, labelled)) == 5


@pytest.mark.parametrize("first", [1, 3, 5])
@pytest.mark.parametrize("mapped", [False, True])
def test_batches_go_on_as_they_would_have(tmp_path, mapped, first):
    whole = batches(*make(tmp_path if mapped else None))
    pseudo, labelled = make(tmp_path if mapped else None)
    if first > 3:
        pseudo.put(maps(2))
    for one, other in itertools.zip_longest(whole[first:], batches(pseudo, labelled, first)):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_labelled_and_pseudo_labelled_slices_exchange_rectangles():
    plain, pasted = (batches(*make(), copy_paste=CopyPaste(chance)) for chance in (0.0, 1.0))
    for step, (one, other) in enumerate(zip(plain, pasted, strict=True)):
        assert torch.equal(one[0], other[0]) == (step < 3)  # before there are predicted labels, nothing is exchanged
        sums = [values[:2] + values[2:] for values in (*one, *other)]
        assert torch.allclose(sums[0], sums[2]) and torch.equal(sums[1], sums[3])
    images, labels = pasted[-1]
    inside = images[0, 0] < 9  # of an unlabelled slice
    assert 0 < inside.sum() < 16
    assert torch.equal(labels[0, 0] == 1, ~inside)


def test_a_run_goes_on_with_the_rectangles_that_it_would_have_had():
    whole = batches(*make(), copy_paste=CopyPaste(0.5), number=12)
    pseudo, labelled = make()
    pseudo.put(maps(2))
    rest = batches(pseudo, labelled, first=5, number=12, copy_paste=CopyPaste(0.5))
    assert all(torch.equal(one[0], other[0]) for one, other in zip(whole[5:], rest, strict=True))


def test_several_processes_exchange_what_one_would(monkeypatch):
    """Each with its rows of both batches."""
    rows = torch.arange(8.0).view(4, 2, 1, 1, 1).expand(-1, -1, 1, 6, 6)
    first, second = rows[:, 0], rows[:, 1] + 100
    pair = ConcatLoader.__new__(ConcatLoader)
    pair.second, pair.copy_paste = type("Loader", (), {"seed": 3}), CopyPaste(1.0)
    expected, _ = pair._paste((first, second), (first, second), 4)
    monkeypatch.setattr(loader_module.idist, "get_world_size", lambda: 2)
    for rank, own in enumerate((slice(0, 2), slice(2, 4))):
        monkeypatch.setattr(loader_module.idist, "get_rank", lambda rank=rank: rank)
        found, _ = pair._paste((first[own], second[own]), (first[own], second[own]), 4)
        assert torch.equal(found[0], expected[0][own]) and torch.equal(found[1], expected[1][own])


def test_both_kinds_of_batches_are_tried_beforehand():
    pseudo, labelled = make()
    tried = []
    batches = loader(pseudo, labelled)
    for part in (batches.alone, batches.mixed.first, batches.mixed.second):
        part.views = lambda images, labels, _: (images, tried.append(len(images)))
    batches.prepare()
    assert tried == [4, 2, 2]


@pytest.mark.parametrize("left_out", [[], [1], [0]])
def test_of_a_volume_with_some_labelled_slices_the_others_are_predicted(left_out):
    contents = [Content(f"v{n}", f"hash{n}", None, "") for n in range(3)]
    images = torch.cat([torch.full((2, 1, 4, 4), float(n)) for n in range(3)])
    slices = Slices(images, None, torch.tensor([0, 2, 4, 6]), content=contents)
    kept = torch.tensor([place for place in range(2) if place not in left_out])
    labels = torch.full((len(kept), 4, 4), 9, dtype=torch.uint8)
    starts, numbers = torch.tensor([0, len(kept)]), [kept]
    labelled = Slices(images[2:4][kept], labels, starts, content=contents[1:2], numbers=numbers)
    pseudo = PseudoLabelled(slices, labelled)
    assert pseudo.num_predicted == (3 if left_out else 2)
    assert [entry.id for entry in pseudo.predicted_content] == (["v0", "v1", "v2"] if left_out else ["v0", "v2"])
    pseudo.put(maps(1))
    assert pseudo.maps(0).unique().tolist() == [1] and pseudo.maps(2).unique().tolist() == [3]
    assert [int(own.unique()) for own in pseudo.maps(1)] == [2 if place in left_out else 9 for place in range(2)]
