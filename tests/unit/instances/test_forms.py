"""Objects come in many forms; prepared, each is an object map and a label map that fits it."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from dicom_drawn import write_rtstruct, write_seg
from PIL import Image

from medseg.config import load
from medseg.dataset.layouts import find_cases
from medseg.dataset.store import PreparedDataset
from medseg.errors import ConfigError, LabelError, SourceError
from medseg.workflows.inspect import inspect
from medseg.workflows.preprocess import PreprocessResult, preprocess

WriteImage = Callable[..., Path]
WriteSlices = Callable[..., list[Path]]
SETTINGS = ["preprocessing.workers=1", "preprocessing.crop_to_nonzero=false"]


def numbers(shape: tuple[int, ...] = (24, 20)) -> np.ndarray:
    """Four objects, two of which touch, by numbers with gaps."""
    found = np.zeros(shape, np.int64)
    found[2:6, 3:8], found[6:9, 3:8], found[14:17, 2:6], found[20:23, 15:18] = 5, 900, 70_000, 4
    return found


def image_of(objects: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 4, objects.shape)
    return (60 + 100 * (objects > 0) + noise).astype(np.uint8)


def prepared(source: Path, output: Path, *settings: str, **options: object) -> tuple[PreprocessResult, PreparedDataset]:
    result = preprocess(source, output, config=load(overrides=[*SETTINGS, *settings]), **options)  # type: ignore[arg-type]
    return result, PreparedDataset(output)


def same_objects(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether two maps divide the voxels alike, whatever their numbers."""
    pairs = {(int(a), int(b)) for a, b in zip(found.ravel(), expected.ravel(), strict=True)}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@pytest.mark.parametrize("suffix", [".png", ".tif", ".nii.gz"])
def test_values_that_number_objects(tmp_path: Path, suffix: str, write_image: WriteImage) -> None:
    for name in "ab":
        (tmp_path / "d" / "images").mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / "labels").mkdir(parents=True, exist_ok=True)
        image, label = (tmp_path / "d" / kind / f"{name}{suffix}" for kind in ("images", "labels"))
        objects = numbers()
        if suffix == ".nii.gz":
            write_image(image, image_of(objects)[..., None])
            write_image(label, objects[..., None].astype(np.uint32))
        elif suffix == ".tif":
            tifffile.imwrite(image, image_of(objects).T)
            tifffile.imwrite(label, objects.T.astype(np.uint32))
        else:
            objects[objects == 70_000] = 60_000
            Image.fromarray(image_of(objects).T).save(image)
            Image.fromarray(objects.T.astype(np.uint16)).save(label)
    result, dataset = prepared(tmp_path / "d", tmp_path / "p", instances="nucleus")
    assert not result.problems and dataset.labels.names == ["nucleus"] == list(dataset.labels.instances)
    found, label_map = dataset.objects("a")[..., 0], dataset.label_map("a")[..., 0]
    assert found.dtype == np.int32 and same_objects(found, objects)
    assert np.array_equal(label_map, objects > 0)
    assert dataset.cases["a"].n_objects == {"nucleus": 4}
    stored = dataset.objects_path("a")
    assert stored is not None and same_objects(np.asarray(nibabel.load(stored).dataobj)[..., 0], objects)  # type: ignore[attr-defined]
    again, second = prepared(tmp_path / "p", tmp_path / "again")  # a prepared folder is a source too
    assert not again.problems and np.array_equal(second.objects("b"), dataset.objects("b"))


def _write_bowl(folder: Path, names: Callable[[str, int], str]) -> None:
    for case in ("x1", "x2"):
        (folder / case / "images").mkdir(parents=True)
        (folder / case / "masks").mkdir()
        Image.fromarray(image_of(numbers()).T).save(folder / case / "images" / f"{case}.png")
        for value in np.unique(numbers())[1:]:
            mask = (numbers() == value).T.astype(np.uint8) * 255
            Image.fromarray(mask).save(folder / case / "masks" / f"{names(case, value)}.png")


