"""medseg inspect as users call it, and that it calls a problem what preprocess leaves out."""

import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import nibabel
import numpy as np
import pytest

import medseg
from medseg.config import load
from medseg.errors import SourceError

WriteImage = Callable[..., Path]
WriteSlices = Callable[..., list[Path]]

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
SHAPE = (14, 12, 10)


def command(*arguments: object, columns: int = 80) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medseg", "inspect", *map(str, arguments), "--workers", "1"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": str(columns)},
    )


def label_map() -> np.ndarray:
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[3:11, 3:9, 2:8] = 100
    drawn[5:8, 5:7, 4:6] = 200
    return drawn


def add(
    folder: Path, write_image: WriteImage, name: str, image: Any = None, label: Any = None, moved: float = 0
) -> None:
    random = np.random.default_rng(crc32(name.encode()))  # hash() differs from run to run
    values = (100 + label_map() + random.normal(0, 9, SHAPE)).astype(np.float32)
    write_image(folder / f"images/{name}.nii.gz", values if image is None else image(values), AFFINE)
    affine = AFFINE.copy()
    affine[0, 3] += moved
    write_image(folder / f"labels/{name}.nii.gz", label_map() if label is None else label(label_map()), affine)


@pytest.fixture
def dataset(tmp_path: Path, write_image: WriteImage) -> Path:
    for name in "abcd":
        add(tmp_path / "dataset", write_image, name)
    return tmp_path / "dataset"


