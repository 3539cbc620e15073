import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.dataset.cases import CaseList
from medseg.dataset.layouts import find_cases
from medseg.errors import ConfigError, SourceError
from medseg.labels import Labels
from medseg.volume import Geometry

WriteSlices = Callable[..., list[Path]]
WriteImage = Callable[..., Path]

STORED = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)


@pytest.fixture
def write_tree(tmp_path: Path, write_image: WriteImage) -> Callable[..., Path]:
    """Writes an image (NIfTI or PNG) at each of the given paths, and returns the folder that they are
    below."""

    def write(*names: str) -> Path:
        for name in names:
            if name.endswith(".png"):
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name)
            else:
                write_image(tmp_path / name)
        return tmp_path

    return write


def table(cases: CaseList, below: Path) -> dict[str, tuple[list[str], str | None]]:
    """Images and label of each case, as paths relative to a folder."""

    def relative(path: Path) -> str:
        return path.relative_to(below).as_posix()

    return {
        case.case_id: (
            [relative(source.path) for source in case.images],
            relative(case.label.path) if case.label else None,
        )
        for case in cases.cases
    }


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def problems(cases: CaseList) -> list[tuple[str, str]]:
    return [(problem.case_id, problem.path.name) for problem in cases.problems]


# Decathlon and nnU-Net


def test_decathlon(write_tree: Callable[..., Path]) -> None:
    folder = write_tree(
        "imagesTr/a.nii.gz",
        "imagesTr/b.nii.gz",
        "labelsTr/a.nii.gz",
        "labelsTr/b.nii.gz",
        "imagesTs/c.nii.gz",
    )
    write_json(
        folder / "dataset.json",
        {
            "modality": {"0": "FLAIR", "1": "T1w"},
            "labels": {"0": "background", "2": "tumour", "1": "oedema"},
            "training": [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in "ab"],
            "test": ["./imagesTs/c.nii.gz"],
        },
    )
    found = find_cases(folder)
    assert "Decathlon" in found.layout
    assert table(found, folder) == {
        "a": (["imagesTr/a.nii.gz"], "labelsTr/a.nii.gz"),
        "b": (["imagesTr/b.nii.gz"], "labelsTr/b.nii.gz"),
    }
    assert found.channels == ("FLAIR", "T1w")
    assert found.labels == Labels.from_names({"oedema": 1, "tumour": 2})
    assert found.notes == ("without label maps, left out: 1 test image",)
    assert not found.problems
    predicted = find_cases(folder, labelled=False)
    assert [case.case_id for case in predicted.cases] == ["a", "b", "c"]
    assert all(case.label is None for case in predicted.cases)
    assert predicted.labels is None


def test_a_name_that_no_file_can_have_costs_its_case(write_tree: Callable[..., Path]) -> None:
    folder = write_tree("imagesTr/a.nii.gz", "labelsTr/a.nii.gz")
    listed = [{"image": f"imagesTr/{name}.nii.gz", "label": "labelsTr/a.nii.gz"} for name in ("a", "[" * 3000)]
    content = {"labels": {"0": "background", "1": "organ"}, "modality": {"0": "CT"}, "training": listed}
    write_json(folder / "dataset.json", content)
    (problem,) = find_cases(folder).problems
    assert "is listed, and cannot be a file (File name too long)" in problem.message
    assert len(problem.message) < 1000


def test_decathlon_with_missing_files(write_tree: Callable[..., Path]) -> None:
    folder = write_tree(
        "imagesTr/a.nii.gz",
        "imagesTr/b.nii.gz",
        "labelsTr/a.nii.gz",
        "labelsTr/c.nii.gz",
        "imagesTr/d.nii.gz",
    )
    entries = [{"image": f"imagesTr/{n}.nii.gz", "label": f"labelsTr/{n}.nii.gz"} for n in "abc"]
    write_json(
        folder / "dataset.json",
        {"training": [*entries, {"image": "imagesTr/d.nii.gz"}], "labels": {"1": "x"}},
    )
    found = find_cases(folder)
    assert list(table(found, folder)) == ["a"]
    assert [problem.case_id for problem in found.problems] == ["b", "c", "d"]
    assert "labelsTr/b.nii.gz" in found.problems[0].message
    assert "imagesTr/c.nii.gz" in found.problems[1].message
    assert "without its label map" in found.problems[2].message


