"""What it gives on a processor that the longest axis of 3D images is the last in memory (medseg/memory_order.py).

    python benchmarks/axis_order.py [--steps 7]
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python benchmarks/axis_order.py                as on a laptop

Two Markdown tables, of milliseconds: convolutions, forward, gradient of the image and gradient of the weights, in the
usual order and with the longest axis last; and training steps of networks (forth and back, cross-entropy of all heads),
as they are and with images left in the usual order, in turn. The plans are those that medseg makes for these images.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from environment import describe
from torch.nn import functional

from medseg.architecture import Architecture
from medseg.device import Device, choose_device
from medseg.memory_order import channels_last
from medseg.networks import build_network

ATEN: Any = torch.ops.aten
FLAT, CUBE = (3, 3, 1), (3, 3, 3)
CONVOLUTIONS = [
    ((2, 8, 192, 192, 12), FLAT),
    ((2, 16, 96, 96, 12), FLAT),
    ((2, 32, 48, 48, 12), CUBE),
    ((2, 32, 64, 64, 32), CUBE),
    ((2, 16, 64, 64, 28), CUBE),
    ((4, 16, 32, 48, 32), CUBE),
    ((2, 32, 96, 96, 96), CUBE),
]
ONES, HALF, FLAT_HALF = (1, 1, 1), (2, 2, 2), (2, 2, 1)
# Shape of a batch, features, strides and kernels.
NETWORKS = {
    "cardiac MR, 1.25×1.25×10 mm": (
        (2, 1, 192, 192, 12),
        (8, 16, 32, 64, 128, 128),
        (ONES, FLAT_HALF, FLAT_HALF, HALF, HALF, FLAT_HALF),
        (FLAT, FLAT, CUBE, CUBE, CUBE, CUBE),
    ),
    "sarcoma CT, at half resolution": (
        (2, 1, 128, 128, 32),
        (16, 32, 64, 128, 256),
        (FLAT_HALF, FLAT_HALF, HALF, HALF, HALF),
        (FLAT, FLAT, CUBE, CUBE, CUBE),
    ),
    "abdomen": ((2, 1, 64, 64, 28), (16, 32, 64, 128, 256), (ONES, FLAT_HALF, HALF, HALF, FLAT_HALF), (CUBE,) * 5),
    "demo": ((6, 1, 48, 40, 16), (8, 16, 32, 64), (ONES, FLAT_HALF, HALF, HALF), (FLAT, CUBE, CUBE, CUBE)),
    "hippocampus": ((4, 1, 32, 48, 32), (16, 32, 64, 128), (ONES, HALF, HALF, HALF), (CUBE,) * 4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=7, help="of each, in turn")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    device = choose_device("cpu", threads=torch.get_num_threads())
    print(f"{describe()}, {torch.get_num_threads()} threads\n")
    print("| batch, channels, voxels | kernel | usual (ms) | longest last (ms) | ratio |\n" + "| --- " * 5 + "|")
    for shape, kernel in CONVOLUTIONS:
        order = sorted(range(3), key=lambda axis: shape[2 + axis])
        usual = convolution_times(shape, kernel, device.dtype, arguments.steps)
        ordered_shape = (*shape[:2], *(shape[2 + axis] for axis in order))
        ordered = convolution_times(ordered_shape, tuple(kernel[axis] for axis in order), device.dtype, arguments.steps)
        name, edges = f"{shape[0]}, {shape[1]}, {'×'.join(map(str, shape[2:]))}", "×".join(map(str, kernel))
        ratio = sum(ordered) / sum(usual)
        print(f"| {name} | {edges} | {told(usual)} | {told(ordered)} | {ratio:.2f} |", flush=True)
    print("\n| training step | usual (ms) | longest last (ms) | ratio |\n" + "| --- " * 4 + "|")
    for name, network in NETWORKS.items():
        usual_ms, ordered_ms = step_times(*network, device, arguments.steps)
        ratio = statistics.median(b / a for a, b in zip(usual_ms, ordered_ms, strict=True))
        print(f"| {name} | {median(usual_ms)} | {median(ordered_ms)} | {ratio:.2f} |", flush=True)


def told(times: list[float]) -> str:
    return f"{sum(times):.1f} ({', '.join(f'{ms:.1f}' for ms in times)})"


def median(times: list[float]) -> str:
    return f"{statistics.median(times):.0f}"


def convolution_times(shape: tuple[int, ...], kernel: tuple[int, ...], dtype: torch.dtype, rounds: int) -> list[float]:
    """Returns the medians of forward, gradient of the image and gradient of the weights, with as many channels out."""
    image, gradient = (channels_last(torch.randn(shape).to(dtype)) for _ in range(2))
    weight = channels_last(torch.randn(shape[1], shape[1], *kernel).to(dtype))
    padding = [n // 2 for n in kernel]

    def backward(*wanted: bool) -> object:
        form = [1, 1, 1], padding, [1, 1, 1], False, [0, 0, 0], 1
        return ATEN.convolution_backward(gradient, image, weight, None, *form, [*wanted, False])

    runs: list[Callable[[], object]] = [
        lambda: functional.conv3d(image, weight, padding=padding),
        lambda: backward(True, False),
        lambda: backward(False, True),
    ]
    return [statistics.median(timed(run) for _ in range(rounds + 1)) for run in runs]


def step_times(
    shape: tuple[int, ...],
    features: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    kernels: tuple[tuple[int, ...], ...],
    device: Device,
    steps: int,
) -> tuple[list[float], list[float]]:
    """Returns the times of steps in the usual order, and with the longest axis last."""
    architecture = Architecture(features=features, strides=strides, kernel_sizes=kernels, deep_supervision=True)
    network = device.place(build_network(1, 3, architecture), 3).train()
    image = channels_last(torch.randn(shape))

    def step() -> None:
        with device.autocast():
            heads = network(image)
        labels = [torch.ones(len(head), *head.shape[2:], dtype=torch.long) for head in heads]
        losses = [functional.cross_entropy(head.float(), label) for head, label in zip(heads, labels, strict=True)]
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        network.zero_grad()

    usual, ordered = [], []
    for _ in range(steps + 1):
        with patch("medseg.networks.unet.longest_axis_last", lambda image: image):
            usual.append(timed(step))
        ordered.append(timed(step))
    return usual[1:], ordered[1:]


def timed(run: Callable[[], object]) -> float:
    """Returns the milliseconds that it takes."""
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()
