import base64
import io
import re

import numpy as np
from PIL import Image

from medseg.labels import Labels
from medseg.report.slices import MISSED, WRONG, error_slices
from medseg.volume import Geometry, Volume

LABELS = Labels.from_names({"liver": 1, "tumour": 2})
GRID = Geometry((20, 30, 10), np.diag([-1.0, -1.0, 3.0, 1.0]))  # LPS: as it is shown


def pair() -> tuple[np.ndarray, np.ndarray]:
    """One voxel layer of the prediction is missing in slice 6, and a voxel too many is at (3, 4, 2)."""
    reference = np.zeros(GRID.shape, np.uint8)
    reference[8:14, 10:20, 3:8] = 1
    prediction = reference.copy()
    prediction[8:14, 10:16, 6] = 0
    prediction[3, 4, 2] = 2
    return prediction, reference


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_each_plane_shows_its_slice_with_most_errors() -> None:
    axial, coronal, sagittal = error_slices(None, *pair(), GRID, LABELS)
    # Slices count from the front of an LPI picture: z is turned around.
    assert (axial.plane, axial.number, axial.n_wrong) == ("axial", 10 - 6, 36)
    assert (coronal.plane, coronal.n_wrong) == ("coronal", 6)
    assert (sagittal.plane, sagittal.n_wrong) == ("sagittal", 6)


def test_missed_and_wrong_voxels_have_their_colours() -> None:
    prediction, reference = pair()
    axial = error_slices(None, prediction, reference, GRID, LABELS)[0]
    colours, counts = np.unique(pixels(axial.errors).reshape(-1, 4), axis=0, return_counts=True)
    assert dict(zip(map(tuple, colours.tolist()), counts.tolist(), strict=True))[MISSED] == 36
    prediction[...] = 0
    prediction[3, 4, 2] = 2
    only_wrong = error_slices(None, prediction, np.zeros_like(reference), GRID, LABELS)[0]
    assert (pixels(only_wrong.errors) == WRONG).all(axis=-1).sum() == 1


def test_outlines_lie_around_their_masks_in_mm() -> None:
    axial = error_slices(None, *pair(), GRID, LABELS)[0]
    by_kind = {(outline.of, outline.label): outline.path for outline in axial.outlines}
    assert set(by_kind) == {("reference", "liver"), ("prediction", "liver")}
    numbers = np.array(re.findall(r"[\d.]+", by_kind["reference", "liver"]), float).reshape(-1, 2)
    assert numbers.max(axis=0).tolist() == [14, 20]  # the box is the whole slice here
    assert numbers.min(axis=0).tolist() == [8, 10]


def test_pictures_are_those_of_the_image() -> None:
    image = Volume(np.arange(6000, dtype=np.float32).reshape(1, *GRID.shape), GRID)
    axial = error_slices(image, *pair(), GRID, LABELS)[0]
    assert axial.picture is not None
    assert pixels(axial.picture).shape == (30, 20)
    assert (axial.width_mm, axial.height_mm) == (20, 30)


def test_an_image_of_one_slice_has_one_picture_without_sides() -> None:
    flat = Geometry((20, 30, 1), np.eye(4))
    mask = np.zeros(flat.shape, np.uint8)
    mask[5:9, 5:9] = 1
    (only,) = error_slices(None, mask, np.roll(mask, 2, 0), flat, LABELS)
    assert only.edges == ("", "", "", "")
    assert only.n_wrong == 16
