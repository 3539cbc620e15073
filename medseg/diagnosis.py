"""What medseg runs on: versions, processor, memory, devices."""

import os
import platform
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

from medseg.device import choose_device
from medseg.records import Record
from medseg.version import VERSION

PACKAGES = (
    "torch", "monai", "numpy", "scipy", "nibabel", "SimpleITK", "pydicom", "highdicom", "scikit-image", "pydantic",
)  # fmt: skip

# By the extra that installs it, a package that no other extra brings: 'pip install medseg[openvino]'.
EXTRAS = {
    "serve": "starlette",
    "dicom-network": "pynetdicom",
    "cluster": "dask-jobqueue",
    "zarr": "zarr",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "int8": "nncf",
    "deidentify": "dicom-anonymizer",
    "radiomics": "mirp",
    "mlflow": "mlflow-skinny",
    "test": "pytest",
    "docs": "mkdocs-material",
}

INSTRUCTIONS = {
    "AVX2": "_is_avx2_supported",
    "AVX-512": "_is_avx512_supported",
    "AVX-512 bf16": "_is_avx512_bf16_supported",
    "VNNI": "_is_vnni_supported",
    "AMX": "_is_amx_tile_supported",
}


class Step(Record):
    """One step of the self-test. ``problem`` is empty where it passed."""

    name: str
    seconds: float
    problem: str = ""


class Diagnosis(Record):
    """What medseg runs on. Memory and disk are in MB (2**20 bytes).

    Attributes:
        medseg: Version of medseg.
        python: Version of Python.
        system: Operating system and its release.
        processor: Its name.
        instructions: Sets of vector instructions that the processor has.
        vectors: The one that PyTorch uses.
        cores: Cores that this process may use.
        precision: The number format in which networks run where none is asked for.
        memory_mb: Main memory of the machine.
        free_memory_mb: What may still be taken, of the machine or of its container.
        disk_free_mb: Free space for temporary files.
        devices: CUDA and MPS devices; empty where there is none.
        packages: Versions of the packages that medseg is built on.
        extras: Versions of the optional ones that are installed, by the name of the extra.
        self_test: Its steps, in order; empty where it was left out.
    """

    medseg: str
    python: str
    system: str
    processor: str
    instructions: tuple[str, ...]
    vectors: str
    cores: int
    precision: str
    memory_mb: float
    free_memory_mb: float
    disk_free_mb: float
    devices: tuple[str, ...]
    packages: dict[str, str]
    extras: dict[str, str]
    self_test: tuple[Step, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no step of the self-test failed."""
        return not any(step.problem for step in self.self_test)


def diagnose(self_test: tuple[Step, ...] = ()) -> Diagnosis:
    """Returns what medseg runs on here.

    Args:
        self_test: The steps of a self-test that was done.
    """
    device = choose_device()
    return Diagnosis(
        medseg=VERSION,
        python=platform.python_version(),
        system=platform.platform(),
        processor=_processor(),
        instructions=tuple(name for name, asked in INSTRUCTIONS.items() if getattr(torch.cpu, asked, bool)()),
        vectors=torch.backends.cpu.get_cpu_capability(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        precision=str(device.dtype).removeprefix("torch."),
        memory_mb=psutil.virtual_memory().total / 2**20,
        free_memory_mb=choose_device("cpu").free_memory_mb(),
        disk_free_mb=psutil.disk_usage(tempfile.gettempdir()).free / 2**20,
        devices=tuple(_devices()),
        packages=_versions({name: name for name in PACKAGES}),
        extras=_versions(EXTRAS),
        self_test=self_test,
    )


def _versions(packages: dict[str, str]) -> dict[str, str]:
    found = {}
    for name, package in packages.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _devices() -> list[str]:
    found = []
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(i)
            found.append(f"cuda:{i} {properties.name}, {properties.total_memory / 2**30:.1f} GB")
    if torch.backends.mps.is_available():
        found.append("mps (taken by --device mps only; medseg was never tried on one)")
    return found


def _processor() -> str:
    """Returns the name of the processor, as Linux tells it; elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
