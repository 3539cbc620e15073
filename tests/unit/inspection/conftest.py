"""Small datasets, and what inspect finds in them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from medseg.inspection.finding import Finding
from medseg.inspection.inspection import Inspection
from medseg.workflows.inspect import inspect

WriteImage = Callable[..., Path]

# Slices of 3 mm, turned about the x axis and far from the origin, as in a scanner.
AFFINE = np.array([[-0.9766, 0, 0, 110.3], [0, -0.78128, -1.8, 95.7], [0, -0.58596, 2.4, -310.2], [0, 0, 0, 1]])
SHAPE = (24, 20, 12)


class Study:
    """``images/`` and ``labels/``, to which cases are added; what is drawn is 1, and 2 in its middle."""

    def __init__(self, folder: Path, write_image: WriteImage) -> None:
        self.folder, self.write_image = folder, write_image
        self.random = np.random.default_rng(0)

    def image(self, name: str) -> Path:
        return self.folder / "images" / f"{name}.nii.gz"

    def label(self, name: str) -> Path:
        return self.folder / "labels" / f"{name}.nii.gz"

    def add(
        self,
        name: str,
        *,
        label_map: np.ndarray | None = None,
        affine: np.ndarray = AFFINE,
        label_affine: np.ndarray | None = None,
    ) -> None:
        drawn = np.zeros(SHAPE, np.uint8)
        drawn[4:20, 4:16, 3:10] = 1
        drawn[8:14, 8:12, 5:8] = 2
        values = (100 + 50 * drawn + self.random.normal(0, 8, SHAPE)).astype(np.int16)
        self.write_image(self.image(name), values, affine)
        label_map = drawn if label_map is None else label_map
        self.write_image(self.label(name), label_map, affine if label_affine is None else label_affine)


@pytest.fixture
def study(tmp_path: Path, write_image: WriteImage) -> Study:
    return Study(tmp_path / "study", write_image)


@pytest.fixture
def affine() -> np.ndarray:
    return AFFINE.copy()


@pytest.fixture
def shape() -> tuple[int, int, int]:
    return SHAPE


@pytest.fixture
def look() -> Callable[..., Inspection]:
    """``inspect`` in this process, so that nothing waits for workers."""
    return partial(inspect, workers=1)


@pytest.fixture
def findings() -> Callable[[Inspection, str], list[Finding]]:
    """Those of one rule."""
    return lambda found, rule: [finding for finding in found.findings if finding.rule == rule]
