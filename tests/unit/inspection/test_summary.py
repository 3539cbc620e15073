"""As few lines as fit on a screen."""

from typing import Any

import numpy as np

from medseg.inspection.series import edges
from medseg.inspection.summary import image_rows, label_rows


def test_a_few_images_have_a_line_each(study: Any, look: Any) -> None:
    study.add("a")
    rows = list(image_rows(look(study.folder)))
    assert [(row.heading, row.name) for row in rows] == [
        ("images/", "a.nii.gz"),
        ("labels/", "a.nii.gz (label map)"),
    ]
    assert (rows[0].format, rows[0].voxels, rows[0].spacing, rows[0].axes) == (
        "NIfTI",
        "24×20×12",
        "0.977×0.977×3",
        "LPS",
    )


def test_many_images_are_put_together_by_folder(study: Any, look: Any, affine: np.ndarray) -> None:
    for i in range(25):
        study.add(f"case_{i}", affine=affine @ np.diag([1, 1, 1 + i % 2, 1]))
    rows = list(image_rows(look(study.folder)))
    assert [(row.heading, row.name, row.spacing) for row in rows] == [
        ("images/", "25 images", "0.977×0.977×3–6"),
        ("labels/", "25 label maps", "0.977×0.977×3–6"),
    ]


def test_files_of_one_name_in_many_folders_are_put_together(study: Any, look: Any, tmp_path: Any) -> None:
    study.add("a")
    for i in range(25):
        folder = tmp_path / f"other/patient_{i}"
        folder.mkdir(parents=True)
        for path, name in ((study.image("a"), "CT.nii.gz"), (study.label("a"), "CT_mask.nii.gz")):
            (folder / name).write_bytes(path.read_bytes())
    rows = list(image_rows(look(tmp_path / "other")))
    assert [row.name for row in rows] == ["CT.nii.gz: 25 images", "CT_mask.nii.gz: 25 label maps"]


def test_oddities_of_many_are_counted(study: Any, look: Any, affine: np.ndarray) -> None:
    for i in range(25):
        study.add(f"case_{i}", affine=affine @ np.diag([900, 1, 1, 1]) if i < 3 else affine)
    rows = list(image_rows(look(study.folder)))
    assert rows[0].odd == ("is 21.1 m long (3 of them)",)


def test_labels_tell_their_spread(study: Any, look: Any, shape: Any) -> None:
    study.add("a")
    study.add("b", label_map=np.ones(shape, np.uint8))
    found = look(study.folder)
    first, second = label_rows(found)
    voxel_ml = found.cases[0].volumes_ml["label_2"] / 72
    assert (first.n_cases, second.n_cases, first.unit) == (2, 1, "ml")
    np.testing.assert_allclose(first.amounts, np.array([(1272 + 5760) / 2, 1272, 5760]) * voxel_ml)


def test_ranges_are_in_order_of_their_numbers() -> None:
    assert edges([(9, 512, 3), (10, 512, 1024)]) == "9–10×512×3–1024"
    assert edges([]) == ""
