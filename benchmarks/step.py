"""A whole training step beside the network's forward, backward and optimiser alone, for each of the stages.

Contenders, in turn, with one network, one optimiser and batches of one size:

    whole step     what the bundles' trainer does: drawing, views, network, loss, optimiser, Ignite and `StopOnNaN`;
                   self-training also averages the weights and sets the learning rate
    network alone  forward, backward from a given gradient, and optimiser, on a batch that is there already

The stages of pre-training have the defaults of the bundles: GD for the global one, LR on the map of d3 with regions of
3 x 3 for the local one. "dense" is the local stage with LE: moved views, strong intensities, 1,000 sampled pixels.
"fine-tuning" is the paper's: Dice loss after affine and elastic augmentation. "self-training"
is a step of `train.json` within a round: half of the slices have predicted labels, all have the augmentation
"strong+elastic", and in half of the batches they exchange parts. The slices are noise, as many as ACDC's pre-training
set has. "photographs" are as in the bundle of Cityscapes, by default: 256 x 512 in colour, kept in 8 bits; GR, LR,
and the paper's fine-tuning. Every stage has a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from ignite.engine import Events
from monai.losses import DiceLoss
from torch import nn
from tqdm import tqdm

from common.data.loader import BatchLoader, PseudoLabelledLoader
from common.data.pseudo_labelled import PseudoLabelled
from common.data.samplers import UniformSampler, contrastive_sampler
from common.data.slices import Slices
from common.engines import AutocastInferer, LearningRateDecay, StageTrainer, StopOnNaN, WeightAveraging
from common.fine_tuning import batches
from common.losses import GlobalContrastiveLoss, local_loss
from common.networks import GlobalPretrainingNet, LocalPretrainingNet, UNet2d
from common.strategies import make_layout
from common.transforms.intensity_views import RandomIntensity
from common.transforms.spatial_views import RandomCropResize
from common.transforms.views import (
    Augmentations,
    ContrastiveViews,
    fine_tuning_views,
    global_photograph_views,
    local_photograph_views,
    local_views,
)

from . import harness

STAGES = ("global", "local", "fine-tuning")
DENSE, SELF_TRAINING = "dense", "self-training"
_OF_PHOTOGRAPHS = "photographs, "
PHOTOGRAPHS = tuple(_OF_PHOTOGRAPHS + stage for stage in STAGES)
MOST_OF_DENSE_LOSS = 3.0  # per cent of the network's time
NUM_CLASSES = 4
SIDE = 192
PHOTOGRAPH_HEIGHT = 256  # and twice as wide
_NUM_VOLUMES, _DEPTH = 52, 9
_EPOCH = 100


def measure(
    batch_size: int = 40,
    repetitions: int = 15,
    side: int = SIDE,
    stages: Sequence[str] = (*STAGES, DENSE, SELF_TRAINING, *PHOTOGRAPHS),
    photograph_batch_size: int = 16,
    photograph_height: int = PHOTOGRAPH_HEIGHT,
) -> dict[str, Any]:
    """Time both contenders for each stage.

    Args:
        batch_size: images of a batch, views included.
        repetitions: runs of each contender; one step each on a CPU, 20 on a GPU.
        side: H and W of the slices.
        stages: which stages.
        photograph_batch_size: photographs of a batch, views included.
        photograph_height: H of the photographs, which are twice as wide.

    Returns:
        Result with a row for each stage. Time of the whole step is a multiple of that of the network: median, lowest
        and highest of the paired runs. Shares of making the batch, and of the loss with its gradient, are in per cent
        of the network's time. Peak memory is that of the process or, on a GPU, of its tensors. On a GPU also
        milliseconds.
    """
    rows: list[dict[str, Any]] = []
    targets: list[dict[str, Any]] = []
    notes: list[str] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as processes:
        for stage in tqdm(stages, desc="step"):
            size = (photograph_batch_size, photograph_height) if stage in PHOTOGRAPHS else (batch_size, side)
            row, note = processes.submit(measure_stage, stage, size[0], repetitions, size[1]).result()
            rows.append(row)
            rule = f"{stage}: time of the whole step / time of the network alone"
            targets.append(harness.target(rule, row["times network"], at_most=_limit()))
            if stage == DENSE:
                rule = f"{stage}: loss with its gradient, per cent of the network alone"
                targets.append(harness.target(rule, row["loss %"], at_most=MOST_OF_DENSE_LOSS))
            notes += [note] if note else []
    notes.append(
        "The handlers of a run that write pictures, logs and checkpoints in intervals of many steps are not attached. "
        "A round's labelling of the slices is the network's own work, and comes three times in a run."
    )
    return harness.result("step", rows, targets, notes)


def _limit() -> float:
    return 1.05 if harness.default_device().type == "cpu" else 1.10


def measure_stage(stage: str, batch_size: int, repetitions: int, side: int) -> tuple[dict[str, Any], str]:
    """Measure one stage in this process.

    Args:
        stage: see `make_trainer`.
        batch_size: images of a batch, views included.
        repetitions: runs of each contender.
        side: H of the slices or photographs.

    Returns:
        Its row, and, if the target is missed, a note that says which operations take the time beyond the network.
    """
    device = harness.default_device()
    steps = 1 if device.type == "cpu" else 20  # a GPU is waited for after a run, which training does not do
    if stage in PHOTOGRAPHS:
        slices = random_photographs(stage.endswith("fine-tuning"), side, device)
    else:
        slices = random_slices(stage in ("fine-tuning", SELF_TRAINING), side, device)
    trainer = make_trainer(stage, slices, batch_size)
    made = iter(trainer.data_loader)
    images, targets = next(made)
    outputs = trainer.inferer(images, trainer.network).detach()
    gradient = torch.randn_like(outputs)
    outputs.requires_grad_()

    def network_alone() -> None:
        for _ in range(steps):
            trainer.optimizer.zero_grad(set_to_none=True)
            trainer.inferer(images, trainer.network).backward(gradient)
            trainer.optimizer.step()

    def make_batch() -> Any:
        return next(made)

    def differentiate_loss() -> None:
        torch.autograd.grad(trainer.loss_function(outputs, targets), outputs)

    contenders = {"whole": resumable(trainer, steps), "network": network_alone}
    seconds = harness.time_in_turn(contenders, repetitions, device=device)
    finish(trainer)
    parts = {"batch": make_batch, "loss": differentiate_loss}
    seconds_parts = harness.time_in_turn(parts, repetitions, device=device)
    medians = {name: harness.spread(values)["median"] for name, values in {**seconds, **seconds_parts}.items()}
    times_network = harness.ratios(seconds, "whole", "network")
    row: dict[str, Any] = {
        "stage": stage,
        "batch": len(images),
        "times network": times_network["median"],
        "low": times_network["low"],
        "high": times_network["high"],
        "batch %": 100 * steps * medians["batch"] / medians["network"],
        "loss %": 100 * steps * medians["loss"] / medians["network"],
        "peak MiB": _peak_mib(device),
    }
    if device.type == "cuda":
        row |= {f"{name}, ms": 1000 * medians[name] / steps for name in contenders}
    if row["times network"] <= _limit():
        return row, ""

    def make_and_differentiate() -> None:
        make_batch()
        differentiate_loss()

    shares = top_operations(make_and_differentiate, medians["network"] / steps)
    return row, f"{stage}: operations of batch and loss that take longest, in per cent of the network's time: {shares}."


def random_slices(labelled: bool, side: int, device: torch.device) -> Slices:
    """Return slices of noise, as many as ACDC's pre-training set has, with or without labels."""
    generator = torch.Generator().manual_seed(0)
    num_slices = _NUM_VOLUMES * _DEPTH
    images = torch.rand(num_slices, 1, side, side, generator=generator)
    labels = torch.randint(NUM_CLASSES, (num_slices, side, side), generator=generator, dtype=torch.uint8)
    starts = torch.arange(_NUM_VOLUMES + 1) * _DEPTH
    return Slices(images.to(device), labels.to(device) if labelled else None, starts)


