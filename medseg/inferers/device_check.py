"""Whether a device computes what it has to: a network is tried there before it is trusted.

Processors and CUDA are trusted. On an Apple GPU (``mps``) PyTorch lacks operations, and some have been wrong. What is
here was tried with fakes only, never on such a GPU.
"""

from collections.abc import Sequence

import torch
from torch import nn

from medseg.device import Device, choose_device
from medseg.errors import reason_of
from medseg.progress import warn

TRUSTED = ("cpu", "cuda")
# How far ``apart`` logits in float32 may be.
TOLERANCE = 0.01


def placed_network(network: nn.Module, shape: Sequence[int], device: Device) -> tuple[nn.Module, Device]:
    """Returns a network on the device, and the device; or both on the processor, where the device fails.

    On a device that is not trusted the network first sees a window there and on the processor. Where it cannot run, or
    gives other logits, a warning says why.

    Args:
        network: In evaluation mode: windows (window, channel, *spatial) to logits (window, label, *spatial).
        shape: Of a window without its first axis: (channel, *spatial).
        device: Where it should go.
    """
    dims = len(shape) - 1
    if device.torch_device.type in TRUSTED:
        return device.place(network, dims), device
    window = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    processor = choose_device("cpu", "fp32")
    with torch.inference_mode():
        expected = processor.place(network, dims)(window)
        try:
            logits = device.place(network, dims)(device.send(window)).to("cpu", torch.float32)
            reason = "" if apart(logits, expected) <= TOLERANCE else "it gives other logits than on the processor"
        except (RuntimeError, TypeError) as error:  # NotImplementedError among them: an operation is missing
            reason = reason_of(error)
    if not reason:
        return network, device
    processor = choose_device("cpu")
    fall_back(device, reason)
    return processor.place(network, dims), processor


def fall_back(device: Device, reason: str) -> None:
    """Warns that the processor takes the place of a device."""
    warn(f"--device {device.torch_device}: the network cannot be used there ({reason}); the processor takes its place")


def apart(logits: torch.Tensor, expected: torch.Tensor) -> float:
    """Returns the root mean square of the difference, as part of the deviation of what was expected."""
    return float((logits - expected).square().mean().sqrt() / expected.std())