def test_nnunet_2(write_tree: Callable[..., Path]) -> None:
    files = [f"imagesTr/{case}_000{channel}.nii.gz" for case in ("p_1", "p_2") for channel in (0, 1)]
    folder = write_tree(
        *files,
        "labelsTr/p_1.nii.gz",
        "labelsTr/p_2.nii.gz",
        "imagesTs/p_9_0000.nii.gz",
        "imagesTs/p_9_0001.nii.gz",
    )
    write_json(
        folder / "dataset.json",
        {
            "channel_names": {"0": "T2", "1": "ADC"},
            "labels": {"background": 0, "PZ": 1, "TZ": 2},
            "numTraining": 2,
        },
    )
    found = find_cases(folder)
    assert "nnU-Net" in found.layout
    assert table(found, folder)["p_2"] == (
        ["imagesTr/p_2_0000.nii.gz", "imagesTr/p_2_0001.nii.gz"],
        "labelsTr/p_2.nii.gz",
    )
    assert found.channels == ("T2", "ADC")
    assert found.labels == Labels.from_names({"PZ": 1, "TZ": 2})
    assert [case.case_id for case in find_cases(folder, labelled=False).cases] == ["p_1", "p_2", "p_9"]


def test_nnunet_without_dataset_json(write_tree: Callable[..., Path]) -> None:
    folder = write_tree("imagesTr/a_0000.png", "labelsTr/a.png", "imagesTr/b_0000.png")
    found = find_cases(folder)
    assert table(found, folder) == {"a": (["imagesTr/a_0000.png"], "labelsTr/a.png")}
    assert found.channels == ("image",)
    assert found.labels is None
    assert problems(found) == [("b", "b_0000.png")]


def test_nnunet_1_lists_files_without_their_channel(write_tree: Callable[..., Path]) -> None:
    folder = write_tree("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    write_json(
        folder / "dataset.json",
        {
            "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
            "modality": {"0": "CT", "1": "PT"},
        },
    )
    found = find_cases(folder)
    assert table(found, folder)["a"][0] == ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"]
    assert found.channels == ("CT", "PT")