def random_photographs(labelled: bool, height: int, device: torch.device) -> Slices:
    """Return photographs of noise in 8 bits, twice as wide as high, each of them a volume of one slice."""
    generator = torch.Generator().manual_seed(0)
    number = _NUM_VOLUMES * _DEPTH
    images = torch.randint(256, (number, 3, height, 2 * height), generator=generator, dtype=torch.uint8)
    labels = torch.randint(NUM_CLASSES, (number, height, 2 * height), generator=generator, dtype=torch.uint8)
    return Slices(images.to(device), labels.to(device) if labelled else None, torch.arange(number + 1))


def make_trainer(
    stage: str,
    slices: Slices,
    batch_size: int,
    precision: str = "auto",
    memory_format: torch.memory_format = torch.channels_last,
    strategy: str = "",
    augmentation: str = "",
) -> StageTrainer:
    """Build the trainer of a stage, with the defaults of the bundles unless other things are asked for.

    Args:
        stage: one of `STAGES`, `DENSE`, `SELF_TRAINING` or `PHOTOGRAPHS`.
        slices: of the device to train on, square but for photographs; with labels for fine-tuning, without for
            pre-training.
        batch_size: images of a batch, views included.
        precision: see `AutocastInferer`.
        memory_format: of the network.
        strategy: of the global stage, see `GlobalContrastiveLoss`; "" for GD, and GR of photographs.
        augmentation: of fine-tuning, see `fine_tuning_views`; "" for the paper's.

    Returns:
        A trainer that would run for a million epochs of 100 steps; the same weights and batches at every call.
    """
    device, (channels, *size) = slices.images.device, slices.images.shape[1:]
    of_photographs, stage = stage in PHOTOGRAPHS, stage.removeprefix(_OF_PHOTOGRAPHS)
    torch.manual_seed(0)
    unet = UNet2d(NUM_CLASSES, channels)
    network: nn.Module
    loss: Callable[..., Any]
    loader: BatchLoader | PseudoLabelledLoader
    if stage == "global":
        layout = make_layout(strategy or ("GR" if of_photographs else "GD"), batch_size)
        name = layout.strategy.name
        network, loss = GlobalPretrainingNet(unet, size), GlobalContrastiveLoss(layout)
        if of_photographs:
            views = global_photograph_views(name, (0.5, 1.0))
        else:
            crop = RandomCropResize(round(100 * size[-1] / SIDE))
            views = ContrastiveViews(name, Augmentations([crop, RandomIntensity()]))
        loader = BatchLoader(slices, contrastive_sampler(layout, slices), views, _EPOCH)
    elif stage in ("local", DENSE):
        layout = make_layout("LR" if stage == "local" else "LE", batch_size)
        network, loss = LocalPretrainingNet(unet, strategy=layout.strategy.name), local_loss(layout)
        changed = local_photograph_views(layout) if of_photographs else local_views(layout)
        loader = BatchLoader(slices, contrastive_sampler(layout, slices), changed, _EPOCH)
    else:
        augmentation = augmentation or ("crop+colour" if of_photographs else "paper")
        network, loss = unet, DiceLoss(softmax=True, smooth_nr=0.0, smooth_dr=1e-10)
        if stage == SELF_TRAINING:
            fine_tuned = fine_tuning_views(NUM_CLASSES, "strong+elastic")
            loader = batches(slices, _pseudo_labelled(slices), fine_tuned, batch_size, _EPOCH, seed=0, copy_paste=0.5)
        else:
            sampler = UniformSampler(slices, batch_size)
            loader = BatchLoader(slices, sampler, fine_tuning_views(NUM_CLASSES, augmentation), _EPOCH)
    # The argument is in torch's documentation, but not in its types.
    network.to(device, memory_format=memory_format)  # type: ignore[call-overload]  # as in `UNet2d`
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    return StageTrainer(
        device=device,
        max_epochs=1_000_000,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        inferer=AutocastInferer(precision=precision),
        train_handlers=[StopOnNaN(), LearningRateDecay(optimizer, "cosine" if stage == SELF_TRAINING else "none")],
        averaging=WeightAveraging(network, 0.99) if stage == SELF_TRAINING else None,
    )


