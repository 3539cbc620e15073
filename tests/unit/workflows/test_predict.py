from dataclasses import replace
from pathlib import Path

import pytest
from model_records import record_of

from medseg.dataset.cases import Case
from medseg.dataset.channel_order import tell_channels
from medseg.inferers.model_record import ModelRecord
from medseg.io.source import ImageSource
from medseg.labels import Labels
from medseg.plan import Plan
from medseg.prediction.case_writing import case_warnings


@pytest.fixture
def record(tiny_plan: Plan) -> ModelRecord:
    labels = Labels.from_names({"liver": 1, "spleen": 2})
    return record_of(tiny_plan, labels, ("MRI",))


def test_another_modality_and_missing_labels_are_warned_of(record: ModelRecord) -> None:
    source = ImageSource("dicom", Path("series"), (Path("a"),), modality="CT")
    case = Case("a", (source,))
    assert list(case_warnings(case, record, {"liver": 3, "spleen": 0})) == [
        "the image is CT, the model was trained on MRI",
        "no voxel of spleen was found",
    ]
    for modality in ("MR", ""):
        assert not list(case_warnings(Case("a", (replace(source, modality=modality),)), record, {"liver": 1}))


def test_channels_of_other_names_are_told_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    trained = ("flair", "t1", "t1ce", "t2")
    tell_channels(trained, trained)
    tell_channels(("image",), ("CT",))
    tell_channels(("image",), trained)  # one file with all channels
    assert capsys.readouterr().err == ""
    tell_channels(("t1c", "t1n", "t2f", "t2w"), trained)
    assert "t1c as flair, t1n as t1, t2f as t1ce, t2w as t2" in " ".join(capsys.readouterr().err.split())
