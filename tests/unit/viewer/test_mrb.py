"""Bundles for 3D Slicer, read as a zip, as XML, by SimpleITK and by slicerio: no code is shared with the writer."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import slicerio
from dicom_judges import by_simpleitk
from PIL import Image
from typer.testing import CliRunner

from medseg.cli.main import app
from medseg.dataset.layouts import find_cases
from medseg.errors import ConfigError, OutputError, SourceError
from medseg.io.read import read_volume, segments_of
from medseg.volume import Geometry
from medseg.workflows.evaluate import evaluate
from medseg.workflows.export import export
from medseg.workflows.inspect import inspect
from medseg.workflows.view import to_slicer

OF_SLICER = "vtkMRMLColorTableNode"  # nodes that every scene has
OBLIQUE = np.array([[-0.8, 0.6, 0, 12.5], [0.6, 0.8, 0, -40.25], [0, 0, 2.5, 101.75], [0, 0, 0, 1]])
NAMES = ["shell of <blobs> & more", "core; 2"]
COLOURS = [(9, 8, 7), (255, 0, 128)]


class Bundle:
    """What is in a bundle, unpacked."""

    def __init__(self, path: Path, folder: Path) -> None:
        with zipfile.ZipFile(path) as packed:
            assert packed.testzip() is None
            packed.extractall(folder)
        (self.top,) = folder.iterdir()
        (self.scene,) = self.top.glob("*.mrml")
        self.nodes = list(ElementTree.parse(self.scene).getroot())
        self.by_id = {node.attrib["id"]: node for node in self.nodes}
        assert len(self.by_id) == len(self.nodes)

    def of(self, tag: str) -> list[ElementTree.Element]:
        return [node for node in self.nodes if node.tag == tag]

    def to(self, node: ElementTree.Element, role: str) -> ElementTree.Element:
        return self.by_id[references(node)[role]]

    def file(self, node: ElementTree.Element) -> Path:
        return self.scene.parent / unquote(self.to(node, "storage").attrib["fileName"])


def references(node: ElementTree.Element) -> dict[str, str]:
    pieces = [piece.partition(":") for piece in node.attrib.get("references", "").split(";") if piece]
    return {role: target for role, _, target in pieces}


@pytest.fixture
def oblique(tmp_path: Path) -> tuple[Path, Path]:
    """An image and a mask with names and colours, on a grid that is turned."""
    random = np.random.default_rng(0)
    folder = tmp_path / "given"
    folder.mkdir()
    label_map = np.zeros((14, 12, 9), np.uint8)
    label_map[2:7, 3:9, 1:6], label_map[8:12, 2:5, 4:8] = 2, 5
    image = random.normal(100, 20, label_map.shape).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, OBLIQUE), folder / "image.nii.gz")
    nibabel.save(nibabel.Nifti1Image(label_map, OBLIQUE), folder / "mask.nii.gz")
    items = [{"name": n, "value": v, "colour": c} for n, v, c in zip(NAMES, (2, 5), COLOURS, strict=True)]
    (folder / "predictions.json").write_text(json.dumps({"labels": {"items": items}, "cases": []}))
    return folder / "image.nii.gz", folder / "mask.nii.gz"


@pytest.fixture
def bundle(oblique: tuple[Path, Path], tmp_path: Path) -> Bundle:
    image, mask = oblique
    path = to_slicer(image, tmp_path / "the scene ä.mrb", [mask], reference=mask)
    assert path == tmp_path / "the scene ä.mrb"
    return Bundle(path, tmp_path / "unpacked")


def test_a_bundle_is_one_folder_with_a_scene_and_its_data(bundle: Bundle) -> None:
    assert (bundle.top.name, bundle.scene.name) == ("the scene ä", "the scene ä.mrml")
    found = {file.relative_to(bundle.top).as_posix() for file in bundle.top.rglob("*") if file.is_file()}
    data = {"Data/image.nii.gz", "Data/prediction.seg.nrrd", "Data/reference.seg.nrrd"}
    assert found == {"the scene ä.mrml", *data}


def test_all_references_lead_to_nodes_and_files(bundle: Bundle) -> None:
    for node in bundle.nodes:
        for name, value in node.attrib.items():
            if name.endswith(("NodeID", "VolumeID")):
                assert value in bundle.by_id or value.startswith(OF_SLICER)
        for target in references(node).values():
            assert target in bundle.by_id
        if node.tag in ("Volume", "Segmentation"):
            assert bundle.file(node).is_file()
            assert bundle.to(node, "display").tag == f"{node.tag}Display"
    stored = {bundle.file(node).name for node in (*bundle.of("Volume"), *bundle.of("Segmentation"))}
    assert stored == {file.name for file in (bundle.top / "Data").iterdir()}


def test_image_and_masks_lie_where_they_lay(bundle: Bundle, oblique: tuple[Path, Path]) -> None:
    (volume,) = bundle.of("Volume")
    for node, source in ((volume, oblique[0]), *((each, oblique[1]) for each in bundle.of("Segmentation"))):
        given = nibabel.load(source)
        voxels, place = by_simpleitk(bundle.file(node))
        np.testing.assert_array_equal(voxels, np.asarray(given.dataobj))
        assert Geometry(given.shape, given.affine).difference(place, 1e-5) is None


def test_masks_have_names_and_colours_filled_and_outlined_over_the_image(bundle: Bundle) -> None:
    shown = {}
    for node in bundle.of("Segmentation"):
        segments = slicerio.read_segmentation(str(bundle.file(node)))
        assert [each["name"] for each in segments["segments"]] == NAMES
        found = [np.multiply(each["color"], 255).round().astype(int).tolist() for each in segments["segments"]]
        assert found == [list(colour) for colour in COLOURS]
        assert "Closed surface" in segments["containedRepresentationNames"]  # 3D
        assert references(node)["referenceImageGeometryRef"] == bundle.of("Volume")[0].attrib["id"]
        display = bundle.to(node, "display").attrib
        shown[node.attrib["name"]] = (display["Visibility2DFill"], display["Visibility2DOutline"])
    assert shown == {"prediction": ("true", "false"), "reference": ("false", "true")}


def test_the_scene_opens_three_planes_at_the_mask_with_the_image_in_view(bundle: Bundle) -> None:
    (volume,) = bundle.of("Volume")
    assert [references(each)["backgroundVolume"] for each in bundle.of("SliceComposite")] == [volume.attrib["id"]] * 3
    image = sitk.ReadImage(str(bundle.file(volume)))
    ends = [np.array(at) * image.GetSize() - 0.5 for at in np.ndindex(2, 2, 2)]
    corners = np.array([image.TransformContinuousIndexToPhysicalPoint(end) for end in ends]) * (-1, -1, 1)
    mask, place = by_simpleitk(bundle.file(bundle.of("Segmentation")[0]))
    seen = place.world(np.argwhere(mask))
    for view, across in zip(bundle.of("Slice"), (2, 1, 0), strict=True):
        to_world = np.reshape(np.fromstring(view.attrib["sliceToRAS"], sep=" "), (4, 4))
        handedness = {"Axial": -1, "Coronal": 1, "Sagittal": 1}[view.attrib["orientation"]]
        assert np.linalg.det(to_world[:3, :3]) == pytest.approx(handedness)
        assert abs(to_world[across, 2]) == 1
        assert seen[:, across].min() <= to_world[across, 3] <= seen[:, across].max()
        width, height, _ = np.fromstring(view.attrib["fieldOfView"], sep=" ")
        in_plane = (np.c_[corners, np.ones(8)] @ np.linalg.inv(to_world).T)[:, :2]
        assert (np.abs(in_plane) <= (width / 2, height / 2)).all()


def test_channels_are_volumes_and_a_picture_is_in_colours(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    two = np.stack([np.full((6, 5, 4), 3.0), np.arange(120.0).reshape(6, 5, 4)], axis=-1)
    image = write_image(tmp_path / "two.nii.gz", two)
    opened = Bundle(to_slicer(image, tmp_path / "two.mrb"), tmp_path / "two")
    assert [node.attrib["name"] for node in opened.of("Volume")] == ["two.nii.gz 1", "two.nii.gz 2"]
    for channel, node in enumerate(opened.of("Volume")):
        np.testing.assert_array_equal(by_simpleitk(opened.file(node))[0], two[..., channel])

    pixels = np.random.default_rng(0).integers(0, 255, (8, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    opened = Bundle(to_slicer(tmp_path / "picture.png", tmp_path / "picture.mrb"), tmp_path / "picture")
    (node,) = opened.of("VectorVolume")
    assert opened.to(node, "display").tag == "VectorVolumeDisplay"
    found = sitk.ReadImage(str(opened.file(node)))
    given = sitk.ReadImage(str(tmp_path / "picture.png"))
    for at in ((0, 0), (8, 0), (3, 7)):
        assert found[found.TransformPhysicalPointToIndex((*given.TransformIndexToPhysicalPoint(at), 0.0))] == given[at]


def test_a_dicom_series_and_the_cases_of_an_evaluation(
    blobs: Path, tmp_path: Path, write_slices: Callable[..., list[Path]]
) -> None:
    write_slices(tmp_path / "series", np.arange(120, dtype=np.int16).reshape(4, 5, 6))
    opened = Bundle(to_slicer(tmp_path / "series", tmp_path / "dicom.mrb"), tmp_path / "dicom")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    expected = reader.Execute()
    found = sitk.ReadImage(str(opened.file(opened.of("Volume")[0])))
    points = np.array([(0, 0, 0), (1, 2, 1)])
    for point in points.tolist():
        world = expected.TransformIndexToPhysicalPoint(point)
        assert found[found.TransformPhysicalPointToIndex(world)] == expected[point]

    evaluate(blobs / "labels", blobs, tmp_path / "metrics", metrics=["overlap"], workers=1)
    opened = Bundle(to_slicer(tmp_path / "metrics", tmp_path / "case.MRB", case="blob_02"), tmp_path / "case")
    assert opened.of("Volume")[0].attrib["name"] == "blob_02"
    assert len(opened.of("Segmentation")) == 2


def test_the_command_says_how_to_open_it_and_bad_wishes_fail_in_a_line(
    oblique: tuple[Path, Path], tmp_path: Path
) -> None:
    image, mask = map(str, oblique)
    result = CliRunner().invoke(app, ["view", image, mask, "--slicer", str(tmp_path / "my scene.mrb")])
    assert result.exit_code == 0
    assert f"Slicer '{tmp_path}/my scene.mrb'" in result.stderr
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []
    with pytest.raises(ConfigError, match="has no case 'none'"):
        to_slicer(image, tmp_path / "none.mrb", case="none")
    (tmp_path / "folder.mrb").mkdir()
    with pytest.raises(OutputError, match=r"folder\.mrb"):
        to_slicer(image, tmp_path / "folder.mrb")


def test_a_bundle_is_read_back(oblique: tuple[Path, Path], tmp_path: Path) -> None:
    """inspect and predict see its image, export and evaluate its mask."""
    image, mask = oblique
    bundle = to_slicer(image, tmp_path / "case.mrb", [mask], reference=mask)
    np.testing.assert_array_equal(read_volume(bundle).array, read_volume(image).array)
    (case,) = find_cases(bundle, labelled=False).cases
    assert "prediction" not in str(case.images[0].path)
    given = read_volume(mask)
    exported = export(bundle, tmp_path / "mask.seg.nrrd", like=image)
    assert exported.certificate.n_different == 0
    assert [segment.name for segment in segments_of(exported.path)] == NAMES
    inside = tmp_path / "case.mrb" / "case" / "Data" / "reference.seg.nrrd"
    for path in (bundle, inside):
        export(path, tmp_path / "mask.nii.gz", like=image)
        np.testing.assert_array_equal(read_volume(tmp_path / "mask.nii.gz").array, given.array)
        assert evaluate(path, mask).summary.over_labels["dice"].mean == 1


def test_a_bundle_of_several_masks_says_their_paths(oblique: tuple[Path, Path], tmp_path: Path) -> None:
    image, mask = oblique
    bundle = to_slicer(image, tmp_path / "case.mrb", [mask, mask])
    with pytest.raises(SourceError, match=r"holds 2 segmentations, name one of them: .*case\.mrb/case/Data/mask_1"):
        export(bundle, tmp_path / "mask.nii.gz")
    assert inspect(bundle).problems == ()
