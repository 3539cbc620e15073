"""Structures of any name are written in every format, and their true names are inside or beside."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import FORMATS, write_mask
from medseg.io.read import segments_of
from medseg.labels import Labels

KEPT = ["x" * 300, "x" * 299 + "y", "肝" * 120, "肝" * 119 + "臓", "..", ".", "a/b", "a\\b", "con", "NUL", "Liver",
        "liver", 'a:b*?<>|"', "a:=b", "é", "e\u0301", "~^|", "-", "y" * 63 + " (2)"]  # fmt: skip
CHANGED = {"a\tb\x01c": "a b c", "two\nlines": "two lines", "n\0ul": "n ul"}
NAMES = [*KEPT, *CHANGED]


@pytest.fixture
def hostile(balls: LabelMapVolume) -> LabelMapVolume:
    """A block of each of many names."""
    label_map = np.zeros_like(balls.label_map)
    for i in range(len(NAMES)):
        x, y = 8 * (i % 5) + 1, 7 * (i // 5) + 1
        label_map[x : x + 5, y : y + 4, 3:7] = i + 1
    return replace(balls, label_map=label_map, labels=Labels.from_names({name: i + 1 for i, name in enumerate(NAMES)}))


@pytest.mark.parametrize("name", FORMATS)
def test_every_name_is_written_and_kept(name: str, hostile: LabelMapVolume, tmp_path: Path) -> None:
    written = write_mask(FORMATS[name], FORMATS[name].path(tmp_path, "case"), hostile)
    assert written.certificate.passed
    if FORMATS[name].is_folder:
        table = json.loads((written.path / "names.json").read_text(encoding="utf-8"))
        assert list(table.values()) == NAMES
        assert [written.path / file for file in table] == list(written.files[:-1])
        assert len({file.casefold() for file in table}) == len(NAMES)
        assert {path.name for path in written.path.iterdir()} == {*table, "names.json"}
    elif name != "nifti":
        assert [segment.name for segment in segments_of(written.path)] == [*KEPT, *CHANGED.values()]


@pytest.mark.parametrize("name", ["nifti-per-label", "stl"])
def test_usual_names_need_no_table(name: str, balls: LabelMapVolume, tmp_path: Path) -> None:
    written = write_mask(FORMATS[name], FORMATS[name].path(tmp_path, "case"), balls)
    assert {path.stem.split(".")[0] for path in written.path.iterdir()} == {"liver", "kidney_left"}