def test_a_case_with_other_channels_is_a_problem(write_tree: Callable[..., Path]) -> None:
    files = [f"imagesTr/{case}_000{channel}.nii" for case in "abc" for channel in (0, 1)]
    folder = write_tree(*files, *(f"labelsTr/{case}.nii" for case in "abc"))
    (folder / "imagesTr" / "b_0001.nii").unlink()
    found = find_cases(folder)
    assert list(table(found, folder)) == ["a", "c"]
    assert "has the images 0000; the others have 0000, 0001" in found.problems[0].message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("[]", "JSON object"),
        ('{"training": ["a"]}', "'image' and 'label'"),
        ('{"training": [], "labels": {"1": "a", "2": "a"}}', "occurs twice"),
        ('{"training": [], "labels": {"liver": "one"}}', "'labels' cannot be used"),
        ('{"training": [], "labels": {"a": 1, "b": 1}}', "stands for two labels"),
        ('{"training": []}', "no cases in it"),
        ('{"training": [], "test": [3]}', "not 3"),
        ('{"format": "medseg-prepared"}', "preprocess"),
        ('{"format": "medseg-prepared", "labels": {"items": 3}, "cases": []}', "preprocess"),
    ],
)
def test_a_broken_dataset_json_is_named(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(SourceError, match=words) as caught:
        find_cases(tmp_path)
    assert "dataset.json" in str(caught.value) and "\n" not in str(caught.value)


def test_regions_are_unions_of_labels(write_tree: Callable[..., Path]) -> None:
    folder = write_tree("imagesTr/a_0000.nii", "labelsTr/a.nii")
    labels = {"background": 0, "whole": [1, 2, 4], "core": [2, 4], "enhancing": [4]}
    write_json(folder / "dataset.json", {"labels": labels})
    found = find_cases(folder)
    assert found.labels
    assert dict(zip(found.labels.names, found.labels.values, strict=True)) == {
        "label_1": 1,
        "label_2": 2,
        "enhancing": 4,
    }
    assert [(each.name, each.values) for each in found.labels.structures] == [
        ("enhancing", (4,)),
        ("whole", (1, 2, 4)),
        ("core", (2, 4)),
    ]
    assert "regions (whole, core)" in found.notes[0]
    assert found.labels.region_order == ()


def test_the_order_of_regions_goes_by_the_order_of_labels(write_tree: Callable[..., Path]) -> None:
    folder = write_tree("imagesTr/a_0000.nii", "labelsTr/a.nii")
    content = {"labels": {"background": 0, "whole": [1, 2, 4], "enhancing": 4, "core": [2, 4]}}
    write_json(folder / "dataset.json", {**content, "regions_class_order": [1, 4, 2]})
    labels = find_cases(folder).labels
    assert labels is not None and labels.region_order == (("whole", 1), ("enhancing", 4), ("core", 2))
    write_json(folder / "dataset.json", {**content, "regions_class_order": [1, 2]})
    with pytest.raises(SourceError, match="'regions_class_order' needs a value for each of whole, enhancing, core"):
        find_cases(folder)


def test_colours_and_codes_can_be_given(write_tree: Callable[..., Path]) -> None:
    folder = write_tree("imagesTr/a_0000.nii", "labelsTr/a.nii")
    code = {"scheme": "SCT", "value": "10200004", "meaning": "Liver"}
    content = {"labels": {"Leber": 1, "Milz": 2}, "structures": {"Leber": {"colour": [221, 130, 101], "type": code}}}
    write_json(folder / "dataset.json", content)
    labels = find_cases(folder).labels
    assert labels
    liver, spleen = labels.items
    assert (liver.colour, liver.type.value) == ((221, 130, 101), "10200004")  # type: ignore[union-attr]
    assert spleen.type.scheme == "99MEDSEG"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("structures", "words"),
    [
        ({"lung": {}}, "'lung', which is none of liver"),
        ({"liver": {"value": 3}}, "not value"),
        ({"liver": {"colour": [300, 0, 0]}}, "less than or equal to 255"),
        ({"liver": {"type": "Liver"}}, "'labels' cannot be used"),
    ],
)
def test_wrong_colours_and_codes_are_refused(
    write_tree: Callable[..., Path], structures: dict[str, object], words: str
) -> None:
    folder = write_tree("imagesTr/a_0000.nii", "labelsTr/a.nii")
    write_json(folder / "dataset.json", {"labels": {"liver": 1}, "structures": structures})
    with pytest.raises(SourceError, match=words):
        find_cases(folder)


def test_prepared(write_tree: Callable[..., Path]) -> None:
    folder = write_tree("prepared/nifti/a.nii.gz", "labels/a.nii.gz")
    labels = Labels.from_names({"liver": 3})
    entry = {
        "case_id": "A 1",
        "group": "P1",
        "images": ["nifti/a.nii.gz"],
        "label": str(folder / "labels" / "a.nii.gz"),
        "source_grid": Geometry((2, 2, 2), np.eye(4)).as_json(),
    }
    write_json(
        folder / "prepared" / "dataset.json",
        {
            "format": "medseg-prepared",
            "medseg": "0.1.0",
            "source": "/data",
            "layout": "images/ and labels/",
            "channels": ["CT"],
            "labels": labels.model_dump(mode="json"),
            "cases": [entry],
        },
    )
    found = find_cases(folder / "prepared")
    assert table(found, folder) == {"A_1": (["prepared/nifti/a.nii.gz"], "labels/a.nii.gz")}
    assert (found.channels, found.labels, found.cases[0].group) == (("CT",), labels, "P1")


# images/ and labels/


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images", "labels"),
        ("image", "mask"),
        ("img", "masks"),
        ("imagesTr", "labelsTr"),
        ("Images", "Labels"),
    ],
)
def test_folders_of_images_and_labels(write_tree: Callable[..., Path], images: str, labels: str) -> None:
    folder = write_tree(
        *(f"{part}/{n}.png" for part in (images, labels) for n in (1, 2)),
        f"{images}/3.png",
        f"{labels}/4.png",
    )
    found = find_cases(folder)
    assert table(found, folder) == {str(n): ([f"{images}/{n}.png"], f"{labels}/{n}.png") for n in (1, 2)}
    assert problems(found) == [("3", "3.png"), ("4", "4.png")]
    assert "without its label map" in found.problems[0].message
    assert "without its image" in found.problems[1].message
    everything = find_cases(folder, labelled=False)
    assert [case.case_id for case in everything.cases] == ["1", "2", "3"]
    assert not everything.problems


