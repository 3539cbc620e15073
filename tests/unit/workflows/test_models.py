"""medseg models: what lies on the disk, and what is known of a model."""

import json
from pathlib import Path

import pytest
from nnunet_folder import checkpoint, plans, state, write
from typer.testing import CliRunner

import medseg
from medseg.cli.main import app
from medseg.inferers.model_record import read_model_record, write_model_record

WIDE = {"COLUMNS": "300", "TERM": "dumb"}
TOLD = {"licence": "CC-BY-SA 4.0", "reference": "Doe et al. 2020", "description": "Livers of 30 people"}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained folder of nnU-Net, a model made of it, and a damaged one."""
    source = write(tmp_path / "results" / "Dataset004" / "nnUNetTrainer__nnUNetPlans__3d_fullres", dataset=TOLD)
    (source / "fold_0" / "validation").mkdir()
    summary = {"mean": {"1": {"Dice": 0.95}, "2": {"Dice": 0.6}}}
    (source / "fold_0" / "validation" / "summary.json").write_text(json.dumps(summary))
    medseg.import_model(source, tmp_path / "work" / "liver")
    (tmp_path / "work" / "damaged").mkdir()
    (tmp_path / "work" / "damaged" / "model.json").write_text("{")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    return tmp_path


def test_models_are_found_here_and_where_nnunet_keeps_its(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = medseg.list_models()
    assert [(each.program, each.name, each.is_medseg) for each in found] == [
        ("nnU-Net", "Dataset004_Liver", True), ("nnU-Net", "Dataset004_Liver", False),
    ]  # fmt: skip
    assert {each.structures for each in found} == {("liver", "tumour")}
    assert {each.licence for each in found} == {"CC-BY-SA 4.0"}
    assert "damaged" in capsys.readouterr().err
    assert medseg.list_models([places / "results"]) == found[1:]
    with pytest.raises(medseg.SourceError, match="nowhere: is no folder"):
        medseg.list_models([places / "nowhere"])


def test_the_card_tells_what_is_known(places: Path) -> None:
    card = medseg.model_card(places / "work" / "liver")
    assert (card.made_by, card.networks, card.dims, card.training_cases) == ("nnU-Net", 1, 3, 30)
    assert (card.spacing, card.patch_size, card.labels) == ((1.5, 1.5, 5), (24, 16, 8), {1: "liver", 2: "tumour"})
    assert card.channels[0].usual == (-150, 350)
    assert [(each.label, each.dice, each.by) for each in card.measured] == [
        ("liver", 0.95, "nnU-Net"), ("tumour", 0.6, "nnU-Net"),
    ]  # fmt: skip
    assert card.parameters == sum(t.numel() for n, t in state().items() if not n.startswith("decoder.encoder")
                                  and "all_modules" not in n)  # fmt: skip


def test_what_medseg_measured_comes_first(places: Path) -> None:
    folder = places / "work" / "liver"
    labels = {"liver": {"cases": 7, "metrics": {"dice": {"mean": 0.9}}}, "tumour": {"cases": 0, "metrics": {}}}
    record = read_model_record(folder).model_copy(update={"metrics": {"validation": {"labels": labels}}})
    write_model_record(folder, record)
    measured = medseg.model_card(folder).measured
    assert [(each.label, each.dice, each.cases, each.by) for each in measured] == [
        ("liver", 0.9, 7, "medseg"), ("tumour", None, 0, "medseg"),
    ]  # fmt: skip


def test_the_commands_show_it(places: Path) -> None:
    shown = CliRunner().invoke(app, ["models"], env=WIDE).output
    assert "nnU-Net, to import" in shown and "liver, tumour" in shown and "CC-BY-SA 4.0" in shown
    shown = CliRunner().invoke(app, ["models", "show", "liver"], env=WIDE).output
    assert shown.count("training cases") == 1
    for text in (
        "Doe et al. 2020",
        "Livers of 30 people",
        "1.5×1.5×5 mm",
        "1 liver, 2 tumour",
        "liver: 0.9500 (by nnU-Net)",
    ):
        assert text in shown
    content = json.loads(CliRunner().invoke(app, ["models", "show", "liver", "--json"], env=WIDE).output)
    assert content["origin"]["licence"] == "CC-BY-SA 4.0"
    assert "not said" in CliRunner().invoke(app, ["models", "show", str(unlicensed(places))], env=WIDE).output


def unlicensed(places: Path) -> Path:
    source = write(places / "unlicensed", plans(), folds={"0": checkpoint(state())})
    return medseg.import_model(source, places / "work" / "unlicensed")
