"""The report: one file, and what is drawn in its pictures."""

import base64
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Raises for tags that are not closed in order; collects what is loaded from elsewhere."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.open += [tag] if tag not in VOID else []
        self.loaded += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @property
    def pictures(self) -> list[np.ndarray]:
        decoded = [base64.b64decode(uri.partition(",")[2]) for uri in self.loaded]
        return [np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int) for content in decoded]


def test_a_page_needs_nothing_but_itself(study: Any, look: Any, tmp_path: Path) -> None:
    study.add("a")
    study.add("b", label_affine=np.eye(4))
    look(study.folder, html=tmp_path / "new/report.html")
    page = Page(tmp_path / "new/report.html")
    assert len(page.loaded) == 2
    assert all(uri.startswith("data:image/png;base64,") for uri in page.loaded)
    assert not re.search(r"<script|@import|url\(|https?://", page.text)
    assert "prefers-color-scheme: dark" in page.text
    for told in ("label_1", "--fix copies it from there", "24×20×12", "0.977×0.977×3 mm, LPS"):
        assert told in page.text


def test_labels_are_laid_over_the_image_where_they_are(study: Any, look: Any, tmp_path: Path, shape: Any) -> None:
    drawn = np.zeros(shape, np.uint8)
    drawn[2:8, 2:6, 2:8] = 1  # on the patient's right and in front: above and left in the picture
    study.add("a", label_map=drawn)
    found = look(study.folder, html=tmp_path / "report.html")
    (picture,) = Page(tmp_path / "report.html").pictures
    assert found.labels.items[0].colour == (228, 26, 28)
    reddish = picture[..., 0] - picture[..., 2] > 60
    rows, columns = np.nonzero(reddish)
    height, width = reddish.shape
    assert 0.04 < reddish.mean() < 0.06  # 24 of 480 pixels
    assert rows.max() < 0.35 * height
    assert columns.max() < 0.4 * width
    assert width / height == np.round(24 / 20, 2)


def test_a_slice_with_all_labels_is_shown(study: Any, look: Any, tmp_path: Path) -> None:
    study.add("a")  # the second label lies in the middle three of seven equally full slices
    look(study.folder, html=tmp_path / "report.html")
    (picture,) = Page(tmp_path / "report.html").pictures
    assert (picture[..., 2] - picture[..., 0] > 40).any()


def test_labels_with_a_problem_are_not_laid_over(study: Any, look: Any, tmp_path: Path) -> None:
    study.add("a", label_map=np.full((24, 20, 11), 1, np.uint8))
    look(study.folder, html=tmp_path / "report.html")
    (picture,) = Page(tmp_path / "report.html").pictures
    assert (picture[..., 0] == picture[..., 2]).all()


def test_what_headers_say_is_text(tmp_path: Path, look: Any, write_slices: Callable[..., list[Path]]) -> None:
    slices = np.random.default_rng(0).integers(0, 99, (3, 8, 7)).astype(np.int16)
    write_slices(tmp_path / "study", slices, SeriesDescription="<script>alert(1)</script>")
    look(tmp_path / "study", html=tmp_path / "report.html")
    assert "&lt;script&gt;alert(1)" in Page(tmp_path / "report.html").text


def test_a_picture_that_fails_is_told(study: Any, look: Any, tmp_path: Path) -> None:
    study.add("a")
    content = bytearray(study.image("a").read_bytes())
    content[len(content) // 2] ^= 0xFF  # the size stays as it is
    study.image("a").write_bytes(content)
    found = look(study.folder, html=tmp_path / "report.html")
    assert [(finding.rule, finding.path) for finding in found.problems] == [("unreadable", study.image("a"))]
    page = Page(tmp_path / "report.html")
    assert page.loaded == []
    assert "no picture" in page.text