@pytest.mark.parametrize(
    ("image", "label", "case_id"),
    [
        ("a.nii.gz", "a.nii.gz", "a"),
        ("a.png", "a_mask.png", "a"),
        ("img_7.png", "label_7.png", "7"),
        ("train/a.png", "train/a.png", "train_a"),
        ("a/t1.nii", "a.nii", "a"),
        ("a_0000.nii", "a_seg.nii", "a"),
        ("scan_0001.png", "scan_0001.png", "scan_0001"),
        ("a/image.nii", "a/mask.nii", "a"),
    ],
)
def test_names_that_go_together(write_tree: Callable[..., Path], image: str, label: str, case_id: str) -> None:
    folder = write_tree(f"images/{image}", f"labels/{label}")
    assert table(find_cases(folder), folder) == {case_id: ([f"images/{image}"], f"labels/{label}")}


def test_images_that_are_dicom_folders(
    tmp_path: Path, write_tree: Callable[..., Path], write_slices: WriteSlices
) -> None:
    write_slices(tmp_path / "images" / "a", STORED)
    write_slices(tmp_path / "images" / "b" / "study" / "series", STORED)
    write_tree("labels/a.nii.gz", "labels/b.nii.gz")
    assert table(find_cases(tmp_path), tmp_path) == {
        "a": (["images/a"], "labels/a.nii.gz"),
        "b": (["images/b/study/series"], "labels/b.nii.gz"),
    }


def test_channels_that_are_dicom_folders(
    tmp_path: Path, write_tree: Callable[..., Path], write_slices: WriteSlices
) -> None:
    for name in ("a_0000", "a_0001"):
        write_slices(tmp_path / "images" / name, STORED)
    write_tree("labels/a.nii.gz")
    assert table(find_cases(tmp_path), tmp_path) == {"a": (["images/a_0000", "images/a_0001"], "labels/a.nii.gz")}


# Masks beside images


def test_kinds_of_images_in_patient_folders(write_tree: Callable[..., Path]) -> None:
    names = [f"STS_{p}/{kind}_{what}.nii.gz" for p in (1, 2) for kind in ("CT", "MR_T1") for what in ("image", "mask")]
    folder = write_tree(*names)
    (folder / "STS_2" / "CT_image.nii.gz").unlink()
    found = find_cases(folder)
    assert list(table(found, folder)) == ["STS_1_CT", "STS_1_MR_T1", "STS_2_MR_T1"]
    assert table(found, folder)["STS_1_MR_T1"] == (["STS_1/MR_T1_image.nii.gz"], "STS_1/MR_T1_mask.nii.gz")
    assert [case.group for case in found.cases] == ["STS_1", "STS_1", "STS_2"]
    assert problems(found) == [("STS_2_CT", "CT_mask.nii.gz")]
    assert "2 kinds of images (CT, MR_T1)" in found.notes[0]
    assert "--images '*/CT_image.nii.gz'" in found.notes[0]
    assert found.channels == ("image",)
    assert find_cases(folder, images="*/CT_image.nii.gz").channels == ("CT",)


def test_channels_in_case_folders(write_tree: Callable[..., Path]) -> None:
    names = [f"B_{n}/B_{n}_{kind}.nii" for n in (1, 2, 10) for kind in ("flair", "t1", "t1ce", "t2", "seg")]
    folder = write_tree(*names)
    found = find_cases(folder)
    images = [f"B_1/B_1_{kind}.nii" for kind in ("flair", "t1", "t1ce", "t2")]
    assert list(table(found, folder)) == ["B_1", "B_10", "B_2"]
    assert table(found, folder)["B_1"] == (images, "B_1/B_1_seg.nii")
    assert found.channels == ("flair", "t1", "t1ce", "t2")
    assert not found.problems


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a.nii", "a_mask.nii"], {"a": (["a.nii"], "a_mask.nii")}),
        (["a_ct.nii", "a_seg.nii"], {"a": (["a_ct.nii"], "a_seg.nii")}),
        (
            ["a.nii", "a_seg.nii", "a_b.nii", "a_b_seg.nii"],
            {"a": (["a.nii"], "a_seg.nii"), "a_b": (["a_b.nii"], "a_b_seg.nii")},
        ),
        (["volume-3.nii", "segmentation-3.nii"], {"3": (["volume-3.nii"], "segmentation-3.nii")}),
        (["k/imaging.nii", "k/segmentation.nii"], {"k": (["k/imaging.nii"], "k/segmentation.nii")}),
        (["k/t1.nii", "k/t2.nii", "k/mask.nii"], {"k": (["k/t1.nii", "k/t2.nii"], "k/mask.nii")}),
        (["x/label_1.png", "x/image_1.png"], {"x_1": (["x/image_1.png"], "x/label_1.png")}),
    ],
)  # fmt: skip
def test_masks_beside_images(
    write_tree: Callable[..., Path], files: list[str], expected: dict[str, tuple[list[str], str]]
) -> None:
    folder = write_tree(*files)
    assert table(find_cases(folder), folder) == expected


