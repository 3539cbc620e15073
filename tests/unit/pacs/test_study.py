"""One study, as a script or as a module of mercure and MONAI Deploy has it."""

import json
from pathlib import Path

import pytest
from dicom_kinds import KINDS, write_kind
from model_records import record_of
from typer.testing import CliRunner

import medseg
from medseg.cli.main import app
from medseg.errors import ConfigError, SourceError
from medseg.inferers.model import save_model
from medseg.networks.registry import build_network
from medseg.plan import Plan


@pytest.fixture
def run(tmp_path: Path, tiny_plan: Plan) -> Path:
    record = record_of(tiny_plan, {"liver": 1}, ("CT",))
    save_model(tmp_path / "run" / "model", record, build_network(1, 2, tiny_plan.architecture).state_dict())
    return tmp_path / "run"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for name in ("CT", "MR"):
        write_kind(tmp_path / "study" / name, KINDS[name], StudyInstanceUID="1.2.3")  # type: ignore[arg-type]
    return tmp_path / "study"


def test_a_module_of_mercure(run: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"formats": ["rtstruct", "dicom-seg"], "rules": [{"model": "run", "series": {"modality": "CT"}}]}
    (study / "task.json").write_text(json.dumps({"process": [{"module_name": "medseg", "settings": settings}]}))
    monkeypatch.setenv("MERCURE_IN_DIR", str(study))
    monkeypatch.setenv("MERCURE_OUT_DIR", str(tmp_path / "out"))
    result = medseg.study([run], device="cpu")
    assert result.problems == ()
    names = {path.name.partition(".")[2] for path in (tmp_path / "out").glob("run_*")}
    assert names == {"seg.dcm", "rtstruct.dcm"}
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert told["__mercure_notification"]["text"] == "2 masks written"
    assert list(told["volumes_ml"].values()) == [result.predictions[0].volumes_ml]


@pytest.mark.slow
def test_an_application_of_monai_deploy(
    run: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLOSCAN_INPUT_PATH", str(study))
    monkeypatch.setenv("HOLOSCAN_OUTPUT_PATH", str(tmp_path / "out"))
    done = CliRunner().invoke(app, ["study", "--model", f"liver={run}", "--device", "cpu"], catch_exceptions=False)
    assert done.exit_code == 0
    assert [path.name.partition("_")[0] for path in (tmp_path / "out").iterdir()] == ["liver"]


def test_a_dry_run_writes_nothing(run: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    result = medseg.study({"liver": run}, study, dry_run=True)
    assert [choice.model for choice in result.plan.choices] == ["liver"]
    assert result.predictions == ()
    assert set(tmp_path.rglob("*")) == before


def test_masks_are_sent_to_where_they_are_taken(study: Path, tmp_path: Path) -> None:
    result = medseg.send(study, str(tmp_path / "there"))
    assert len(result.sent) == len(list((tmp_path / "there").glob("*.dcm"))) == 40
    with pytest.raises(SourceError, match="no DICOM"):
        medseg.send(tmp_path / "run", str(tmp_path / "there"))
    refused = medseg.send(study / "CT" / "000", "PACS@127.0.0.1:9", tries=1)
    assert "does not answer" in refused.problems[0].message


def test_without_a_study(run: Path, study: Path) -> None:
    with pytest.raises(ConfigError, match="MERCURE_IN_DIR"):
        medseg.study([run])
    with pytest.raises(ConfigError, match="with -o"):
        medseg.study([run], study)
