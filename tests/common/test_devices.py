from __future__ import annotations

import pytest
import torch

from common.devices import check_device


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that the machine has so many GPUs."""

    def pretend(count):
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)

    return pretend


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "cuda:1"])
@pytest.mark.parametrize("kind", [str, torch.device])
def test_devices_that_are_there(gpus, device, kind):
    gpus(2)
    assert check_device(kind(device)) == torch.device(device)


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("device", ["cuda:3", torch.device("cuda:3"), "mps", "meta", "gpu", "cuda:x"], ids=str)
def test_devices_that_are_not_there(gpus, device, count):
    gpus(count)
    there = "cpu" if count == 0 else "cpu, cuda:0, cuda:1"
    with pytest.raises(ValueError, match=f"^device must be one of {there} on this machine, got '{device}': choose"):
        check_device(device)


def test_a_machine_without_gpu():
    if torch.accelerator.is_available():
        pytest.skip("it has one")
    assert check_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="must be one of cpu on this machine, got 'cuda'"):
        check_device(torch.device("cuda"))
