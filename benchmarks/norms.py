"""Norms on a processor, forth and back, in channels-last: PyTorch's, and the forms of medseg/cpu_norms.py.

    python benchmarks/norms.py [--threads 2] [--precision fp32] [--groups 8]
    python benchmarks/norms.py --network [--threads 2] [--precision fp32]

Instance norm, or with --groups group norm. Prints a Markdown table of milliseconds, and how far the images and the
gradients of the image are from those in float64. The copy back to channels-last, which the next convolution makes of
the result of PyTorch's instance norm, is not in its time. --network times MONAI's SegResNet, whose norms are of groups.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from environment import describe
from torch import nn

from medseg.cpu_layers import on_cpu
from medseg.cpu_norms import MEMORY_FORMATS

REPEATS, REPEATS_OF_NETWORK = 15, 3
SHAPES = [
    (4, 16, 32, 48, 32),
    (4, 32, 16, 24, 16),
    (4, 64, 8, 12, 8),
    (1, 16, 32, 48, 32),
    (2, 8, 192, 192, 12),
    (2, 16, 96, 96, 12),
    (2, 24, 96, 96, 12),
    (10, 8, 192, 192),
    (26, 32, 64, 64),
    (64, 16, 32, 48),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--groups", type=int)
    parser.add_argument("--busy", action="store_true", help="processor time of one thread: others are at work too")
    parser.add_argument("--network", action="store_true", help="a network of group norms as a whole")
    arguments = parser.parse_args()
    if arguments.busy:
        arguments.threads, clock = 1, time.process_time
    else:
        clock = time.perf_counter
    torch.set_num_threads(arguments.threads)
    dtype = torch.float32 if arguments.precision == "fp32" else torch.bfloat16
    print(f"{describe()}; {arguments.precision}, {arguments.threads} threads\n")
    if arguments.network:
        whole_network(dtype, clock)
        return
    print("| batch, channels, voxels | PyTorch (ms) | its errors | medseg (ms) | its errors |")
    print("| --- | --- | --- | --- | --- |")
    for shape in SHAPES:
        generator = torch.Generator().manual_seed(0)
        memory_format = MEMORY_FORMATS[len(shape)]
        image = torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=memory_format)
        gradient = torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=memory_format)
        instance = nn.InstanceNorm3d if len(shape) == 5 else nn.InstanceNorm2d
        groups = arguments.groups
        theirs = instance(shape[1], affine=True) if groups is None else nn.GroupNorm(groups, shape[1])
        ours = on_cpu(copy.deepcopy(theirs))
        right = back(copy.deepcopy(theirs).double(), image.double().contiguous(), gradient.double().contiguous())
        cells = []
        for norm in (theirs, ours):
            milliseconds = 1000 * statistics.median(seconds(norm, image, gradient, clock) for _ in range(REPEATS))
            pairs = zip(back(norm, image, gradient), right, strict=True)
            errors = " and ".join(f"{float((each.double() - exact).abs().max()):.0e}" for each, exact in pairs)
            cells += [f"{milliseconds:.2f}", errors]
        print(
            f"| {', '.join(map(str, shape[:2]))}, {'×'.join(map(str, shape[2:]))} | {' | '.join(cells)} |", flush=True
        )


def whole_network(dtype: torch.dtype, clock: Callable[[], float]) -> None:
    """Prints what a window and a step of SegResNet take, with the norms of both."""
    from monai.networks.nets import SegResNet

    torch.manual_seed(0)
    theirs = SegResNet(init_filters=16, out_channels=3).to(memory_format=torch.channels_last_3d)
    ours = on_cpu(copy.deepcopy(theirs))
    window, batch = (
        torch.randn(n, 1, *(edge,) * 3).contiguous(memory_format=torch.channels_last_3d)
        for n, edge in ((1, 64), (2, 48))
    )

    def predict(network: nn.Module) -> None:
        with torch.inference_mode():
            network(window)

    def step(network: nn.Module) -> None:
        network(batch).square().mean().backward()

    print("| | PyTorch (ms) | medseg (ms) |\n| --- | --- | --- |")
    for name, work in (("a window of 64³", predict), ("forth and back, 2 of 48³", step)):
        cells = []
        for network in (theirs, ours):
            network.train(work is step)
            times = []
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                for _ in range(REPEATS_OF_NETWORK):
                    start = clock()
                    work(network)
                    times.append(clock() - start)
            cells.append(f"{1000 * statistics.median(times):.0f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def back(norm: nn.Module, image: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The normalized image, and the gradient of the image."""
    image = image.detach().requires_grad_()
    normal = norm(image)
    normal.backward(gradient)
    assert image.grad is not None
    return normal.detach(), image.grad


def seconds(norm: nn.Module, image: torch.Tensor, gradient: torch.Tensor, clock: Callable[[], float]) -> float:
    start = clock()
    back(norm, image, gradient)
    return clock() - start


if __name__ == "__main__":
    main()