def test_masks_beside_dicom_series(tmp_path: Path, write_tree: Callable[..., Path], write_slices: WriteSlices) -> None:
    write_slices(tmp_path / "p1" / "CT", STORED)
    write_slices(tmp_path / "p2", STORED)
    write_tree("p1/mask.nii.gz", "p2/mask.nii.gz")
    found = find_cases(tmp_path)
    assert table(found, tmp_path) == {"p1": (["p1/CT"], "p1/mask.nii.gz"), "p2": (["p2"], "p2/mask.nii.gz")}
    assert found.channels == ("CT",)


def test_parts_of_a_dataset_are_no_patients(write_tree: Callable[..., Path]) -> None:
    names = [f"train/P{p}/{kind}_{what}.nii" for p in (1, 2) for kind in ("CT", "PT") for what in ("image", "mask")]
    assert {case.group for case in find_cases(write_tree(*names)).cases} == {"P1", "P2"}


def test_an_image_without_its_mask(write_tree: Callable[..., Path]) -> None:
    folder = write_tree("a_image.nii", "a_mask.nii", "b_image.nii", "c_mask.nii")
    found = find_cases(folder)
    assert list(table(found, folder)) == ["a"]
    assert problems(found) == [("b_image", "b_image.nii"), ("c", "c_mask.nii")]


# Tables


@pytest.mark.parametrize("separator", [",", ";"])
def test_table(write_tree: Callable[..., Path], separator: str) -> None:
    folder = write_tree("x/1.nii", "x/2.nii", "y.nii", "images/z.nii", "labels/z.nii")
    rows = [
        "case_id,image_T1,image_T2,label,group",
        "A,x/1.nii,x/2.nii,y.nii,P1",
        "B,x/1.nii,x/2.nii,,P1",
        "C,x/1.nii,x/9.nii,y.nii,P2",
    ]
    (folder / "cases.csv").write_text("\ufeff" + "\n".join(rows).replace(",", separator) + "\n", encoding="utf-8")
    for source in (folder, folder / "cases.csv"):
        found = find_cases(source)
        assert table(found, folder) == {"A": (["x/1.nii", "x/2.nii"], "y.nii")}
        assert found.channels == ("T1", "T2")
        assert found.cases[0].group == "P1"
        assert sorted(problem.case_id for problem in found.problems) == ["B", "C"]
        assert "x/9.nii" in "".join(problem.message for problem in found.problems)


def test_a_table_typed_by_hand(write_tree: Callable[..., Path]) -> None:
    folder = write_tree("scans/Müller 1 (a).nii", "masks/1; a.nii")
    rows = ["case_id ; image ; label", ' p 1 ; scans/Müller 1 (a).nii ; "masks/1; a.nii"', " ; ; "]
    (folder / "cases.csv").write_text("\n".join(rows), encoding="utf-8")
    found = find_cases(folder)
    assert table(found, folder) == {"p_1": (["scans/Müller 1 (a).nii"], "masks/1; a.nii")}
    assert not found.problems


def test_table_of_absolute_paths_and_dicom_folders(tmp_path: Path, write_slices: WriteSlices) -> None:
    write_slices(tmp_path / "study", STORED)
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "cases.csv").write_text(f"case_id,image\nA,{tmp_path / 'study'}\n")
    assert table(find_cases(tmp_path / "table"), tmp_path) == {"A": (["study"], None)}


