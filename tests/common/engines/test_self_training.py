from __future__ import annotations

import logging

import pytest
import torch
from ignite.engine import Engine, Events
from monai.inferers import SimpleInferer
from torch import nn

from common.data.content import Content
from common.data.pseudo_labelled import PseudoLabelled
from common.data.slices import Slices
from common.engines import BatchNormStatistics, SelfTraining
from common.evaluation import volume_dice

INFERER = SimpleInferer()
NAMES = ["background", "wall", "core"]


class Threshold(nn.Module):
    """Class 1 where an image is above 0.5, class 2 above 1.5; the weight is there to have a device."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.modes = []

    def forward(self, images):
        self.modes.append(self.training)
        steps = torch.arange(3).view(1, 3, 1, 1)
        return self.scale.abs() * (steps * images * self.scale.sign() - steps * steps / 2)


def volume():
    """Images (3, 1, 8, 8) of a structure within another one."""
    images = torch.zeros(3, 1, 8, 8)
    images[:, 0, 1:4, 1:4] = 1.0
    images[0, 0, 2, 2] = 2.0
    return images


def slices_of(*volumes, labels=None, names="abcdef"):
    starts = torch.tensor([0, *torch.tensor([len(one) for one in volumes]).cumsum(0)])
    contents = [Content(name, name, None, f"{name}.nii") for name, _ in zip(names, volumes, strict=False)]
    return Slices(torch.cat(volumes), labels, starts, list(names[: len(volumes)]), contents)


def true_labels():
    return volume()[:, 0].to(torch.uint8)


def make(*volumes, rounds=2, network=None, labelled_name="z", **options):
    """Self-training on unlabelled volumes, beside one labelled volume."""
    labelled = slices_of(volume(), labels=true_labels(), names=labelled_name)
    slices = PseudoLabelled(slices_of(*volumes), labelled)
    network = Threshold().train() if network is None else network
    statistics = BatchNormStatistics(network, labelled, "running_average")
    return SelfTraining(network, slices, rounds, INFERER, statistics, NAMES, **options), slices


def run(handler, epochs=3, length=2, first=0, each_step=lambda step: None):
    """Return what round each step belongs to."""
    engine, rounds = Engine(lambda *_: None), []
    handler.attach(engine)

    @engine.on(Events.STARTED)
    def go_on():
        engine.state.iteration, engine.state.epoch = first, first // length

    @engine.on(Events.ITERATION_STARTED)
    def note():
        rounds.append(handler.round)
        each_step(engine.state.iteration)

    engine.run([0] * length, max_epochs=epochs, epoch_length=length)
    return rounds


def test_the_run_is_divided_evenly_and_the_first_part_has_true_labels_only():
    handler, slices = make(volume(), volume())
    known = []
    assert run(handler, each_step=lambda _: known.append(slices.is_labelled)) == [0, 0, 1, 1, 2, 2]
    assert known == [False, False, True, True, True, True]


def test_what_the_network_predicts_becomes_the_labels():
    handler, slices = make(volume(), 0 * volume()[:2] + 1.0, volume())
    run(handler)
    assert torch.equal(slices.maps(0), true_labels())
    assert torch.equal(slices.maps(1), torch.ones(2, 8, 8, dtype=torch.uint8))
    assert not any(handler.teacher.modes)  # evaluated


def test_each_round_has_labels_of_its_own():
    handler, slices = make(volume(), volume())
    sizes = []

    def grow(step):
        sizes.append(int((slices.maps(0) == 2).sum()))
        if step == 3:
            slices.images[0, 0, 3, 3] = 2.0

    run(handler, each_step=grow)
    assert sizes == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("keep", [True, False])
def test_the_largest_component_of_each_structure_is_kept_if_wanted(keep):
    images = volume()
    images[1, 0, 6, 6] = 1.0  # apart from the larger piece of class 1
    images[2, 0, 6:, 0] = 2.0  # larger than the other piece of class 2
    handler, slices = make(images, volume(), largest_component=keep)
    run(handler)
    expected = images[:, 0].to(torch.uint8)
    if keep:
        expected[0, 2, 2], expected[1, 6, 6] = 0, 0
    assert torch.equal(slices.maps(0), expected)


@pytest.mark.parametrize("before", [False, True])
def test_a_round_that_loses_a_structure_is_not_used(caplog, before):
    small = volume().clamp(max=1.0)  # no core
    handler, slices = make(volume(), small, small)
    if before:
        slices.put([torch.full((3, 8, 8), k, dtype=torch.uint8) for k in (2, 1, 2)])
    with caplog.at_level(logging.INFO):
        run(handler)
    assert (
        "Round 1 of 2: the labels that the network predicts are not used, since it finds core in 33% of" in caplog.text
    )
    assert ("those of the last round stay" if before else "training goes on with true labels") in caplog.text
    assert slices.is_labelled == before
    assert int(slices.maps(1).max()) == before


@pytest.mark.parametrize(("missed", "used"), [(20, True), (26, False)])
def test_a_teacher_that_has_not_learnt_the_labelled_volumes_teaches_nothing(caplog, missed, used):
    """It finds 26 pixels of the wall, all of them right: a Dice of 0.72 or 0.67."""
    handler, slices = make(volume(), volume())
    places = torch.arange(missed)  # in the lowest three rows
    slices.labelled.labels[places // 24, 5 + places % 24 // 8, places % 8] = 1
    run(handler)
    assert slices.is_labelled == used
    assert ("its Dice of wall on the labelled volumes is 0.67" in caplog.text) != used


@pytest.mark.parametrize(("least_mean_fit", "used"), [(0.4, True), (0.9, False)])
def test_where_not_every_volume_has_every_structure_the_mean_counts(caplog, least_mean_fit, used):
    options = {"every_structure": False, "least_mean_fit": least_mean_fit}
    # It finds the core nowhere, and the whole of the wall: a Dice of almost 1 and of 0.
    handler, slices = make(0 * volume(), network=Threshold(), rounds=1, **options)
    handler.slices.labelled.labels[0, 2, 2] = 1
    handler.slices.labelled.labels[1, 6, 6] = 2
    run(handler)
    assert slices.is_labelled == used
    assert ("its mean Dice on the labelled volumes is 0." in caplog.text) == (not used)


def test_a_structure_that_no_label_has_is_not_missed():
    handler, slices = make(volume().clamp(max=1.0))
    slices.labelled.labels.clamp_(max=1)
    run(handler)
    assert slices.is_labelled


def test_the_log_says_how_much_the_labels_changed(caplog):
    handler, _ = make(volume(), volume())
    with caplog.at_level(logging.INFO):
        run(handler)
    first, second = [record.message for record in caplog.records if record.message.startswith("Round")]
    assert first.startswith("Round 1 of 2: labelled 2 volumes in ") and "Dice" not in first
    assert second.endswith("Dice with those of the last round 1.000.")


def test_a_labelled_volume_keeps_its_label():
    wrong = volume() * 0 + 2.0
    handler, slices = make(volume(), wrong, labelled_name="b")  # `b` is the second one
    assert slices.num_predicted == 1
    run(handler)
    assert torch.equal(slices.maps(1), true_labels())


def test_the_state_has_the_labels():
    handler, slices = make(volume(), volume()[:2])
    run(handler)
    other, others = make(volume(), volume()[:2])
    other.load_state_dict(handler.state_dict())
    assert other.round == 2 and others.is_labelled
    assert torch.equal(others.maps(0), slices.maps(0)) and torch.equal(others.maps(1), slices.maps(1))
    assert len(handler.state_dict()["maps"]) < slices.maps(0).numel()
    other.teacher.modes.clear()
    assert run(other, epochs=6, length=1, first=5) == [2]
    assert not other.teacher.modes  # it goes on within the round, whose labels are there


def test_a_run_without_labels_yet_is_resumed_too():
    handler, _ = make(volume())
    other, others = make(volume())
    other.load_state_dict(handler.state_dict())
    assert other.round == 0 and not others.is_labelled


def test_more_rounds_than_steps_are_as_many_as_there_are_steps():
    handler, slices = make(volume(), rounds=7)
    assert run(handler, epochs=1, length=2)[0] == 0
    assert slices.is_labelled


@pytest.mark.parametrize("rounds", [-1, 1.0, "2", True, None])
def test_rounds_are_checked(rounds):
    with pytest.raises(ValueError, match=r"self_training_rounds must be a whole number from 0, got"):
        make(volume(), rounds=rounds)


def test_without_slices_nothing_happens():
    handler = SelfTraining(Threshold(), None, 3, INFERER, None, NAMES)
    assert run(handler) == [0] * 6
    assert handler.rounds == 0 and handler.state_dict() == {"round": 0}
    handler.load_state_dict({"round": 0})


def test_the_fit_is_that_of_all_labelled_slices_together(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (3, 8, 8), generator=generator, dtype=torch.uint8)  # unlike in each slice
    handler, slices = make(volume())
    slices.labelled.labels = labels
    monkeypatch.setattr("common.engines.self_training._SLICES_AT_ONCE", 2)  # parts of unequal sizes
    assert torch.equal(handler._predict()[1], volume_dice(true_labels(), labels, 3))
