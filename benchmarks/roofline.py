"""How much of a prediction is the network, and how much of the processor's peak the network reaches.

    python benchmarks/roofline.py                                  a made CT of 256×256×200
    python benchmarks/roofline.py --images HIPPOCAMPUS/imagesTr --spacing 1 --patch 40 56 40 --features 32 64 128 256
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python benchmarks/roofline.py                  as on a laptop

Three tables. The processor's peak, as far as programs reach it: a matrix product of 2048², and convolutions of 64
channels (3×3×3, 48³ voxels), by PyTorch and by OpenVINO. The network (random weights): the seconds of a window and its
GFLOP/s, two operations a multiplication, as torch counts them. Whole ``medseg predict`` commands: their seconds,
those of the processor, and the part of the time that went into windows.

OpenVINO brings a oneDNN of its own; ONEDNN_MAX_CPU_ISA limits that, too.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from environment import describe
from inference import make_ct, plan_of, quantise, write_model
from torch.utils.flop_counter import FlopCounterMode

from medseg.device import choose_device
from medseg.inferers.graphs import openvino_graph, openvino_runner
from medseg.inferers.model import load_model
from medseg.inferers.quantised import FOLDER, GRAPH, quantised

MATRIX = 2048
CHANNELS, EDGE = 64, 48
ROUNDS = 5
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
Run = Callable[[], object]
Clock = Callable[[], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of .nii.gz to predict, in place of a made CT")
    parser.add_argument("--cases", type=int, default=31, help="how many of them")
    parser.add_argument("--shape", type=int, nargs=3, default=(256, 256, 200), help="of the made CT")
    parser.add_argument("--spacing", type=float, default=1.5, help="of the model's grid, mm")
    parser.add_argument("--patch", type=int, nargs=3, default=(96, 96, 96))
    parser.add_argument("--features", type=int, nargs="+", default=(32, 64, 128, 256, 320))
    parser.add_argument("--labels", type=int, default=3)
    parser.add_argument("--overlap", type=float, nargs="+", default=(0.5, 0.25))
    parser.add_argument("--one-core", action="store_true", help="seconds of the processor, on one core")
    parser.add_argument("--without-int8", action="store_true", help="NNCF is not installed")
    arguments = parser.parse_args()
    clock = time.perf_counter
    if arguments.one_core:
        clock = time.process_time
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # for OpenVINO and the commands, too
        torch.set_num_threads(1)
    print(describe("openvino"))
    variables = [
        f"{name}={os.environ[name]}" for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY") if name in os.environ
    ]
    print(" ".join(variables), f"{torch.get_num_threads()} threads")
    precisions = ["float32"] + (["bf16"] if choose_device("cpu").dtype == torch.bfloat16 else [])
    peaks = show_peaks(precisions, not arguments.without_int8, clock)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        plan = plan_of(arguments)
        write_model(folder / "model", plan, arguments.labels)
        if not arguments.without_int8:
            quantise(folder / "model")
        show_network(folder / "model", peaks, not arguments.without_int8, clock)
        show_commands(folder, arguments)


def show_peaks(precisions: list[str], int8: bool, clock: Clock) -> dict[str, float]:
    """The most GFLOP/s that each precision was seen to reach."""
    print("\n| what | precision | by | GFLOP/s |\n| --- | --- | --- | --- |")
    most: dict[str, float] = {}
    for what, precision, by, work, run in peak_runs(precisions, int8):
        rate = work / seconds(run, clock) / 1e9
        most[precision] = max(most.get(precision, 0.0), rate)
        print(f"| {what} | {precision} | {by} | {rate:.0f} |", flush=True)
    return most


def peak_runs(precisions: list[str], int8: bool) -> Iterator[tuple[str, str, str, float, Run]]:
    """What is done, in which precision, by which program, the operations of it, and the function that does it."""
    torch.manual_seed(0)
    products = 2.0 * MATRIX**3
    for precision in precisions:
        a, b = (torch.randn(MATRIX, MATRIX).to(DTYPES[precision]) for _ in range(2))
        yield f"matrix product, {MATRIX}²", precision, "PyTorch", products, lambda a=a, b=b: a @ b
    image = torch.randn(1, CHANNELS, EDGE, EDGE, EDGE)
    products = 2.0 * 27 * CHANNELS**2 * EDGE**3
    what = f"convolution of {CHANNELS} channels, {EDGE}³"
    for precision in precisions:
        own = torch.nn.Conv3d(CHANNELS, CHANNELS, 3, padding=1).to(DTYPES[precision])
        own = own.to(memory_format=torch.channels_last_3d)
        values = image.to(DTYPES[precision], memory_format=torch.channels_last_3d)
        yield what, precision, "PyTorch", products, lambda own=own, values=values: own(values)
    # Several in a row: what an OpenVINO graph takes and gives is copied.
    deep = torch.nn.Sequential(*(torch.nn.Conv3d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(8))).eval()
    graph = openvino_graph(deep, image)
    for precision in precisions:
        run = openvino_runner(graph, {"float32": "f32", "bf16": "bf16"}[precision])
        yield f"8 of them, {what}", precision, "OpenVINO", 8 * products, lambda run=run: run(image)
    if int8:
        run = openvino_runner(quantised(deep, image), "f32")
        yield f"8 of them, {what}", "int8", "OpenVINO", 8 * products, lambda: run(image)


def show_network(model: Path, peaks: dict[str, float], int8: bool, clock: Clock) -> None:
    """Seconds and GFLOP/s of a window."""
    precisions = [name for name in DTYPES if name in peaks]
    loaded = load_model(model, choose_device("cpu", "fp32"))
    plan = loaded.record.plan
    window = torch.randn(1, 1, *plan.patch_size)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        loaded.network(window)
    flop = counter.get_total_flops()
    features = "-".join(map(str, plan.architecture.features))
    print(f"\nFeatures {features}, windows of {'×'.join(map(str, plan.patch_size))}: {flop / 1e9:.0f} GFLOP\n")
    print("| by | precision | a window (s) | GFLOP/s | part of the peak |\n| --- | --- | --- | --- | --- |")
    graph = openvino_graph(loaded.network, window)
    runs: dict[tuple[str, str], Run] = {}
    for precision in precisions:
        placed = load_model(model, choose_device("cpu", {"float32": "fp32", "bf16": "bf16"}[precision]))
        runs["PyTorch", precision] = lambda placed=placed: by_torch(placed, window)  # type: ignore[misc]
        run = openvino_runner(graph, {"float32": "f32", "bf16": "bf16"}[precision])
        runs["OpenVINO", precision] = lambda run=run: run(window)  # type: ignore[misc]
    if int8:
        run = openvino_runner(model / FOLDER / GRAPH, "bf16" if "bf16" in precisions else "f32")
        runs["OpenVINO", "int8"] = lambda: run(window)
    for (by, precision), work in runs.items():
        taken = seconds(work, clock)
        rate = flop / taken / 1e9
        print(f"| {by} | {precision} | {taken:.2f} | {rate:.0f} | {rate / peaks[precision]:.2f} |", flush=True)


def by_torch(model: Any, window: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode(), model.device.autocast():
        logits: torch.Tensor = model.network(window)
    return logits


def show_commands(folder: Path, arguments: argparse.Namespace) -> None:
    """Whole commands, and what part of their seconds windows took."""
    if arguments.images is None:
        name, source = f"CT {'×'.join(map(str, arguments.shape))}", folder / "ct"
        make_ct(source / "ct.nii.gz", tuple(arguments.shape))
    else:
        source = folder / "images"
        source.mkdir()
        paths = sorted(arguments.images.glob("*.nii.gz"))[: arguments.cases]
        name = f"{len(paths)} images"
        for path in paths:
            (source / path.name).symlink_to(path.resolve())
    backends = ["torch", "openvino"] + ([] if arguments.without_int8 else ["int8"])
    print("\n| images | back end | overlap | windows | whole command (s) | of the processor (s) | part of windows |")
    print("| --- " * 7 + "|")
    for backend in backends:
        for overlap in arguments.overlap:
            show_command(name, folder / "model", source, backend, overlap)


def show_command(name: str, model: Path, images: Path, backend: str, overlap: float) -> None:
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "medseg", "predict", str(model), str(images), "-o", output]
        how = ["--device", "cpu", "--backend", backend, "--overlap", str(overlap)]
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*command, *how], check=True, capture_output=True)
        whole, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        record = json.loads((Path(output) / "predictions.json").read_text())
    network = sum(case["stages"]["network"] for case in record["cases"])
    windows = sum(case["windows"] - case["skipped_windows"] for case in record["cases"])
    cells = [name, record["backend"], overlap, windows, f"{whole:.1f}", f"{processor:.1f}", f"{network / whole:.2f}"]
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def seconds(work: Run, clock: Clock) -> float:
    """Median of some rounds, after one that warms up."""
    times = []
    with torch.inference_mode():
        for _ in range(ROUNDS + 1):
            start = clock()
            work()
            times.append(clock() - start)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
