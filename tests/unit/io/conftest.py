"""What the writers of masks are given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_kinds import KINDS, balls_in, write_kind

from medseg.io.dicom.series import find_series, read_dicom
from medseg.io.label_map_volume import LabelMapVolume
from medseg.labels import Labels

LABELS = Labels.from_names({"liver": 1, "kidney_left": 2})


DRAWN: dict[str, dict[str, bytes]] = {}  # the files of each series that a test asked for: the next gets copies


def _series(folder: Path, kind: str, **tags: Any) -> Path:
    files = DRAWN.setdefault(repr((kind, tags)), {})
    if files:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    else:
        files |= {file.name: file.read_bytes() for file in write_kind(folder, KINDS[kind], **tags).iterdir()}
    return folder


def _segmented_balls(folder: Path, kind: str = "CT", **tags: Any) -> LabelMapVolume:
    """The balls of a series of this kind, the larger one as the liver."""
    (source,) = find_series(_series(folder, kind, **tags)).sources
    volume = read_dicom(source)
    return LabelMapVolume(balls_in(volume.array[0]), volume.geometry, LABELS, source, "Model 7")


@pytest.fixture
def segmented_balls() -> Callable[..., LabelMapVolume]:
    return _segmented_balls


@pytest.fixture
def balls(tmp_path: Path) -> LabelMapVolume:
    """On a classic CT."""
    return _segmented_balls(tmp_path / "series")


@pytest.fixture
def organs(balls: LabelMapVolume) -> LabelMapVolume:
    """Smooth shapes of chance, with holes and many parts a slice, that fill a third of the CT and reach its border."""
    return LabelMapVolume(chance(balls.geometry.shape), balls.geometry, balls.labels, balls.source)


def chance(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.2)
    return np.digitize(smooth, np.quantile(smooth, (0.67, 0.85))).astype(np.uint8)