def test_a_table_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("id,path\n1,a.nii\n")
    with pytest.raises(SourceError, match=r"cases\.csv.*no column 'image'.*id, path"):
        find_cases(tmp_path)


# Images without labels


def test_dicom_studies(tmp_path: Path, write_slices: WriteSlices) -> None:
    write_slices(tmp_path / "1", STORED, uids=("P/1", "1.1", "1.1.1"), SeriesDescription="T1 post")
    write_slices(tmp_path / "1", STORED, uids=("P/1", "1.1", "1.1.2"), SeriesDescription="T1 post", names=list("abc"))
    write_slices(tmp_path / "3", STORED, uids=("P2", "1.2", "1.2.1"), SeriesDescription="")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "screenshot.png")
    found = find_cases(tmp_path)
    assert table(found, tmp_path) == {
        # Series that share a folder are told apart by their description, others by their folder.
        "P_1_T1_post": (["1"], None),
        "P_1_T1_post_2": (["1"], None),
        "3": (["3"], None),
    }
    assert [case.group for case in found.cases] == ["P2", "P/1", "P/1"]
    assert found.channels == ("CT",)
    assert "taken for no case, left out: 1 image (screenshot.png)" in found.notes


def test_one_image(tmp_path: Path, write_tree: Callable[..., Path], write_slices: WriteSlices) -> None:
    folder = write_tree("scan_1.5mm.nii.gz", "b.png")
    paths = write_slices(tmp_path / "study", STORED)
    assert table(find_cases(folder / "scan_1.5mm.nii.gz"), folder) == {"scan_1.5mm": (["scan_1.5mm.nii.gz"], None)}
    assert table(find_cases(folder / "b.png"), folder) == {"b": (["b.png"], None)}
    assert table(find_cases(paths[1]), folder) == {"study": (["study"], None)}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a.nii", "p/b.nii"], {"a": ["a.nii"], "p_b": ["p/b.nii"]}),
        (["a_0000.nii", "b_0000.nii"], {"a": ["a_0000.nii"], "b": ["b_0000.nii"]}),
        (
            ["a_0000.nii", "a_0001.nii", "b_0000.nii", "b_0001.nii"],
            {n: [f"{n}_0000.nii", f"{n}_0001.nii"] for n in "ab"},
        ),
        (["s_0001.png", "s_0002.png"], {"s_0001": ["s_0001.png"], "s_0002": ["s_0002.png"]}),
        (
            ["a_0000.nii", "a_0001.nii", "b_0000.nii"],
            {n: [f"{n}.nii"] for n in ("a_0000", "a_0001", "b_0000")},
        ),
        (["h/h_001.nii", "h/h_002.nii"], {"h_001": ["h/h_001.nii"], "h_002": ["h/h_002.nii"]}),
        (["P1/P10.nii", "P1/a.nii"], {"P1_P10": ["P1/P10.nii"], "P1_a": ["P1/a.nii"]}),
        (["a.nii", "a.nii.gz", "a_2.png"], {"a": ["a.nii"], "a_2": ["a.nii.gz"], "a_2_2": ["a_2.png"]}),
        ([f"s_{n:04d}.png" for n in range(9)], {f"s_{n:04d}": [f"s_{n:04d}.png"] for n in range(9)}),
        (
            ["X/X_t1.nii", "X/X_t2.nii", "Y/Y_t1.nii", "Y/Y_t2.nii"],
            {n: [f"{n}/{n}_t1.nii", f"{n}/{n}_t2.nii"] for n in "XY"},
        ),
        (["1/ct.nii", "1/pt.nii"], {"1_ct": ["1/ct.nii"], "1_pt": ["1/pt.nii"]}),
        (["p/a.nii", "p_a.nii"], {"p_a": ["p/a.nii"], "p_a_2": ["p_a.nii"]}),
    ],
)  # fmt: skip
def test_plain_folders(write_tree: Callable[..., Path], files: list[str], expected: dict[str, list[str]]) -> None:
    folder = write_tree(*files)
    found = find_cases(folder)
    assert {case_id: images for case_id, (images, _) in table(found, folder).items()} == expected
    assert not found.problems


