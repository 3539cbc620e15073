"""X-ray projections: 2D images whose millimetres and brightness are said in several ways."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    XRayAngiographicImageStorage,
)

from medseg.io.dicom.series import dicom_geometry, find_series, read_dicom
from medseg.io.source import ImageSource

WriteSlices = Callable[..., list[Path]]

PLACELESS: dict[str, Any] = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None}


def write_xray(folder: Path, write_slices: WriteSlices, stored: np.ndarray, **tags: Any) -> ImageSource:
    tags = {"SOPClassUID": DigitalXRayImageStorageForPresentation, "Modality": "DX"} | PLACELESS | tags
    write_slices(folder, stored[None], **tags)
    found = find_series(folder)
    assert found.problems == ()
    (source,) = found.sources
    return source


def noise(dtype: type = np.uint16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, (7, 9)).astype(dtype)


@pytest.mark.parametrize(
    ("sop_class", "modality"),
    [
        (DigitalXRayImageStorageForPresentation, "DX"),
        (ComputedRadiographyImageStorage, "CR"),
        (DigitalMammographyXRayImageStorageForPresentation, "MG"),
        (XRayAngiographicImageStorage, "XA"),
    ],
)
@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize(("dtype", "bits"), [(np.uint16, 12), (np.uint16, 16), (np.int16, 16)])
def test_equal_to_simpleitk(
    tmp_path: Path, write_slices: WriteSlices, sop_class: str, modality: str, negative: bool, dtype: type, bits: int
) -> None:
    tags = {"PhotometricInterpretation": f"MONOCHROME{1 if negative else 2}", "BitsStored": bits, "HighBit": bits - 1}
    source = write_xray(
        tmp_path, write_slices, noise(dtype), SOPClassUID=sop_class, Modality=modality,
        ImagerPixelSpacing=[0.3, 0.2], **tags,
    )  # fmt: skip
    image = sitk.ReadImage(source.files[0])
    volume = read_dicom(source)
    np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(image).T)
    np.testing.assert_allclose(volume.geometry.spacing, (0.2, 0.3, 1))
    if modality != "XA":  # of which GDCM reads no spacing
        np.testing.assert_allclose(volume.geometry.spacing[:2], image.GetSpacing()[:2])
    assert any("negative" in note for note in source.notes) == negative


def test_calibrated_millimetres_go_before_those_of_the_detector(tmp_path: Path, write_slices: WriteSlices) -> None:
    spacings = {"PixelSpacing": [0.25, 0.16], "ImagerPixelSpacing": [0.3, 0.2]}
    source = write_xray(tmp_path, write_slices, noise(), **spacings, PixelSpacingCalibrationType="FIDUCIAL")
    assert dicom_geometry(source).spacing == pytest.approx((0.16, 0.25, 1))
    assert "0.25×0.16 mm, calibration: FIDUCIAL" in source.notes[0] and "0.3×0.2 mm" in source.notes[0]


def test_without_millimetres(tmp_path: Path, write_slices: WriteSlices) -> None:
    source = write_xray(tmp_path, write_slices, noise())
    assert dicom_geometry(source).spacing == (1, 1, 1)
    assert "without PixelSpacing or ImagerPixelSpacing" in source.notes[0]


def test_each_projection_of_a_series_is_an_image(tmp_path: Path, write_slices: WriteSlices) -> None:
    stored = np.stack([noise(), noise()[::-1]])
    tags = {"SOPClassUID": DigitalXRayImageStorageForPresentation, "Modality": "DX"} | PLACELESS
    write_slices(tmp_path, stored, **tags, ImagerPixelSpacing=[[0.3, 0.2], [0.3, 0.2]])
    sources = find_series(tmp_path).sources
    assert [source.part for source in sources] == ["image-1", "image-2"]
    for source, expected in zip(sources, stored, strict=True):
        np.testing.assert_array_equal(read_dicom(source).array[0, ..., 0].T, expected)


def test_a_film_is_no_volume(tmp_path: Path, write_slices: WriteSlices) -> None:
    stored = np.zeros((1, 6, 5), dtype=np.uint16)
    tags = {"SOPClassUID": XRayAngiographicImageStorage, "Modality": "XA", "NumberOfFrames": 2, "Rows": 3} | PLACELESS
    write_slices(tmp_path, stored, **tags)
    found = find_series(tmp_path)
    assert (found.sources, found.problems) == ((), ())
    assert "X-Ray Angiographic Image of 2 frames (a film, no volume)" in found.notes[0]
