"""Label values need not be consecutive: masks hold those of the label maps, each where its structure lies."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

import medseg
from medseg.config import load

SETTINGS = [
    "preprocessing.workers=1", "planning.cpu_base_features=8", "training.batch_size=2", "training.epochs=3",
    "training.steps_per_epoch=25", "training.learning_rate=1e-2",
]  # fmt: skip


def write_shells(folder: Path, values: tuple[int, ...], dtype: type, write_image: Callable[..., Path]) -> None:
    """Shells around a centre, from the outermost in: one for each value, each brighter than the one around it."""
    random = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (24, 22, 20)), indexing="ij"))
    for case in range(4):
        centre = np.array((12, 11, 10)) + random.uniform(-1.5, 1.5, 3)
        distance = np.linalg.norm(grid - centre[:, None, None, None], axis=0)
        depth = np.sum([distance < 9 - 2 * i for i in range(len(values))], axis=0)
        image = 100 + 80 * depth + random.normal(0, 8, depth.shape)
        write_image(folder / "images" / f"{case}.nii.gz", image.astype(np.float32))
        write_image(folder / "labels" / f"{case}.nii.gz", np.array([0, *values], dtype)[depth])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        pytest.param((1, 2, 4), np.uint8, id="BraTS"),
        pytest.param((5, 2), np.int16, id="0 2 5"),
        pytest.param((255,), np.uint8, id="0 255"),
        pytest.param((1000, -1), np.int16, id="negative and large"),
    ],
)
def test_masks_hold_the_values_of_the_label_maps(
    values: tuple[int, ...], dtype: type, tmp_path: Path, write_image: Callable[..., Path]
) -> None:
    write_shells(tmp_path / "data", values, dtype, write_image)
    config = load(overrides=SETTINGS)
    medseg.preprocess(tmp_path / "data", tmp_path / "prepared", config=config)
    medseg.train(tmp_path / "prepared", tmp_path / "run", config=config, device="cpu")
    medseg.predict(tmp_path / "run", tmp_path / "data", tmp_path / "masks", device="cpu")
    for case in range(4):
        mask = np.asarray(nibabel.load(tmp_path / "masks" / f"{case}.nii.gz").dataobj)
        reference = np.asarray(nibabel.load(tmp_path / "data" / "labels" / f"{case}.nii.gz").dataobj)
        assert set(np.unique(mask)) == {0, *values}
        for value in values:
            overlap = ((mask == value) & (reference == value)).sum()
            assert 2 * overlap / ((mask == value).sum() + (reference == value).sum()) > 0.7, value
