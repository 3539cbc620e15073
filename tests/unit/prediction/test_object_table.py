"""The table of objects that predict writes beside the object map."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from medseg.dataset.cases import Case
from medseg.instances.grouping import Objects
from medseg.io.discover import source_of
from medseg.io.read import read_geometry
from medseg.labels import Labels
from medseg.prediction.case_objects import write_object_table
from medseg.table import read_table


def test_each_object_has_a_row_with_its_label_and_confidence(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    object_map = np.zeros((8, 7, 6), np.uint16)
    object_map[1:3, 1:4, 2:4], object_map[5:8, 2:4, 1:3] = 1, 2
    image = np.random.default_rng(0).normal(50, 9, object_map.shape).astype(np.float32)
    path = write_image(tmp_path / "scan.nii.gz", image, np.diag([0.5, 0.5, 2, 1]))
    case = Case("scan", (source_of(path),))
    objects = Objects(object_map, np.array([2, 1]), np.array([12, 12]), np.array([0.75, 0.5], np.float32))
    labels = Labels.from_names({"cell": 7, "nucleus": 9}).with_instances(["cell", "nucleus"])
    written = write_object_table(tmp_path / "objects", case, objects, labels, read_geometry(case.images[0]))
    assert written.name == "scan.csv"
    first, second = read_table(written, "")
    assert (first["label"], second["label"]) == ("nucleus", "cell")
    assert (first["confidence"], first["volume_mm3"], first["touches_border"]) == ("0.75", "6", "0")
    assert second["touches_border"] == "1"
    assert float(first["mean_channel_0"]) == np.round(image[object_map == 1].mean(), 4)