def test_damaged_files_are_problems_beside_the_cases(tmp_path: Path, write_slices: WriteSlices) -> None:
    write_slices(tmp_path, STORED)
    (tmp_path / "broken.dcm").write_text("broken")
    found = find_cases(tmp_path)
    assert len(found.cases) == 1
    assert problems(found) == [("", "broken.dcm")]


# The user's own patterns


def test_patterns_pair_by_what_their_stars_match(write_tree: Callable[..., Path]) -> None:
    folder = write_tree(
        "p1/v1/scan.nii",
        "p1/v2/scan.nii",
        "p2/v1/scan.nii",
        "p1/v1/roi.nii",
        "p1/v2/roi.nii",
        "p3/v1/roi.nii",
        "other.nii",
    )
    found = find_cases(folder, images="*/*/scan.nii", labels="*/*/roi.nii")
    assert table(found, folder) == {
        "p1_v1": (["p1/v1/scan.nii"], "p1/v1/roi.nii"),
        "p1_v2": (["p1/v2/scan.nii"], "p1/v2/roi.nii"),
    }
    assert [case.group for case in found.cases] == ["p1", "p1"]
    assert problems(found) == [("p2_v1", "scan.nii"), ("p3_v1", "roi.nii")]


@pytest.mark.parametrize(("images", "labels"), [("*/CT*", "*/mask*"), ("*/CT.*", "*/mask.*")])
def test_suffixes_are_no_part_of_a_name(write_tree: Callable[..., Path], images: str, labels: str) -> None:
    folder = write_tree(*(f"{case}/{name}.nii.gz" for case in ("P.1", "P.2") for name in ("CT", "mask")))
    found = find_cases(folder, images=images, labels=labels)
    assert [case.case_id for case in found.cases if case.label] == ["P.1", "P.2"]


def test_patterns_of_any_depth(write_tree: Callable[..., Path]) -> None:
    folder = write_tree("a_x.nii", "b/c_x.nii", "a_y.nii", "b/c_y.nii")
    found = find_cases(folder, images="**/*_x.nii", labels="**/*_y.nii")
    assert table(found, folder) == {"a": (["a_x.nii"], "a_y.nii"), "b_c": (["b/c_x.nii"], "b/c_y.nii")}


def test_images_pattern_selects_among_what_is_found(write_tree: Callable[..., Path]) -> None:
    names = [f"S{p}/{kind}_{what}.nii" for p in (1, 2) for kind in ("CT", "PT") for what in ("image", "mask")]
    folder = write_tree(*names)
    found = find_cases(folder, images="*/PT_image.nii")
    assert table(found, folder) == {f"S{p}_PT": ([f"S{p}/PT_image.nii"], f"S{p}/PT_mask.nii") for p in (1, 2)}
    assert found.notes == ("only the images that match '*/PT_image.nii'",)
    channels = find_cases(write_tree("B/B_t1.nii", "B/B_t2.nii", "B/B_seg.nii"), images="*/*_t2.nii")
    assert channels.channels == ("t2",)


def test_patterns_that_cannot_be_used(write_tree: Callable[..., Path]) -> None:
    folder = write_tree("a/image.nii", "a/mask.nii")
    with pytest.raises(ConfigError, match="--images"):
        find_cases(folder, labels="*/mask.nii")
    with pytest.raises(ConfigError, match="equally many"):
        find_cases(folder, images="*/*.nii", labels="*/mask.nii")
    for option in ({"images": "*/x.nii"}, {"images": "*/x.nii", "labels": "*/mask.nii"}):
        with pytest.raises(SourceError, match=r"--images '\*/x.nii' matches nothing; there are: a/image.nii"):
            find_cases(folder, **option)
    with pytest.raises(SourceError, match="--labels"):
        find_cases(folder, images="*/image.nii", labels="*/y.nii")


# Nothing to be found


def test_nothing_found_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("nothing")
    with pytest.raises(SourceError) as caught:
        find_cases(tmp_path / "data")
    message = str(caught.value)
    assert all(word in message for word in ("dataset.json", "NIfTI", "DICOM", "cases.csv"))
    assert "\n" not in message
    with pytest.raises(SourceError, match="no such file"):
        find_cases(tmp_path / "nothing")