@pytest.mark.parametrize("names", [lambda case, value: f"{case}{value:x}f", lambda case, value: str(value)])
def test_a_file_an_object(tmp_path: Path, names: Callable[[str, int], str]) -> None:
    _write_bowl(tmp_path / "bowl", names)
    assert find_cases(tmp_path / "bowl").layout == "a folder a case, a file an object"
    result, dataset = prepared(tmp_path / "bowl", tmp_path / "p", instances="nucleus")
    assert not result.problems and dataset.labels.names == ["nucleus"]
    assert same_objects(dataset.objects("x1")[..., 0], numbers())
    _, unnamed = prepared(tmp_path / "bowl", tmp_path / "q")
    assert unnamed.labels.names == ["object"] and np.array_equal(unnamed.objects("x2"), dataset.objects("x2"))


@pytest.mark.parametrize("form", ["seg", "rtstruct"])
def test_a_segment_an_object_beside_other_segments(tmp_path: Path, write_slices: WriteSlices, form: str) -> None:
    stored = np.random.default_rng(0).integers(0, 900, (4, 12, 10), dtype=np.int16)
    axial, spacing = (1, 0, 0, 0, 1, 0), (2.0, 2.0, 3.0)
    tags = {"orientation": axial, "spacing": spacing, "uids": ("P1", "1.2", "1.3.1"), "FrameOfReferenceUID": "1.2.3.4"}
    write_slices(tmp_path / "study" / "ct", stored, **tags)
    boxes = {"Liver": (1, 9, 1, 7), "Lesion 1": (2, 4, 2, 4), "lesion_2": (4, 6, 2, 4), "Lesion 03": (6, 8, 4, 6)}
    masks = {name: np.zeros((12, 10), np.uint8) for name in boxes}
    for name, (top, bottom, left, right) in boxes.items():
        masks[name][top:bottom, left:right] = 1
    corner = np.array((-20.0, 13.0, 7.0))
    if form == "seg":
        frames = [(i, (*corner[:2], 7.0 + 3 * z), mask) for i, mask in enumerate(masks.values(), 1) for z in (1, 2)]
        names = dict(enumerate(boxes, start=1))
        reference = {"FrameOfReferenceUID": "1.2.3.4"}
        write_seg(
            tmp_path / "study" / "seg.dcm",
            frames,
            names=names,
            spacing=spacing[:2],
            thickness=3.0,
            between=3.0,
            **reference,
        )
    else:
        contours = {}
        for name, (top, bottom, left, right) in boxes.items():
            index = np.array([(left, top), (right, top), (right, bottom), (left, bottom)]) - 0.5
            contours[name] = [corner + np.column_stack([index, np.full(4, z)]) * spacing for z in (1, 2)]
        write_rtstruct(tmp_path / "study" / "rt.dcm", contours, referenced_series="1.3.1")
    result, dataset = prepared(tmp_path / "study", tmp_path / "p", "preprocessing.orientation=LPS", instances="lesion")
    assert not result.problems
    assert dataset.labels.names == ["lesion", "Liver"] and dataset.labels.instances == ("lesion",)
    (case_id,) = dataset.cases
    assert dataset.cases[case_id].n_objects == {"lesion": 3}
    plane, labels = dataset.objects(case_id)[..., 1], dataset.label_map(case_id)[..., 1]
    expected = sum((i + 1) * mask for i, mask in enumerate(list(masks.values())[1:]))
    assert same_objects(plane, np.asarray(expected).T)
    assert np.array_equal(labels == 1, plane > 0) and (labels[masks["Liver"].T.astype(bool) & (plane == 0)] == 2).all()


def test_object_maps_beside_label_maps_of_classes(tmp_path: Path, write_image: WriteImage) -> None:
    objects = numbers((24, 20, 1))
    classes = np.select([objects == 5, objects == 4, objects > 0], [1, 3, 2], 0).astype(np.uint8)
    classes[0, 0], classes[6, 4] = 2, 1  # one voxel without an object, and one of an object in another class
    folder = tmp_path / "d"
    for name in "ab":
        write_image(folder / "images" / f"{name}.nii.gz", image_of(objects))
        write_image(folder / "labels" / f"{name}.nii.gz", classes)
        write_image(folder / "objects" / f"{name}.nii.gz", objects.astype(np.int32))
    (folder / "dataset.json").write_text(
        '{"labels": {"cell": 1, "nucleus": 2, "debris": 3}, "instances": ["cell", "nucleus"]}'
    )
    result, dataset = prepared(folder, tmp_path / "p")
    assert not result.problems and dataset.cases["a"].n_objects == {"cell": 1, "nucleus": 2}
    expected = np.where(objects == 4, 0, objects)  # debris is not told apart
    assert same_objects(np.asarray(dataset.objects("a")), expected)
    assert np.array_equal(dataset.label_map("a"), np.select([objects == 5, objects == 4, objects > 0], [1, 3, 2], 0))


