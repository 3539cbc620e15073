"""Tables, dataset.json, names of patients and odd spellings: done as meant, or said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from medseg.config import load
from medseg.dataset.channel_order import in_order_of
from medseg.dataset.dataset_json import channel_names, label_names
from medseg.dataset.layouts import find_cases
from medseg.dataset.layouts.patient_names import patients_by_name
from medseg.dataset.reading import read_label_map
from medseg.errors import ConfigError, LabelError, SourceError
from medseg.io.read import read_geometry
from medseg.workflows.inspect import inspect
from medseg.workflows.preprocess import preprocess

WriteImage = Callable[..., Path]
PATH = Path("dataset.json")


def names_of(labels: dict[str, Any], **others: Any) -> dict[str, int]:
    found, _ = label_names({"labels": labels, **others}, PATH)
    assert found is not None
    return dict(zip(found.names, found.values, strict=True))


# Tables


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8", "utf-16"])
def test_separators_and_encodings(tmp_path: Path, write_image: WriteImage, separator: str, encoding: str) -> None:
    for name in ("a b, c.nii.gz", "m.nii.gz"):
        write_image(tmp_path / "x" / name)
    rows = [["Subject", "T1", "Mask Path"], ["Müller", '"x/a b, c.nii.gz"', "x\\m.nii.gz"]]
    text = "\r\n".join(separator.join(row) for row in rows)
    (tmp_path / "cases.csv").write_bytes(text.encode(encoding))
    (case,) = find_cases(tmp_path).cases
    assert case.group == "Müller" and case.label is not None and case.label.path.name == "m.nii.gz"
    assert case.images[0].path.name == "a b, c.nii.gz"


def test_unknown_columns_are_named(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "a.nii.gz")
    (tmp_path / "cases.csv").write_text("ID,image_T1,flair,SEG,age,fold\n1,a.nii.gz,a.nii.gz,a.nii.gz,60,2\n")
    found = find_cases(tmp_path)
    assert found.channels == ("T1", "flair") and found.cases[0].case_id == "1"
    assert found.notes[0] == "cases.csv: taken are 'ID' as case_id, 'SEG' as label"
    assert "columns that are not used: age, fold" in found.notes[1]


@pytest.mark.parametrize(
    ("header", "words"),
    [("image,mask,label", "several columns of label maps, label, mask"), ("image,age,age", "several columns 'age'")],
)
def test_columns_that_contradict(tmp_path: Path, header: str, words: str) -> None:
    (tmp_path / "cases.csv").write_text(f"{header}\na,b,c\n")
    with pytest.raises(SourceError, match=words):
        find_cases(tmp_path)


def test_rows_without_names_and_with_too_many_cells(tmp_path: Path, write_image: WriteImage) -> None:
    for name in "ab":
        write_image(tmp_path / name / "ct.nii.gz")
        write_image(tmp_path / name / "seg.nii.gz")
    rows = ["image,label", "a/ct.nii.gz,a/seg.nii.gz", "b/ct.nii.gz,b/seg.nii.gz", "a/c,t.nii.gz,a/seg.nii.gz"]
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    found = find_cases(tmp_path)
    assert [case.case_id for case in found.cases] == ["a_seg", "b_seg"]
    assert "row 4 has more cells than there are columns" in found.problems[0].message


# dataset.json


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"0": "background", "1": "liver"}, {"liver": 1}),
        ({"background": 0, "liver": "1"}, {"liver": 1}),
        ({"background": 0, "1": "liver", "spleen": 2}, {"liver": 1, "spleen": 2}),
        ({"0": "BG", "liver": 1.0}, {"liver": 1}),
        ({"liver": [1]}, {"liver": 1}),
        ({"0": "Hintergrund", "1": "liver"}, {"liver": 1}),
    ],
)
def test_forms_of_labels(labels: dict[str, Any], expected: dict[str, int]) -> None:
    assert names_of(labels) == expected


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"liver": 0, "spleen": 1}, "'liver' has the value 0"),
        ({"ball": 0, "background": 1}, "'background' has the value 1, and 0 is 'ball'"),
        ({"liver": 1, "ignore": [2, 3]}, "'ignore' has the values"),
        ({"liver": 1.5}, "1.5 is no whole number"),
        ({"liver": True}, "True is no whole number"),
        ({"liver": []}, "'liver' has no value"),
        ({"liver\x1b[2J": 1}, r"name 'liver\\x1b\[2J' holds control characters"),
        ({"1": ["a", "b"]}, "names no label"),
        ({"1": 2}, "names no label"),
        (["background", "liver"], "is a list"),
    ],
)
def test_labels_that_cannot_be_meant(labels: Any, words: str) -> None:
    with pytest.raises(SourceError, match=words) as caught:
        label_names({"labels": labels}, PATH)
    assert 'write {"background": 0, "liver": 1' in str(caught.value)


def test_what_is_done_with_dataset_json_is_said(tmp_path: Path, write_image: WriteImage) -> None:
    for name in ("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz"):
        write_image(tmp_path / name)
    content = {
        "channel_names": {"0": "MR", "1": "MR"},
        "modality": {"0": "T1", "1": "T2"},
        "labels": {"0": "Luft", "1": "liver", "Ignore": 255},
        "numTraining": 7,
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    found = find_cases(tmp_path)
    assert found.channels == ("MR", "MR 2") and found.labels is not None and found.labels.ignore == 255
    told = " ".join(found.notes)
    assert "0, named 'Luft', is the background" in told and "numTraining 7; training cases that were found: 1" in told
    assert "'channel_names' (MR, MR 2) is taken, not 'modality' (T1, T2)" in told
    assert "names no labels" in " ".join(label_names({"name": "x"}, PATH)[1])


def test_images_of_another_format_than_dataset_json_says(tmp_path: Path, write_image: WriteImage) -> None:
    for name in ("imagesTr/a_0000.nii.gz", "imagesTr/b_0000.nii", "labelsTr/a.nii.gz"):
        write_image(tmp_path / name)
    content = {"labels": {"x": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    found = find_cases(tmp_path)
    assert len(found.cases) == 1 and not found.problems
    assert "dataset.json says file_ending '.nii.gz'; of other formats, left out: 1 image" in found.notes
    (tmp_path / "dataset.json").write_text(json.dumps({**content, "file_ending": ".mha"}))
    assert "file_ending '.mha', which no image has" in " ".join(find_cases(tmp_path).notes)


def test_names_of_channels_are_in_order_of_numbers() -> None:
    assert channel_names({"channel_names": {"10": "c", "2": "b", "0": "a"}}) == ("a", "b", "c")


def test_what_is_for_testing_is_not_trained_on(tmp_path: Path, write_image: WriteImage) -> None:
    for part in ("train", "test"):
        write_image(tmp_path / part / "images" / "a.nii.gz")
        write_image(tmp_path / part / "labels" / "a.nii.gz")
    found = find_cases(tmp_path)
    assert [case.images[0].path.parent.parent.name for case in found.cases] == ["train"]
    assert "labels/ has the label maps of test images: they are not trained on" in found.notes
    assert all(case.label for case in find_cases(tmp_path / "test").cases)
    entry = {"image": "test/images/a.nii.gz", "label": "test/labels/a.nii.gz"}
    training = [{"image": "train/images/a.nii.gz", "label": "train/labels/a.nii.gz"}]
    write = (tmp_path / "dataset.json").write_text
    write(json.dumps({"labels": {"x": 1}, "training": training, "test": [entry]}))
    found = find_cases(tmp_path)
    assert len(found.cases) == 1 and "'test' has label maps, too: they are not trained on" in found.notes


# Names


def test_composed_and_decomposed_names_pair(tmp_path: Path, write_image: WriteImage) -> None:
    name = "Müller é 한 1.2"
    write_image(tmp_path / "images" / f"{normalize('NFD', name)}.NII.GZ")
    write_image(tmp_path / "labels" / f"{normalize('NFC', name)}_Mask.nii.gz")
    (case,) = find_cases(tmp_path).cases
    assert case.label is not None
    both = find_cases(tmp_path, images=f"images/{name[:3]}*.NII.GZ", labels="labels/Mül*_Mask.nii.gz")
    assert len(both.cases) == 1 and both.cases[0].label
    listed = {"training": [{"image": f"images/{name}.nii.gz", "label": f"labels/{normalize('NFD', name)}_Mask.nii.gz"}]}
    (tmp_path / "dataset.json").write_text(json.dumps({**listed, "labels": {"x": 1}}))
    assert not find_cases(tmp_path).problems


def test_names_that_differ_by_case_only_stay_apart(tmp_path: Path, write_image: WriteImage) -> None:
    for folder in ("images", "labels"):
        for name in ("Case 1", "case 1"):
            write_image(tmp_path / folder / f"{name}.nii.gz")
    found = find_cases(tmp_path)
    assert [case.case_id for case in found.cases] == ["Case_1", "case_1_2"]
    assert all(case.label and case.label.path.name == case.images[0].path.name for case in found.cases)


def test_capitals_do_not_part_an_image_from_its_label_map(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "images" / "P1.nii.gz")
    write_image(tmp_path / "labels" / "p1_seg.nii.gz")
    (case,) = find_cases(tmp_path).cases
    assert case.label is not None


# Patients


@pytest.mark.parametrize(
    ("keys", "patients"),
    [
        (["a_ED", "a_ES", "b_ED"], ["a", "a", "b"]),
        (["a_t0", "a_t1", "b_t0"], ["a", "a", "b"]),
        (["a_baseline", "a_follow-up_2", "b"], ["a", "a", None]),
        (["case_L", "case_R", "c2_L"], ["case", "case", "c2"]),
        (["sub-01/ses-1", "sub-01/ses-2", "sub-02/ses-1"], ["sub-01", "sub-01", "sub-02"]),
        (["d/patient001_frame01", "d/patient001_frame12", "d/patient002_frame01"], ["patient001"] * 2 + ["patient002"]),
        (["x_20200101", "x_20210101", "y_20200101"], ["x", "x", "y"]),
        (["data/c_1", "data/c_2"], ["c_1", "c_2"]),
        (["HGG/c1/x", "HGG/c2/x", "LGG/c3/x"], ["HGG/c1", "HGG/c2", "LGG/c3"]),
        (["site1/001", "site1/002", "site1/003", "site2/001", "site2/002"], [None] * 5),
        (["img_scan1", "img_scan2", "img_scan3"], [None] * 3),
        (["train/a", "val/a"], [None, None]),
        (["liver_001", "liver_002"], [None, None]),
    ],
)
def test_patients_by_names(keys: list[str], patients: list[str | None]) -> None:
    found = patients_by_name(keys)
    assert [found.get(key) for key in keys] == patients


def test_a_group_column_is_believed(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "a.nii.gz")
    rows = ["case_id,image,label", "a_t0,a.nii.gz,a.nii.gz", "a_t1,a.nii.gz,a.nii.gz", "b_t0,a.nii.gz,a.nii.gz"]
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    found = find_cases(tmp_path)
    assert [case.group for case in found.cases] == ["a", "a", "b"]
    assert "taken for one patient by their names" in found.notes[-1]
    rows = [f"{row},{group}" for row, group in zip(rows, ("group", "1", "2", "3"), strict=True)]
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    assert [case.group for case in find_cases(tmp_path).cases] == ["1", "2", "3"]


# Masks of structures


def test_overlapping_structures(tmp_path: Path, write_image: WriteImage) -> None:
    shape = (4, 3, 2)
    masks = {"liver": np.ones(shape, np.uint8), "tumour": np.zeros(shape, np.uint8)}
    masks["tumour"][1] = 255
    write_image(tmp_path / "s1" / "ct.nii.gz", np.zeros(shape, np.int16) - 5)
    for name, mask in masks.items():
        write_image(tmp_path / "s1" / "segmentations" / f"{name}.nii.gz", mask)
    (case,) = find_cases(tmp_path).cases
    label_map = read_label_map(case, read_geometry(case.images[0]), 0.05)
    assert label_map.notes == ("structures overlap in 6 voxels: the one with fewer voxels lies on top",)
    assert (label_map.array[1] == 2).all() and (label_map.array[[0, 2, 3]] == 1).all()
    masks["tumour"][2] = 7
    write_image(tmp_path / "s1" / "segmentations" / "tumour.nii.gz", masks["tumour"])
    with pytest.raises(LabelError, match="'tumour', but holds the values 7, 255"):
        read_label_map(case, read_geometry(case.images[0]), 0.05)


def test_what_medseg_writes_as_a_file_a_label_is_read_as_labels(tmp_path: Path, write_image: WriteImage) -> None:
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.nii.gz")
        for structure in ("left_kidney", "GTV_1_2"):
            write_image(tmp_path / "labels" / name / f"{structure}.nii.gz")
        table = {"left_kidney.nii.gz": "left kidney", "GTV_1_2.nii.gz": "GTV 1/2"}
        (tmp_path / "labels" / name / "names.json").write_text(json.dumps(table))
    found = find_cases(tmp_path)
    assert not found.problems and found.labels is not None and found.labels.names == ["GTV 1/2", "left kidney"]


def test_dataset_json_chooses_structures(tmp_path: Path, write_image: WriteImage) -> None:
    for n in "12":
        write_image(tmp_path / n / "ct.nii.gz")
        for name in ("liver", "spleen", "colon"):
            write_image(tmp_path / n / "segmentations" / f"{name}.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "spleen": 1, "liver": 5}}))
    found = find_cases(tmp_path)
    assert found.labels is not None and found.labels.names == ["spleen", "liver"]
    assert [case.label and dict(case.label.values or {}) for case in found.cases] == [{"liver": 5, "spleen": 1}] * 2
    assert "not named in dataset.json, left out: 1 structure" in found.notes


def test_placeholders_that_cannot_be_paired(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "a" / "ct.nii.gz")
    for images, labels in (("{case}/ct.nii.gz", "{patient}/seg.nii.gz"), ("{structure}/ct.nii.gz", "*/seg.nii.gz")):
        with pytest.raises(ConfigError, match="--images"):
            find_cases(tmp_path, images=images, labels=labels)


def test_a_model_takes_its_channels_among_others(tmp_path: Path, write_image: WriteImage) -> None:
    (tmp_path / "dataset_description.json").write_text("{}")
    for kind in ("FLAIR", "T1w", "T2w"):
        write_image(tmp_path / "sub-1" / "anat" / f"sub-1_{kind}.nii.gz")
    found = in_order_of(("T2w", "FLAIR"), find_cases(tmp_path, labelled=False))
    assert found.channels == ("T2w", "FLAIR")
    assert [image.path.name for image in found.cases[0].images] == ["sub-1_T2w.nii.gz", "sub-1_FLAIR.nii.gz"]


# DICOM series with pictures


def chaos(folder: Path, write_slices: Callable[..., list[Path]], *, reverse: bool = False) -> np.ndarray:
    """As CHAOS lies: a picture for each slice, by the order of names in CT and by names in MR. Returns what is drawn
    in MR, (x, y, z)."""
    random = np.random.default_rng(0)
    stored = random.integers(0, 900, (3, 5, 4)).astype(np.int16)
    drawn = random.integers(0, 2, (3, 5, 4)).astype(np.uint8) * 63
    straight = (1, 0, 0, 0, 1, 0)
    ct = folder / "CT" / "1"
    names = ["i0002.dcm", "i0001.dcm", "i0000.dcm"] if reverse else ["i0000.dcm", "i0001.dcm", "i0002.dcm"]
    write_slices(ct / "DICOM_anon", stored, orientation=straight, names=names, uids=("1", "1.1", "1.1.1"))
    for phase, first in (("InPhase", 1), ("OutPhase", 0)):
        files = [f"IMG-{2 * n + first:03d}.dcm" for n in range(3)]
        place = folder / "MR" / "1" / "T1DUAL" / "DICOM_anon" / phase
        write_slices(place, stored, orientation=straight, names=files, uids=("1", "1.2", f"1.2.{first}"), Modality="MR")
    for z in range(3):
        for path in (ct / "Ground" / f"liver_GT_{z:03d}.png", folder / f"MR/1/T1DUAL/Ground/IMG-{2 * z + 1:03d}.png"):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawn[z]).save(path)
    return drawn.transpose(2, 1, 0)


@pytest.mark.parametrize("reverse", [False, True])
def test_chaos(tmp_path: Path, write_slices: Callable[..., list[Path]], reverse: bool) -> None:
    drawn = chaos(tmp_path / "Train", write_slices, reverse=reverse)
    found = find_cases(tmp_path / "Train")
    assert not found.problems and "DICOM series with a label picture for each slice" in found.layout
    assert {case.case_id for case in found.cases} == {"CT_1_DICOM_anon", "MR_1_T1DUAL_DICOM_anon_InPhase"}
    assert "without label maps, left out: 1 scan" in found.notes
    for case in found.cases:
        expected = drawn[:, :, ::-1] if reverse and case.case_id.startswith("CT") else drawn
        label_map = read_label_map(case, read_geometry(case.images[0]), 0.05).array
        assert np.array_equal(label_map, expected)
    inspected = inspect(tmp_path / "Train", workers=1)
    assert not inspected.problems and [set(case.voxels or ()) for case in inspected.cases] == [{"foreground"}] * 2
    result = preprocess(
        tmp_path / "Train", tmp_path / "prepared", config=load(overrides=["preprocessing.workers=1"]), images="MR/**"
    )
    assert not result.problems and (tmp_path / "prepared" / "labels" / f"{found.cases[1].case_id}.nii.gz").is_file()


def test_pictures_that_are_not_as_many_as_slices(tmp_path: Path, write_slices: Callable[..., list[Path]]) -> None:
    chaos(tmp_path, write_slices)
    (tmp_path / "CT" / "1" / "Ground" / "liver_GT_001.png").unlink()
    (problem,) = find_cases(tmp_path).problems
    assert "2 label pictures; beside them is no series that has as many slices" in problem.message
