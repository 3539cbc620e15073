"""TotalSegmentator's tasks as recipes, of weights that are drawn, in folders as its program keeps them."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from scipy import ndimage
from totalsegmentator_weights import write_weights
from typer.testing import CliRunner

import medseg
from medseg.cli.main import app
from medseg.device import choose_device
from medseg.errors import ConfigError, ModelError, OutputError
from medseg.inferers.case_stream import predict_logits
from medseg.inferers.model import load_model
from medseg.inferers.recipe import read_recipe
from medseg.interop.totalsegmentator.importer import ROUGH, import_totalsegmentator
from medseg.interop.totalsegmentator.tasks import complete_tasks, labels_of, read_tasks, usual_weights_folder
from medseg.terminology import PRIVATE
from medseg.transforms.interpolation import NearestAxes
from medseg.transforms.prepared import prepare
from medseg.transforms.restoring import restore_label_map
from medseg.workflows.models import list_models, model_card

TABLES = read_tasks()


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).normal(0, 150, (40, 36, 14)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.6, -1.6, 4, 1])), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_the_tables_fit_together() -> None:
    for name, task in TABLES.tasks.items():
        for variant in task.variants.values():
            short = [TABLES.short_name(dataset) for dataset in variant.datasets]
            assert len(set(short)) == len(short)
            if len(variant.datasets) > 1:
                given = [label for each in variant.datasets for label in TABLES.values_of(name, each)]
                assert set(given) == set(task.labels)
        finds = set(task.crop.labels if task.crop else ()) | set(task.within.labels if task.within else ())
        if finds and task.crop.task is None and not finds & {"body_trunc"}:
            rough, _ = ROUGH["MR" if name.endswith("_mr") else "CT", task.crop.robust]
            assert finds <= set(TABLES.tasks[rough].labels)
        elif finds:
            assert finds <= set(TABLES.tasks[task.crop.task or "body"].labels)


@pytest.mark.parametrize("task", ["total", "total_v3", "total_mr", "body"])
def test_structures_have_their_codes_and_colours(task: str) -> None:
    labels = labels_of(TABLES.tasks[task].labels)
    uncoded = {structure.name for structure in labels.structures if structure.coding.type.scheme == PRIVATE}
    assert uncoded <= {"vertebrae_L6", "intervertebral_discs"}  # TotalSegmentator has no codes for these either
    kidney = next((each for each in labels.structures if each.name == "kidney_left"), None)
    if kidney is not None:
        assert (kidney.coding.type.value, kidney.coding.modifier.meaning, kidney.colour) == (
            "64033007", "Left", (46, 138, 184),
        )  # fmt: skip


def test_the_fast_task_is_one_model(tmp_path: Path, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_weights(tmp_path / "home", "total", "fast")
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "home"))
    assert usual_weights_folder() == tmp_path / "home" / "nnunet" / "results"
    recipe = import_totalsegmentator(None, tmp_path / "model", "total", "fast")
    assert [member.name for member in recipe.members] == ["total_3mm"]
    assert recipe.rough is None
    assert recipe.labels.values == list(range(1, 118))
    result = medseg.predict(tmp_path / "model", scan, tmp_path / "masks", device="cpu", formats=["nifti", "seg-nrrd"])
    found = result.predictions[0].label_map.label_map
    assert len(np.unique(found)) > 1
    assert not result.problems
    one = recipe.labels.items[int(found.max()) - 1]
    some = medseg.predict(tmp_path / "model", scan, device="cpu", labels=[one.name]).predictions[0]
    assert np.array_equal(some.label_map.label_map, np.where(found == one.value, found, 0))


def test_small_pieces_of_the_body_are_removed_where_its_model_sees_them(tmp_path: Path, scan: Path) -> None:
    """The program does so before the label map comes back to the grid of the scan, and of CT only."""
    for task in ("body", "body_mr"):
        write_weights(tmp_path / "home", task, "fast")
        import_totalsegmentator(tmp_path / "home", tmp_path / task, task, "fast")
    assert load_model(tmp_path / "body_mr" / "mri_body_6mm", "cpu").record.postprocessing == ()
    model = load_model(tmp_path / "body" / "body_6mm", choose_device("cpu", "fp32"))
    plan, source = model.record.plan, medseg.read_volume(scan)
    prepared = prepare(source, None, plan.grid)
    logits = predict_logits(model.network, prepared.image, plan, model.record.inference, model.device)
    found = logits.argmax(0).numpy()
    expected = np.zeros(found.shape, np.uint8)
    for label in (1, 2):
        pieces, n = ndimage.label(found == label)
        sizes = ndimage.sum_labels(np.ones(found.shape), pieces, range(1, n + 1))
        least = sizes.max() if label == 1 else 50_000 / prepared.geometry.voxel_volume_ml / 1000
        expected[np.isin(pieces, 1 + np.flatnonzero(sizes >= least))] = label
    assert 0 < np.count_nonzero(expected) < np.count_nonzero(found)
    back = restore_label_map(torch.from_numpy(expected), prepared.geometry, prepared.source, NearestAxes((0, 1, 2)))
    (prediction,) = medseg.predict(tmp_path / "body", scan, device="cpu", precision="fp32").predictions
    assert np.array_equal(prediction.label_map.label_map, back)
    assert any("on the model grid" in warning for warning in prediction.warnings)


@pytest.mark.slow
def test_parts_are_put_together_and_looked_for_roughly(
    tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for speed in ("default", "fast", "fastest"):
        write_weights(tmp_path / "home", "total", speed)
    recipe = import_totalsegmentator(tmp_path / "home", tmp_path / "model")
    assert [member.name for member in recipe.members] == [
        "total_6mm", "organs", "vertebrae", "cardiac", "muscles", "ribs", "total_3mm",
    ]  # fmt: skip
    assert recipe.fast == model_card(tmp_path / "model").fast == "total_3mm"
    assert recipe == read_recipe(tmp_path / "model")
    assert recipe.members[3].gives["aorta"] == "aorta"
    assert not recipe.members[0].gives
    (tmp_path / "model" / "ribs" / "weights.safetensors").unlink()  # not needed for what is asked
    result = medseg.predict(tmp_path / "model", scan, device="cpu", labels=["spleen", "aorta"])
    assert set(np.unique(result.predictions[0].label_map.label_map)) <= {0, 1, 52}
    assert "model: total_6mm, organs, cardiac" in capsys.readouterr().err
    fast = medseg.predict(tmp_path / "model", scan, device="cpu", fast=True)
    alone = medseg.predict(tmp_path / "model" / "total_3mm", scan, device="cpu")
    found = [each.predictions[0].label_map.label_map for each in (fast, alone)]
    assert len(np.unique(found[0])) > 1
    assert np.array_equal(*found)
    assert "model: total_3mm" in capsys.readouterr().err
    fewer = medseg.predict(tmp_path / "model", scan, device="cpu", fast=True, labels=["spleen"])
    assert set(np.unique(fewer.predictions[0].label_map.label_map)) <= {0, 1}
    with pytest.raises(ConfigError, match=r"--fast: .*total_3mm is no model of several members"):
        medseg.predict(tmp_path / "model" / "total_3mm", scan, device="cpu", fast=True)


@pytest.mark.slow
def test_a_task_looks_where_another_found_its_organs(tmp_path: Path) -> None:
    for task, speed in (("teeth", "default"), ("craniofacial_structures", "default"), ("total", "fastest")):
        write_weights(tmp_path / "home", task, speed)
    rough, face, teeth = import_totalsegmentator(tmp_path / "home", tmp_path / "model", "teeth").members
    assert (rough.gives, face.gives) == ({}, {})
    assert (face.crop.member, face.crop.labels, face.crop.margin_mm) == (rough.name, ("skull",), 20)
    assert (teeth.crop.member, teeth.crop.labels, teeth.crop.margin_mm) == (
        face.name,
        ("teeth_lower", "teeth_upper"),
        10,
    )
    plan = medseg.inferers.load_model(tmp_path / "model" / teeth.name, "cpu").record.plan
    assert (plan.grid.spacing, plan.grid.orientation, plan.grid.resampling.rule) == ((0.5, 0.5, 0.5), "RAS", "corners")


def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match=r"nowhere: holds no weights of TotalSegmentator; .*totalseg_download_weights"):
        import_totalsegmentator(None, tmp_path / "model")
    write_weights(tmp_path / "home", "total", "fast")
    with pytest.raises(ModelError, match=r"lacks Dataset291_.*which task 'total' needs.*complete are: total"):
        import_totalsegmentator(tmp_path / "home", tmp_path / "model")
    with pytest.raises(ConfigError, match="--task totel: is no task of TotalSegmentator; did you mean 'total'"):
        import_totalsegmentator(tmp_path / "home", tmp_path / "model", "totel")
    assert complete_tasks([297]) == {"total": ["fast"]}
    write_weights(tmp_path / "home", "total", "fastest", {"liver": 1})  # another model by this name
    with pytest.raises(ModelError, match="has no label of the value 2"):
        import_totalsegmentator(tmp_path / "home", tmp_path / "model", "total", "fastest")
    assert not (tmp_path / "model").exists()
    shutil.rmtree(next((tmp_path / "home" / "nnunet" / "results").glob("Dataset298_*")))
    import_totalsegmentator(tmp_path / "home", tmp_path / "model", "total", "fast")
    with pytest.raises(OutputError, match="cannot be written"):
        import_totalsegmentator(tmp_path / "home", tmp_path / "model", "total", "fast")


def test_a_licence_that_is_needed_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_weights(tmp_path / "home", "tissue_types")
    recipe = import_totalsegmentator(tmp_path / "home", tmp_path / "model", "tissue_types")
    assert "its weights are not free" in " ".join(capsys.readouterr().err.split())
    assert "non-commercial" in recipe.origin.licence


@pytest.mark.slow
def test_it_is_listed_and_has_a_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_weights(tmp_path / "home", "total", "fastest")
    write_weights(tmp_path / "home", "liver_vessels")
    medseg.import_model(tmp_path / "home", tmp_path / "model", task="liver_vessels")
    listed = {each.path: each for each in list_models([tmp_path])}
    imported = listed.pop(str(tmp_path / "model"))
    assert (imported.program, imported.structures) == ("TotalSegmentator", ("liver_vessels", "liver_tumor"))
    assert imported.is_medseg
    assert {each.program for each in listed.values()} == {"TotalSegmentator"}
    assert all(each.licence.startswith("Apache-2.0") and not each.is_medseg for each in listed.values())
    card = model_card(tmp_path / "model")
    assert [(member.name, member.gives) for member in card.members] == [("total_6mm", 0), ("HepaticVessel", 2)]
    assert card.members[1].looks == "within 20 mm of the box of what total_6mm found (liver)"
    assert CliRunner().invoke(app, ["models", "show", str(tmp_path / "model")]).output.count("member") == 2
