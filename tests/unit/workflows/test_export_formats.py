"""export: from every kind of mask into every format, and back."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_kinds import KINDS, balls_in, write_kind
from pydicom import dcmread
from typer.testing import CliRunner

from medseg.cli.main import app
from medseg.errors import ConfigError, GeometryError, LabelError, MedsegError, OutputError
from medseg.io.dicom_seg.writer import LABEL_MAP
from medseg.io.discover import source_of
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import FORMATS, write_mask
from medseg.io.nifti.writer import write_nifti
from medseg.io.read import read_segmentation, read_volume, segments_of
from medseg.labels import Labels
from medseg.workflows.export import export

LABELS = Labels.from_names({"liver": 1, "kidney_left": 2}).described({"liver": {"colour": (10, 20, 30)}})
INPUTS = ("nifti", "nrrd", "seg-nrrd", "dicom-seg", "rtstruct")


@pytest.fixture
def balls(tmp_path: Path) -> LabelMapVolume:
    source = source_of(write_kind(tmp_path / "series", KINDS["oblique"]))
    volume = read_volume(source)
    return LabelMapVolume(balls_in(volume.array[0]), volume.geometry, LABELS, source, "Model 7")


@pytest.fixture
def overlapping(balls: LabelMapVolume) -> LabelMapVolume:
    """A tumour within the liver, and a whole of all."""
    labels = Labels.from_names({"tumour": 2}, {"liver": (1, 2), "all": (1, 2, 3)})
    label_map = balls.label_map.copy()
    label_map[12:15, 12:15, 2:5] = 3
    return replace(balls, label_map=label_map, labels=labels)


def stored(name: str, balls: LabelMapVolume, folder: Path) -> Path:
    """The balls as an input of this kind, written without export."""
    if name == "nrrd":
        image = sitk.ReadImage(str(stored("nifti", balls, folder)))
        sitk.WriteImage(image, str(folder / "balls.nrrd"))
        return folder / "balls.nrrd"
    return write_mask(FORMATS[name], FORMATS[name].path(folder, "balls"), balls).path


@pytest.mark.parametrize("name", INPUTS)
def test_every_input_goes_into_every_format_and_comes_back(name: str, balls: LabelMapVolume, tmp_path: Path) -> None:
    path = stored(name, balls, tmp_path)
    assert balls.source is not None
    series = balls.source.path
    names = {1: "liver", 2: "kidney_left"} if name in ("nifti", "nrrd") else None
    for format_ in FORMATS.values():
        named = None if format_.is_label_map else names
        written = export(path, format_.path(tmp_path, "out"), like=series, format=format_.name, names=named)
        assert written.certificate.passed
        assert written.certificate.n_different == 0
        if not format_.is_folder:
            back = export(written.path, tmp_path / "back.nii.gz", like=series).path
            np.testing.assert_array_equal(read_volume(back).label_map, balls.label_map)
        if format_.name in ("seg-nrrd", "dicom-seg", "rtstruct"):
            found = segments_of(written.path)
            assert [segment.name for segment in found] == ["liver", "kidney_left"]
            assert [segment.type.meaning for segment in found if segment.type] == ["Liver", "Kidney"]
            if names is None:  # segments have colours, a label map has none
                np.testing.assert_allclose(found[0].colour or (), (10, 20, 30), atol=1)


@pytest.mark.parametrize("kind", ["tilted by 20°", "uneven", "missing slice", "enhanced tilted"])
def test_a_label_map_goes_to_the_slices_as_they_are(kind: str, tmp_path: Path) -> None:
    source = source_of(write_kind(tmp_path / "series", KINDS[kind]))
    volume = read_volume(source)
    write_nifti(tmp_path / "mask.nii.gz", balls_in(volume.array[0]), volume.geometry)
    seg = export(tmp_path / "mask.nii.gz", tmp_path / "mask.dcm", like=source.path)
    contours = export(seg.path, tmp_path / "contours.dcm", like=source.path, format="rtstruct")
    assert seg.certificate.passed
    assert contours.certificate.dice == 1.0
    masks = [read_segmentation(path, volume.geometry, source) for path in (seg.path, contours.path)]
    for one, other in zip(masks[0].segments, masks[1].segments, strict=True):
        assert np.array_equal(masks[0].mask(one), masks[1].mask(other))


@pytest.mark.parametrize("name", ["seg-nrrd", "dicom-seg", "rtstruct"])
def test_segments_that_overlap_stay_whole(name: str, overlapping: LabelMapVolume, tmp_path: Path) -> None:
    path = stored(name, overlapping, tmp_path)
    source = overlapping.source
    assert source is not None
    for format_ in (each for each in FORMATS.values() if not each.is_label_map and each.name != LABEL_MAP):
        written = export(path, format_.path(tmp_path, "out"), like=source.path, format=format_.name)
        assert written.certificate.n_different == 0
        if not format_.is_folder:
            found = read_segmentation(written.path, overlapping.geometry, source)
            masks = {segment.name: found.mask(segment) for segment in found.segments}
            assert masks.keys() == {"tumour", "liver", "all"}
            for structure in overlapping.labels.structures:
                assert np.array_equal(masks[structure.name], overlapping.mask(structure)), structure.name
    parts = [sitk.GetArrayFromImage(sitk.ReadImage(str(p))).T for p in sorted((tmp_path / "out").iterdir())]
    sizes = np.bincount(overlapping.label_map.ravel())
    assert [part.sum() for part in parts] == [sizes[1:].sum(), sizes[1:3].sum(), sizes[2]]  # all, liver, tumour


def test_in_a_label_map_the_smaller_segment_is_on_top(
    overlapping: LabelMapVolume, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = stored("seg-nrrd", overlapping, tmp_path)
    numbers = {segment.name: segment.number for segment in segments_of(path)}
    found = read_volume(export(path, tmp_path / "out.nii.gz").path).label_map
    assert "liver, all overlap" in " ".join(capsys.readouterr().err.split()).replace("tumour, ", "")
    for value, name in ((1, "liver"), (2, "tumour"), (3, "all")):
        assert np.array_equal(found == numbers[name], overlapping.label_map == value)


def test_names_colours_and_regions_come_from_predictions(balls: LabelMapVolume, tmp_path: Path) -> None:
    labels = Labels.from_names({"tumour": 2}, {"liver": (1, 2)}).described({"liver": {"colour": (9, 8, 7)}})
    (tmp_path / "predictions.json").write_text(json.dumps({"cases": [], "labels": labels.model_dump(mode="json")}))
    path = stored("nifti", balls, tmp_path)
    segments = segments_of(export(path, tmp_path / "out.seg.nrrd").path)
    assert [(segment.name, segment.colour) for segment in segments] == [
        ("tumour", labels.items[1].colour), ("liver", (9, 8, 7))
    ]  # fmt: skip
    found = read_segmentation(tmp_path / "out.seg.nrrd")
    assert np.array_equal(found.mask(found.segments[1]), balls.label_map > 0)


def test_names_are_given_by_value(balls: LabelMapVolume, tmp_path: Path) -> None:
    path = stored("nifti", balls, tmp_path)
    segments = segments_of(export(path, tmp_path / "a.seg.nrrd", names={2: "spleen", 7: "cyst"}).path)
    assert [(s.name, s.number) for s in segments] == [("label_1", 1), ("spleen", 2), ("cyst", 7)]
    segments = segments_of(export(tmp_path / "a.seg.nrrd", tmp_path / "b.seg.nrrd", names={1: "liver"}).path)
    assert [segment.name for segment in segments] == ["liver", "spleen", "cyst"]
    assert segments[0].type and segments[0].type.meaning == "Liver"
    with pytest.raises(LabelError, match=r"a\.seg\.nrrd: 'x' cannot be the name of 5"):
        export(tmp_path / "a.seg.nrrd", tmp_path / "c.seg.nrrd", names={5: "x"})
    with pytest.raises(LabelError, match="have to differ"):
        export(tmp_path / "a.seg.nrrd", tmp_path / "c.seg.nrrd", names={1: "spleen"})
    with pytest.raises(ConfigError, match="holds values and no names"):
        export(path, tmp_path / "c.nii.gz", names={1: "liver"})


def test_what_cannot_be_is_refused_with_what_to_do(balls: LabelMapVolume, tmp_path: Path) -> None:
    assert balls.source is not None
    path, contours = stored("nifti", balls, tmp_path), stored("rtstruct", balls, tmp_path)
    wrong: list[tuple[type[MedsegError], str, dict[str, object]]] = [
        (OutputError, "no image is given; .* --like SERIES", {"output": "out.dcm"}),
        (OutputError, r"balls\.nii\.gz is none; .* --like SERIES", {"output": "out.dcm", "like": path}),
        (OutputError, "give --format", {"output": "out"}),
        (OutputError, "give --format", {"output": "out.stl"}),
        (OutputError, "would be overwritten", {"output": path.name}),
        (OutputError, "would be overwritten", {"output": ".", "format": "nifti-per-label"}),
        (OutputError, "give a folder", {"output": "out.stl", "format": "stl"}),
        (OutputError, r"is named \.dcm", {"output": "out.nii.gz", "format": "dicom-seg", "like": balls.source.path}),
        (OutputError, r"is named \.seg\.nrrd", {"output": "out.nrrd", "format": "seg-nrrd"}),
        (ConfigError, "did you mean 'rtstruct'", {"output": "out.dcm", "format": "rtstuct"}),
        (MedsegError, "--like IMAGE", {"mask": contours, "output": "out.nii.gz"}),
    ]
    for error, message, arguments in wrong:
        output = tmp_path / str(arguments.pop("output"))
        mask = arguments.pop("mask", path)
        with pytest.raises(error, match=message):
            export(mask, output, **arguments)  # type: ignore[arg-type]
        assert output in (path, tmp_path) or not output.exists()


def test_segments_of_another_patient_are_refused(balls: LabelMapVolume, tmp_path: Path) -> None:
    path = stored("dicom-seg", balls, tmp_path)
    affine = balls.geometry.affine.copy()
    affine[:3, 3] += 500
    write_nifti(tmp_path / "other.nii.gz", balls.label_map, type(balls.geometry)(balls.geometry.shape, affine))
    with pytest.raises(GeometryError, match="outside of the image"):
        export(path, tmp_path / "out.nii.gz", like=tmp_path / "other.nii.gz")


def test_the_command_names_structures_and_tells_the_verdict(balls: LabelMapVolume, tmp_path: Path) -> None:
    assert balls.source is not None
    path, output = stored("nifti", balls, tmp_path), tmp_path / "out.dcm"
    arguments = ["export", str(path), "-o", str(output), "--like", str(balls.source.path), "--format", "rtstruct"]
    result = CliRunner().invoke(app, [*arguments, "--name", "1=liver", "--name", "2 = left kidney"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [str(output)]
    assert "Read back by pydicom" in result.stderr
    assert "right, Dice 1.0000" in result.stderr
    assert [item.ROIName for item in dcmread(output).StructureSetROISequence] == ["liver", "left kidney"]
    wrong = CliRunner().invoke(app, [*arguments, "--name", "liver=1"])
    assert isinstance(wrong.exception, ConfigError)
    assert "write it as VALUE=NAME" in str(wrong.exception)
