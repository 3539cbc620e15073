"""The golden case of a model: an image of noise and its label map, by which the model can be checked elsewhere."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from medseg.dataset.cases import Case
from medseg.device import choose_device
from medseg.errors import ModelError
from medseg.inferers.backends import with_backend
from medseg.inferers.model import Model, load_model, without_rules
from medseg.io.discover import source_of
from medseg.io.nifti.writer import write_nifti
from medseg.io.read import read_volume
from medseg.plan import STORED
from medseg.prediction.case_predictor import CasePredictor
from medseg.progress import say
from medseg.volume import Array, Geometry

GOLDEN = "golden"  # folder in a model
LABEL_MAP = "label_map.nii.gz"
# The edge of the golden image in voxels, at most.
LARGEST_EDGE = 48
# Part of its voxels that have to get the expected label: processors and precisions round differently.
LEAST_AGREEMENT = 0.99


def write_golden(model: Model, folder: Path) -> None:
    """Writes an image of noise and the label map that the model gives for it now, in ``folder``/golden.

    It is noise, as no patient's data travels with a model.
    """
    record, golden = model.record, folder / GOLDEN
    grid = record.plan.grid
    x, y, z = (min(n, LARGEST_EDGE) for n in record.plan.patch_size)
    codes = {"L": (0, -1), "R": (0, 1), "P": (1, -1), "A": (1, 1), "I": (2, -1), "S": (2, 1)}
    affine = np.eye(4)
    affine[:3, :3] = 0
    axes = "RAS" if grid.orientation == STORED else grid.orientation
    for axis, (code, spacing) in enumerate(zip(axes, grid.spacing, strict=True)):
        row, sign = codes[code]
        affine[row, axis] = sign * spacing
    geometry = Geometry((x, y, z), affine)
    for i, rule in enumerate(grid.normalization):
        noise = gaussian_filter(np.random.default_rng(i).standard_normal(geometry.shape), 2.0)
        mean, std = (rule.mean, rule.std) if rule.kind in ("ct", "linear") else (1000.0, 200.0)
        values = np.rint(mean + std * noise / noise.std()).astype(np.int16)
        write_nifti(golden / f"image_{i}.nii.gz", values, geometry)
    write_nifti(golden / LABEL_MAP, _predicted(model, golden), geometry)


def check_golden(model: Model) -> float:
    """Returns the part of the golden case's voxels that get the label that the model gave where it was trained.

    Raises:
        ModelError: The model has no golden case, or too few do.
    """
    golden = model.folder / GOLDEN
    if not (golden / LABEL_MAP).is_file():
        raise ModelError(f"{model.folder} has no golden case to check it by; 'medseg train' and 'package' write one")
    expected = read_volume(golden / LABEL_MAP).label_map
    agreement = float((_predicted(model, golden) == expected).mean())
    if agreement < LEAST_AGREEMENT:
        raise ModelError(
            f"{model.folder}: gives other labels than where it was trained: {1 - agreement:.1%} of the golden case's "
            "voxels; copy the model again, or try --backend torch and another version of torch"
        )
    return agreement


def check_models(paths: Sequence[Path], device: str = "auto", backend: str = "auto") -> None:
    """Checks the golden case of each model. Raises what ``check_golden`` does."""
    for path in paths:
        agreement = check_golden(with_backend(load_model(path, choose_device(device)), backend))
        say(f"{path}: {agreement:.2%} of the golden case's voxels have the label that they had where it was trained")


def _predicted(model: Model, golden: Path) -> Array:
    """Returns the label map in network values, without postprocessing."""
    record = model.record
    images = tuple(source_of(golden / f"image_{i}.nii.gz") for i in range(len(record.channels)))
    prediction = CasePredictor(without_rules(model), None, record.inference).predict(Case(GOLDEN, images))
    encoded: Array = record.labels.encode(prediction.label_map.label_map)
    return encoded