def with_value(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def changed(array: np.ndarray) -> np.ndarray:
        array = array.copy() if float(value).is_integer() else array.astype(np.float32)
        array[0, 0, 0] = value
        return array

    return changed


def test_inspect_calls_a_problem_what_preprocess_leaves_out(
    dataset: Path, write_image: WriteImage, tmp_path: Path
) -> None:
    def spoil(name: str, **how: Any) -> None:
        add(dataset, write_image, name, **how)

    spoil("nan", image=with_value(np.nan))
    spoil("channels", image=lambda array: np.stack([array] * 3, axis=-1))
    spoil("empty", label=np.zeros_like)
    spoil("stray", label=with_value(199))
    spoil("fraction", label=with_value(0.5))
    spoil("moved", moved=1.0)
    spoil("half", moved=0.5)
    spoil("almost", moved=0.04)  # accepted by both
    spoil("smaller", label=lambda array: array[:, :, 1:])
    spoil("no_label")
    (dataset / "labels/no_label.nii.gz").unlink()
    spoil("no_image")
    (dataset / "images/no_image.nii.gz").unlink()
    spoil("short")
    content = (dataset / "images/short.nii.gz").read_bytes()
    (dataset / "images/short.nii.gz").write_bytes(content[:-200])
    spoil("plain")
    (dataset / "labels/plain.nii.gz").write_bytes(gzip.decompress((dataset / "labels/plain.nii.gz").read_bytes()))
    spoil("lost")
    lost = nibabel.Nifti1Image(label_map(), None)
    lost.header["pixdim"][1:4] = (1, 1, 2)
    nibabel.save(lost, dataset / "labels/lost.nii.gz")

    found = medseg.inspect(dataset, voxels=True, workers=1)
    medseg.preprocess(dataset, tmp_path / "prepared", config=load(overrides=["preprocessing.workers=1"]))

    with (tmp_path / "prepared/problems.csv").open(newline="", encoding="utf-8") as file:
        left_out = {row["case_id"] for row in csv.DictReader(file)}
    kept = {case["case_id"] for case in json.loads((tmp_path / "prepared/dataset.json").read_text())["cases"]}
    told = {finding.case_id for finding in found.problems}
    assert kept == {"a", "b", "c", "d", "almost"}
    assert told == left_out
    assert all(finding.to_do for finding in found.problems)
    # A look at headers alone misses what only voxels tell.
    quick = {finding.case_id for finding in medseg.inspect(dataset, voxels=False, workers=1).problems}
    assert told - quick == {"nan"}


def test_what_fix_leaves_preprocess_takes(dataset: Path, write_image: WriteImage, tmp_path: Path) -> None:
    add(dataset, write_image, "stray", label=with_value(199))
    content = (dataset / "images/a.nii.gz").read_bytes()
    (dataset / "images/a.nii.gz").write_bytes(gzip.decompress(content))
    found = medseg.inspect(dataset, fix=tmp_path / "copy", workers=1)
    assert len(found.fixed.changes) == 2
    made = medseg.preprocess(
        tmp_path / "copy", tmp_path / "prepared", config=load(overrides=["preprocessing.workers=1"])
    )
    assert made.problems == ()
    assert [case.case_id for case in made.record.cases] == ["a", "b", "c", "d", "stray"]
    assert made.record.labels.values == [100, 200]


def test_json_is_all_that_stands_on_standard_output(dataset: Path, write_image: WriteImage, tmp_path: Path) -> None:
    add(dataset, write_image, "stray", label=with_value(199))
    done = command(dataset, "--no-voxels", "--json", "--html", tmp_path / "report.html", "--fix", tmp_path / "copy")
    content = json.loads(done.stdout)
    assert list(content) == [
        "medseg", "source", "layout", "channels", "labels", "patients", "files", "cases", "findings", "fixed",
    ]  # fmt: skip
    assert list(content["files"][0]) == [
        "path", "role", "case_id", "format", "modality", "description", "part", "series_uid", "n_files", "n_channels",
        "grid", "values", "segments", "odd",
    ]  # fmt: skip
    (finding,) = content["findings"]
    assert finding.items() >= {
        "severity": "problem", "rule": "stray-values", "case_id": "stray", "fixable": True,
        "path": str(dataset / "labels/stray.nii.gz"),
    }.items()  # fmt: skip
    assert content["cases"][0]["volumes_ml"] == {"label_100": 0.552, "label_200": 0.024}
    assert content["files"][0]["grid"]["spacing"] == [1, 1, 2]
    assert content["fixed"]["changes"] == [
        {
            "path": str(tmp_path / "copy/labels/stray.nii.gz"),
            "what": "values of 1 voxel",
            "before": "199",
            "after": "200",
        }
    ]
    assert content["fixed"]["findings"] == []
    assert done.returncode == 1
    assert "1 problem" in done.stderr


def test_the_exit_status_tells_of_problems(dataset: Path) -> None:
    done = command(dataset)
    assert done.returncode == 0, done.stderr
    assert "0 problems" in done.stderr
    assert f"Next: medseg preprocess {dataset} -o prepared" in done.stderr.replace("\n", "")


def test_eighty_columns_hold_a_study(tmp_path: Path, write_slices: WriteSlices) -> None:
    slices = np.random.default_rng(0).integers(0, 99, (4, 512, 512)).astype(np.int16)
    uids = ("A_LONG_PATIENT_ID_0001", "1.2.3", "1.2.3.4")
    write_slices(
        tmp_path / "study", slices, uids=uids, spacing=(0.9766, 0.9766, 3.27), StudyDate="20000907",
        StudyDescription="Thorax and abdomen, portal venous phase", SeriesDescription="Abdomen  1.5  B31f",
    )  # fmt: skip
    lines = command(tmp_path / "study").stdout.splitlines()
    assert "A_LONG_PATIENT_ID_0001 · 2000-09-07 · Thorax and abdomen, portal venous phase" in lines
    (row,) = [line.split("  ") for line in lines if "512×512×4" in line]
    assert [cell.strip() for cell in row if cell] == [
        "Abdomen",
        "1.5",
        "B31f",
        "CT",
        "512×512×4",
        "0.977×0.977×3.27",
        "LSA",
    ]
    assert max(map(len, lines)) <= 80


def test_big_datasets_are_told_in_few_lines(tmp_path: Path, write_image: WriteImage) -> None:
    for i in range(60):
        add(tmp_path, write_image, f"case_{i}", label=np.zeros_like if i % 3 else None)
    done = command(tmp_path)
    assert "60 images" in done.stdout
    assert "60 label maps" in done.stdout
    assert "and 37 more of this kind" in done.stdout
    assert len(done.stdout.splitlines()) < 30


@pytest.mark.parametrize("what", ["missing", "nothing", "no_images"])
def test_a_source_without_images_is_one_line(tmp_path: Path, what: str) -> None:
    if what != "missing":
        (tmp_path / what).mkdir()
    if what == "no_images":
        (tmp_path / what / "scan.mgz").write_bytes(b"?")
    done = command(tmp_path / what)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert ("no such file" if what == "missing" else "no images found") in (done.stdout + done.stderr).replace(
        "\n", " "
    )
    assert ("FreeSurfer files are not read" in done.stdout) == (what == "no_images")


def test_a_study_in_a_zip_is_told_by_its_place_in_it(tmp_path: Path, write_slices: WriteSlices) -> None:
    slices = np.random.default_rng(0).integers(0, 99, (4, 8, 7)).astype(np.int16)
    write_slices(tmp_path / "study/series", slices)
    archive = shutil.make_archive(str(tmp_path / "study"), "zip", tmp_path / "study")
    done = command(archive, "--json")
    assert done.returncode == 0
    assert "medseg-unpacked" not in done.stdout
    (series,) = json.loads(done.stdout)["patients"][0]["studies"][0]["series"]
    assert series["path"] == f"{archive}/series"
    assert (series["modality"], series["n_files"], series["role"]) == ("CT", 4, "image")


def test_a_single_image_can_be_inspected(dataset: Path) -> None:
    found = medseg.inspect(dataset / "images/a.nii.gz")
    assert [series.grid.shape for series in found.series] == [SHAPE]
    assert found.findings == ()
    with pytest.raises(SourceError, match="no such file"):
        medseg.inspect(dataset / "images/z.nii.gz")


@pytest.mark.skipif(os.name == "nt", reason="names of files are text on Windows")
@pytest.mark.parametrize("option", ["--json", "--voxels"])
def test_any_terminal_shows_any_name(tmp_path: Path, write_image: WriteImage, option: str) -> None:
    write_image(tmp_path / os.fsdecode(b"Gr\xf6\xdfe [bold].nii.gz"), np.ones(SHAPE, np.int16))
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "80"}
    arguments = [sys.executable, "-m", "medseg", "inspect", str(tmp_path), option, "--workers", "1"]
    done = subprocess.run(arguments, capture_output=True, env=ascii_only, timeout=60)
    assert done.returncode == 0, done.stderr
    assert b"e [bold].nii.gz" in done.stdout
    if option == "--json":
        (image,) = json.loads(done.stdout)["files"]
        assert Path(image["path"]).is_file()


@pytest.mark.slow
def test_real_archives(real_data: Path) -> None:
    for name in ("sarcoma/dicom", "dicom_studies", "dicom_seg", "hippocampus", "membrane", "nuclei", "dicom_reference"):
        done = command(real_data / name)
        assert done.returncode in (0, 1)
        assert "Traceback" not in done.stderr
        assert len(done.stdout.splitlines()) < 120
