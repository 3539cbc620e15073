"""What a check of a GPU is: a function with a name, a limit and a time budget."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import nibabel
import numpy as np
import torch

import medseg
from medseg.config import Config, load
from medseg.dataset.store import PreparedDataset
from medseg.device import Device, choose_device
from medseg.fingerprint import Fingerprint, Intensities
from medseg.networks.registry import build_network
from medseg.plan import Plan
from medseg.planning.derive import derive_plans

Numbers = dict[str, float]

SCAN, SCAN_SPACING = (512, 512, 300), (0.8, 0.8, 1.25)
SMALL_SCAN = (40, 36, 32)
CASES = 4
LABELS = 3


@dataclass(frozen=True)
class Setup:
    """Where checks run, and how large they are.

    Attributes:
        name: Of the device, such as "cuda" or "cuda:1"; "cpu" in tests.
        folder: For what they write.
        is_large: Sizes for a GPU: networks, patches and batches of nnU-Net's default plan. Else those of tests.
    """

    name: str
    folder: Path
    is_large: bool = True

    @cached_property
    def device(self) -> Device:
        """The device, in the precision that ``auto`` takes."""
        return choose_device(self.name)

    def in_precision(self, precision: str) -> Device:
        """The device in "fp32", "bf16" or "fp16". A processor is allowed fp16, which medseg itself refuses there."""
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        return Device(self.device.torch_device, dtype)

    @property
    def is_cuda(self) -> bool:
        return self.device.is_cuda

    def sized(self, large: int, small: int) -> int:
        return large if self.is_large else small

    def synchronize(self) -> None:
        """Waits until the device has done all that it was asked for."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device.torch_device)

    @property
    def config(self) -> Config:
        if self.is_large:
            return load()
        return load(overrides=["planning.max_patch_voxels=4096", "planning.base_features=4"])

    @cached_property
    def plan(self) -> Plan:
        """nnU-Net's default 3D plan of CTs of 512×512×300 voxels: as ``medseg preprocess`` derives it for a GPU."""
        shape = SCAN if self.is_large else SMALL_SCAN
        values = Intensities(mean=60.0, std=80.0, percentile_00_5=-160.0, percentile_99_5=240.0)
        fingerprint = Fingerprint(
            n_cases=100, shapes=(shape,) * 100, spacings=(SCAN_SPACING,) * 100, cropped_part=1.0, intensities=(values,)
        )
        plan = derive_plans(fingerprint, ["CT"], self.config).plan_3d
        assert plan is not None
        return plan

    def network(self, seed: int = 0) -> torch.nn.Module:
        """The plan's network with random weights, the same at each call."""
        torch.manual_seed(seed)
        return build_network(1, LABELS + 1, self.plan.architecture)

    def image(self, seed: int = 0) -> torch.Tensor:
        """Noise (channel, x, y, z) of one and a half patches along each axis."""
        shape = [n + n // 2 for n in self.plan.patch_size]
        return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))

    @cached_property
    def dataset(self) -> PreparedDataset:
        """Drawn cases, prepared by ``medseg.preprocess`` where that was not done before."""
        prepared = self.folder / "prepared"
        if not prepared.is_dir():
            edges = tuple(n + n // 2 for n in self.plan.patch_size)
            for i in range(CASES):
                draw_case(self.folder / "drawn", f"case_{i}", edges, i)
            part = self.folder / "being_prepared"  # a check may be ended at any moment
            shutil.rmtree(part, ignore_errors=True)
            medseg.preprocess(self.folder / "drawn", part, config=self.config)
            part.rename(prepared)
        return PreparedDataset(prepared)


def draw_case(folder: Path, name: str, shape: tuple[int, ...], seed: int) -> None:
    """A CT of noise in which each label is a box of its own value, and its label map."""
    random = np.random.default_rng(seed)
    label_map = np.zeros(shape, np.uint8)
    for label in range(1, LABELS + 1):
        first = [int(random.integers(n // 6, n // 2)) for n in shape]
        label_map[tuple(slice(start, start + n // 3) for start, n in zip(first, shape, strict=True))] = label
    image = (random.normal(0, 30, shape) + 50 * label_map).astype(np.int16)
    affine = np.diag([*SCAN_SPACING, 1])
    for part, array in (("imagesTr", image), ("labelsTr", label_map)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array, affine), folder / part / f"{name}{'_0000' * (part[0] == 'i')}.nii.gz")


class NotHere(Exception):
    """What a check is about is not there on this machine; it says why."""


@dataclass(frozen=True)
class Check:
    """A function of a ``Setup`` that measures.

    Attributes:
        name: Short.
        run: Returns numbers by name.
        seconds: After which it is ended.
        measure: The number that has a limit; "" where all are for information.
        at_most: The limit, or None.
        at_least: The limit, or None.
    """

    name: str
    run: Callable[[Setup], Numbers]
    seconds: float
    measure: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def title(self) -> str:
        """The first line of the function's docstring."""
        return (self.run.__doc__ or "").splitlines()[0]

    @property
    def limit(self) -> str:
        """In words."""
        bounds = []
        if self.at_least is not None:
            bounds.append(f"≥ {self.at_least:g}")
        if self.at_most is not None:
            bounds.append(f"≤ {self.at_most:g}")
        return f"{self.measure} {' and '.join(bounds)}" if bounds else ""

    def is_kept(self, numbers: Numbers) -> bool:
        """Whether the limit is kept. What is no number keeps none."""
        value = numbers.get(self.measure, 0.0)
        low, high = self.at_least is None or value >= self.at_least, self.at_most is None or value <= self.at_most
        return value == value and low and high


@dataclass(frozen=True)
class CheckResult:
    """What became of a check.

    Attributes:
        name: Of the check.
        state: "passed", "failed" (its limit), "error", "out of time", "died" (its process), "not here", "left out".
        seconds: That it took.
        limit: In words.
        numbers: What it measured.
        message: Why, of other states than passed.
    """

    name: str
    state: str
    seconds: float = 0.0
    limit: str = ""
    numbers: Numbers = field(default_factory=dict)
    message: str = ""


CHECKS: dict[str, Check] = {}  # of the modules that were imported, in this order


def check(
    seconds: float, measure: str = "", *, at_most: float | None = None, at_least: float | None = None
) -> Callable[[Callable[[Setup], Numbers]], Callable[[Setup], Numbers]]:
    """Makes a check of a function, by its name; in the order of definition."""

    def add(function: Callable[[Setup], Numbers]) -> Callable[[Setup], Numbers]:
        name = function.__name__
        CHECKS[name] = Check(name, function, seconds, measure, at_most, at_least)
        return function

    return add