def test_components_where_nothing_tells_objects_apart(tmp_path: Path, write_image: WriteImage) -> None:
    lesions = numbers((24, 20, 1)) > 0
    for name in "ab":
        write_image(tmp_path / "d" / "images" / f"{name}.nii.gz", image_of(lesions))
        write_image(tmp_path / "d" / "labels" / f"{name}.nii.gz", lesions.astype(np.uint8) * 255)
    _, dataset = prepared(tmp_path / "d", tmp_path / "p", instances="lesion")
    assert dataset.cases["b"].n_objects == {"lesion": 3}  # two touch
    (tmp_path / "d" / "dataset.json").write_text('{"labels": {"lesion": 255, "other": 3}}')
    _, of_two = prepared(tmp_path / "d", tmp_path / "q", instances="lesion")
    assert np.array_equal(of_two.objects("a"), dataset.objects("a"))


def test_what_the_model_grid_loses_is_named_and_nothing_merged(tmp_path: Path, write_image: WriteImage) -> None:
    objects = np.zeros((32, 24, 12), np.uint16)
    objects[2:14, 2:20, 2:10], objects[14:28, 2:20, 2:10], objects[29, 22, 10] = 7, 8, 41
    for name in "ab":
        write_image(tmp_path / "d" / "images" / f"{name}.nii.gz", image_of(objects))
        write_image(tmp_path / "d" / "labels" / f"{name}.nii.gz", objects)
    result, dataset = prepared(tmp_path / "d", tmp_path / "p", "preprocessing.spacing=[3,3,3]", instances="tooth")
    told = [str(warning) for warning in result.warnings]
    assert any("1 of 3 objects (41; 1 voxel," in each and "preprocessing.spacing=[1,1,1]" in each for each in told)
    found = dataset.objects("a")
    assert sorted(np.unique(found)) == [0, 1, 2] and np.array_equal(dataset.label_map("a"), found > 0)


def test_wrong_instances_are_refused(tmp_path: Path, write_image: WriteImage) -> None:
    for name in "ab":
        write_image(tmp_path / "d" / "images" / f"{name}.nii.gz", image_of(numbers((24, 20, 1))))
        write_image(tmp_path / "d" / "labels" / f"{name}.nii.gz", -numbers((24, 20, 1)).astype(np.int32))
    with pytest.raises(ConfigError, match="nothing says which values a, b have"):
        prepared(tmp_path / "d", tmp_path / "p", instances=["a", "b"])
    with pytest.raises(SourceError, match="no case is left"):
        prepared(tmp_path / "d", tmp_path / "p", instances="nucleus")
    assert "numbers objects by values below 0: -70000, -900, -5, -4" in (tmp_path / "p" / "problems.csv").read_text()
    (tmp_path / "d" / "dataset.json").write_text('{"labels": {"nucleus": 1}}')
    with pytest.raises(LabelError, match="'nucleos' is said to be objects, but is no label; did you mean 'nucleus'"):
        prepared(tmp_path / "d", tmp_path / "p", instances="nucleos")
    (tmp_path / "d" / "dataset.json").write_text('{"instances": 3}')
    with pytest.raises(SourceError, match="'instances' has to be a list of names of labels, as in .* not 3"):
        find_cases(tmp_path / "d")


def test_inspect_counts_objects_and_names_those_in_pieces(tmp_path: Path, write_image: WriteImage) -> None:
    objects = numbers((24, 20, 1)).astype(np.int32)
    objects[0, 0] = 900
    for name in "ab":
        write_image(tmp_path / "d" / "images" / f"{name}.nii.gz", image_of(objects))
        write_image(tmp_path / "d" / "labels" / f"{name}.nii.gz", objects)
    (tmp_path / "d" / "dataset.json").write_text('{"instances": ["nucleus"]}')
    found = inspect(tmp_path / "d", workers=1)
    assert [case.n_objects for case in found.cases] == [{"nucleus": 4}] * 2
    (told,) = [each for each in found.findings if each.rule == "object-in-pieces" and each.case_id == "a"]
    assert told.what == "objects in several pieces: 1 of 4 (900)" and not found.problems
