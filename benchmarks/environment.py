"""What a measurement was taken on: printed above every table."""

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe(*packages: str) -> str:
    """Date, processor and versions in one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("medseg", "torch", "monai", *packages))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    today = datetime.date.today().isoformat()
    return f"{today}; {processor()} ({instructions()}), {cores} cores; Python {platform.python_version()}, {versions}"


def instructions() -> str:
    """The vector instructions that PyTorch uses, and the precision that medseg takes with them."""
    import torch

    from medseg.device import choose_device

    most = os.environ.get("ONEDNN_MAX_CPU_ISA")  # how another processor is emulated
    tiles = most is None and torch.cpu._is_amx_tile_supported()
    named = [torch.backends.cpu.get_cpu_capability(), *["AMX"] * tiles, *[f"oneDNN as on {most}"] * (most is not None)]
    return ", ".join([*named, str(choose_device("cpu").dtype).removeprefix("torch.")])


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
