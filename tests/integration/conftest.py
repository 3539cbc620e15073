from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn_study import SERIES, SHAPE, SPACING


@pytest.fixture
def ct(tmp_path: Path, write_slices: Callable[..., list[Path]]) -> Path:
    """A study with one series in CT/."""
    stored = np.random.default_rng(0).integers(0, 900, SHAPE[::-1], dtype=np.int16)
    write_slices(
        tmp_path / "study" / "CT", stored, orientation=(1, 0, 0, 0, 1, 0), spacing=SPACING, uids=("P1", "1.2", SERIES),
        FrameOfReferenceUID="1.2.3.4",
    )  # fmt: skip
    return tmp_path / "study"
