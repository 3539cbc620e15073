import html
import json
import re
import shlex
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from medseg.cli.main import app
from medseg.workflows.evaluate import evaluate


class Addresses(HTMLParser):
    """Everything that a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href") and value:
                (self.linked if tag == "a" else self.loaded).append(value)


def spoilt(blobs: Path, folder: Path) -> Path:
    """The reference of each case as its prediction, one more slice wrong each time; the last case is missing."""
    folder.mkdir()
    for i, path in enumerate(sorted((blobs / "labels").glob("*.nii.gz"))[:-1]):
        image = nibabel.load(path)
        label_map = np.asarray(image.dataobj).copy()
        label_map[:, :, : 3 + i] = 0
        nibabel.save(nibabel.Nifti1Image(label_map, image.affine), folder / path.name)
    return folder


@pytest.fixture(scope="module")
def evaluated(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    evaluate(spoilt(blobs, folder / "masks"), blobs, folder / "metrics", metrics=["overlap"], workers=1)
    return folder / "metrics"


def test_the_report_is_one_file(evaluated: Path) -> None:
    page = (evaluated / "report.html").read_text()
    addresses = Addresses()
    addresses.feed(page)
    assert addresses.loaded
    assert all(address.startswith("data:image/png;base64,") for address in addresses.loaded)
    assert "<script" not in page
    assert not re.search(r"@import|url\(", page)
    assert {"metrics.json", "metrics.csv"} <= set(addresses.linked)


def test_worst_and_median_cases_are_shown_in_three_planes(evaluated: Path) -> None:
    page = (evaluated / "report.html").read_text()
    shown = re.findall(r"<h3>(\S+) <span class=\"tag\">([^<]+)", page)
    assert [why for _, why in shown] == ["worst", "second worst", "third worst", "median"]
    cases = json.loads((evaluated / "metrics.json").read_text())["cases"]
    dice = {case: np.mean([label["dice"] for label in labels.values()]) for case, labels in cases.items()}
    assert [case for case, _ in shown] == sorted(dice, key=dice.__getitem__)[:4]
    for plane in ("axial", "coronal", "sagittal"):
        assert page.count(f"<figcaption>{plane}") == 4
    assert 'class="prediction"' in page
    assert 'class="reference"' in page


def test_what_is_missing_is_said(evaluated: Path) -> None:
    page = (evaluated / "report.html").read_text()
    assert "Counted as missed" in page
    assert "<b>blob_05</b>" in page


def test_numbers_are_those_of_metrics_json(evaluated: Path) -> None:
    content = json.loads((evaluated / "metrics.json").read_text())
    page = (evaluated / "report.html").read_text()
    for label in content["summary"]["labels"].values():
        assert f"<b>{label['metrics']['dice']['mean']:.3f}</b>" in page


def test_names_are_no_markup(blobs: Path, tmp_path: Path) -> None:
    masks = spoilt(blobs, tmp_path / "masks")
    (masks / "predictions.json").write_text(
        json.dumps(
            {
                "medseg": "<script>alert(1)</script>",
                "labels": {
                    "items": [
                        {"name": "<b>bold</b>", "value": 2, "colour": [1, 2, 3]},
                        {"name": "core", "value": 5, "colour": [1, 2, 3]},
                    ]
                },
                "cases": [],
            }
        )
    )
    evaluate(masks, blobs, tmp_path / "metrics", metrics=["dice"], workers=1)
    page = (tmp_path / "metrics" / "report.html").read_text()
    assert "<script" not in page
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold" in page


def test_without_images_there_are_still_outlines(blobs: Path, tmp_path: Path) -> None:
    evaluate(spoilt(blobs, tmp_path / "masks"), blobs / "labels", tmp_path / "metrics", metrics=["dice"], workers=1)
    page = (tmp_path / "metrics" / "report.html").read_text()
    assert "image was not found" in page
    assert page.count('class="reference"') >= 9


def test_each_case_says_how_it_is_opened_in_slicer(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(evaluated)
    page = html.unescape((evaluated / "report.html").read_text())
    command = re.search(r"medseg (view .+ --slicer \S+\.mrb)", page)
    assert command is not None
    result = CliRunner().invoke(app, [*shlex.split(command[1])[:-1], str(evaluated / "opened.mrb")])
    assert result.exit_code == 0, result.output
    assert zipfile.is_zipfile(evaluated / "opened.mrb")
