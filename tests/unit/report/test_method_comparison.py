import json
import re
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medseg.labels import Labels
from medseg.report.slices import disagreement_slices
from medseg.volume import Geometry
from medseg.workflows.evaluate import evaluate

Cut = Callable[[int], int]


def predict(blobs: Path, folder: Path, cut: Cut, n: int = 5) -> Path:
    """The references of ``n`` cases without their first slices, as many as ``cut`` says of a case."""
    folder.mkdir(parents=True)
    for i, path in enumerate(sorted((blobs / "labels").glob("*.nii.gz"))[:n]):
        image = nibabel.load(path)
        label_map = np.asarray(image.dataobj).copy()
        label_map[:, :, : cut(i)] = 0
        nibabel.save(nibabel.Nifti1Image(label_map, image.affine), folder / path.name)
    return folder


@pytest.fixture(scope="module")
def compared(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """good, bad (worst in case 3, lacks case 5), and two seeds."""
    folder = tmp_path_factory.mktemp("compared")
    predict(blobs, folder / "good", lambda i: 4, n=6)
    predict(blobs, folder / "bad", lambda i: 7 if i == 3 else 5)
    for seed in (1, 2):
        predict(blobs, folder / "seeds" / str(seed), lambda i, seed=seed: 3 + seed)  # type: ignore[misc]
    methods = [folder / name for name in ("good", "bad", "seeds")]
    evaluate(methods, blobs, folder / "out", metrics=["dice", "iou"], workers=1)
    return folder / "out"


def test_the_page_is_one_file(compared: Path) -> None:
    page = (compared / "report.html").read_text()
    assert "<script" not in page
    assert not re.search(r"@import|url\(|<link|<image href=\"(?!data:image/png;base64,)", page)
    for name in ("good", "bad", "seeds/1", "seeds/2"):
        assert f'href="{name}/report.html"' in page
        assert (compared / name / "report.html").is_file()


def test_ranking_and_differences_are_those_of_the_json(compared: Path) -> None:
    page = (compared / "report.html").read_text()
    contest = json.loads((compared / "comparison.json").read_text())["metrics"]["dice"]["over_labels"]
    for standing in contest["standings"].values():
        low, high = standing["interval"]
        assert low <= standing["mean"] <= high
        assert f"<b>{standing['mean']:.4f}</b>" in page
        assert f"{low:.4f}–{high:.4f}" in page
    for difference in contest["differences"]:
        assert f"{difference['mean']:+.4f}" in page
        assert f"<b>{difference['p_holm']:.2g}</b>" in page
    assert f"A difference under {contest['differences'][0]['noise']:.4f} between good and bad is noise here" in page


def test_the_case_in_which_they_differ_most_comes_first(compared: Path) -> None:
    page = (compared / "report.html").read_text()
    shown = re.findall(r"<h3>(blob_\d\d) <small>", page)
    assert shown[0] == "blob_05"  # which has no prediction in three of them
    assert len(shown) == 3
    for outlines in ("reference", "method-0", "method-1", "method-2"):
        assert f'<path class="{outlines}"' in page


def test_what_is_missing_is_said(compared: Path) -> None:
    page = (compared / "report.html").read_text()
    assert "bad, <b>blob_05</b>" in page
    assert "blob_05.nii.gz: has no prediction of that name in" in page
    assert "counts as missed" in page


def test_predictions_that_are_the_same_have_a_page(blobs: Path, tmp_path: Path) -> None:
    methods = [predict(blobs, tmp_path / name, lambda i: 2, n=2) for name in "ab"]
    evaluate(methods, blobs, tmp_path / "out", metrics=["hd95_mm"], cases=["blob_00", "blob_01"], workers=1)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Where they differ most" not in page
    assert "name a folder of several seeds" in page


def test_labels_that_one_method_misses_have_a_page(blobs: Path, tmp_path: Path) -> None:
    methods = [
        predict(blobs, tmp_path / "none", lambda i: 12 if i else 4, n=2),
        predict(blobs, tmp_path / "some", lambda i: 3, n=2),
    ]
    evaluate(methods, blobs, tmp_path / "out", metrics=["hd95_mm"], workers=1)
    assert re.search(r"<h3>blob_01 <small>HD95, mm none –, some", (tmp_path / "out" / "report.html").read_text())


def test_slices_show_where_methods_differ_from_each_other() -> None:
    reference = np.zeros((12, 12, 12), np.uint8)
    reference[4:8, 4:8, 2:10] = 1
    first, second = reference.copy(), reference.copy()
    first[:, :, 2:4] = second[:, :, 2:4] = 0  # both are wrong here: no disagreement
    second[4:8, 4:6, 8] = 0
    colours = [(1, 2, 3), (4, 5, 6)]
    axial = disagreement_slices(
        None,
        {"a": first, "b": second},
        reference,
        Geometry((12, 12, 12), np.eye(4)),
        Labels.from_names({"liver": 1}),
        colours,
    )[0]
    assert axial.number == 4  # counted from the top
    assert axial.n_wrong == 8
    assert [(each.of, each.by) for each in axial.outlines] == [("reference", ""), ("method-0", "a"), ("method-1", "b")]
    assert axial.outlines[1].colour == colours[0]