def _pseudo_labelled(slices: Slices) -> PseudoLabelled:
    """Return the same slices as if a round had labelled them."""
    pseudo = PseudoLabelled(Slices(slices.images, None, slices.starts), slices)
    assert slices.labels is not None
    pseudo.put(slices.labels.split(slices.starts.diff().tolist()))
    return pseudo


def resumable(trainer: StageTrainer, steps: int) -> Callable[[], None]:
    """Make a trainer pause after every so many steps; return what goes on from there for as many."""
    trainer.add_event_handler(Events.ITERATION_COMPLETED(every=steps), trainer.interrupt)
    return trainer.run


def finish(trainer: StageTrainer) -> None:
    """End the run of a trainer that has been paused."""
    trainer.terminate()
    trainer.run()


def top_operations(function: Callable[[], object], seconds: float, number: int = 5) -> str:
    """Name the operations of a call that the host spends most time in, in per cent of a time.

    Args:
        function: what is profiled; called four times.
        seconds: the time that is 100 per cent.
        number: how many operations are named.
    """
    calls = 3
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU],
        schedule=torch.profiler.schedule(wait=0, warmup=1, active=calls),
        acc_events=True,
    ) as profiler:
        for _ in range(1 + calls):
            function()
            profiler.step()
    operations = [entry for entry in profiler.key_averages() if "ProfilerStep" not in entry.key]
    operations.sort(key=lambda entry: entry.self_cpu_time_total, reverse=True)
    shares = [(entry.key, entry.self_cpu_time_total / 1e6 / calls / seconds) for entry in operations[:number]]
    return ", ".join(f"{name} {100 * share:.2f}" for name, share in shares)


def _peak_mib(device: torch.device) -> float:
    """Return the peak of the process up to now: of its tensors on a GPU, else of its resident memory, on Linux only.

    Not `ru_maxrss`, which for a new process starts from that of its parent.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return harness.resident_mib("VmHWM")