def test_labels_that_are_needed_and_missing(write_tree: Callable[..., Path]) -> None:
    with pytest.raises(SourceError, match="2 images but no label maps"):
        find_cases(write_tree("a.nii", "b.nii"), labelled=True)


# Real data


def test_real_layouts(real_data: Path) -> None:
    hippocampus = find_cases(real_data / "hippocampus", labelled=True)
    assert len(hippocampus.cases) == 208
    assert hippocampus.labels is not None and hippocampus.labels.names == ["Anterior", "Posterior"]
    assert hippocampus.channels == ("MRI",)
    membrane = find_cases(real_data / "membrane")
    assert len(membrane.cases) == 24 and all(case.label for case in membrane.cases)
    nuclei = find_cases(real_data / "nuclei")
    assert [case.case_id for case in nuclei.cases] == ["2d", "3d"]
    for found in (hippocampus, membrane, nuclei):
        assert not found.problems


def test_real_patients_with_three_kinds_of_images(real_data: Path) -> None:
    folder = real_data / "sarcoma" / "nifti"
    images, masks = list(folder.glob("*/*_image.nii.gz")), list(folder.glob("*/*_mask.nii.gz"))
    found = find_cases(folder)
    assert len(found.cases) == len(images)
    assert len(found.problems) == len(masks) - len(images)
    assert len({case.group for case in found.cases}) == 14
    assert found.cases[0].case_id == "STS_001_CT" and found.cases[0].group == "STS_001"
    assert found.notes == (
        "3 kinds of images (CT, MR_T1, PET), each with its own mask: each pair is one case; take one kind "
        "with --images '*/CT_image.nii.gz'",
        "taken for one patient by their names, and never on both sides of a split: STS_001 (3 cases), STS_002 (3 "
        "cases), STS_003 (3 cases) and 10 more; a cases.csv with the column group says otherwise",
    )


def test_real_dicom_studies(real_data: Path) -> None:
    study = find_cases(real_data / "dicom_studies" / "hippocampus_study")
    assert [case.case_id for case in study.cases] == [
        "12-T1post-05670",
        "13_HCropVolume",
        "34909-T1prereg-84610",
        "36459-FLAIRreg-76244",
        "37916-T2reg-88910",
    ]
    assert study.channels == ("MR",)


def test_real_dicom_studies_with_rtstructs(real_data: Path) -> None:
    found = find_cases(real_data / "sarcoma" / "dicom")
    assert found.layout == "DICOM studies with segmentations" and not found.problems
    assert len(found.cases) == 9
    assert {case.group for case in found.cases} == {"STS_001", "STS_002", "STS_003"}
    for case in found.cases:
        assert case.label is not None
        assert case.label.path.parent.parent == case.images[0].path.parent
    assert found.labels is not None and found.labels.names == ["GTV_Mass_CT", "GTV_Mass_MR_T1", "GTV_Mass_PET"]
    assert any("GTV_Mass_CT (3 of 9 cases)" in note and "--rename" in note for note in found.notes)
    assert any("CT (3), MR (3), PT (3)" in note for note in found.notes)
    renamed = find_cases(real_data / "sarcoma" / "dicom", rename={"GTV*": "tumour"})
    assert renamed.labels is not None and renamed.labels.names == ["tumour"]


def test_a_case_that_misses_a_channel_does_not_change_the_others(
    tmp_path: Path, write_tree: Callable[..., Path]
) -> None:
    names = [f"{case}_{channel:04d}.nii" for case in "abc" for channel in (0, 1)]
    folder = write_tree(*(name for name in names if name != "b_0001.nii"))
    found = find_cases(folder)
    assert {case.case_id: len(case.images) for case in found.cases} == {"a": 2, "c": 2}
    assert [problem.case_id for problem in found.problems] == ["b"]


@pytest.mark.parametrize("annotated", [1, {"liver": 1}, ["liver", 2], ";"])
def test_annotated_labels_that_are_no_names_are_refused(write_tree: Callable[..., Path], annotated: object) -> None:
    folder = write_tree("a.nii", "b.nii")
    entry = {"image": "a.nii", "label": "b.nii", "annotated": annotated}
    write_json(folder / "dataset.json", {"labels": {"liver": 1}, "training": [entry]})
    with pytest.raises(SourceError, match=r"dataset.json: 'annotated' has to be a list of names of labels"):
        find_cases(folder)
