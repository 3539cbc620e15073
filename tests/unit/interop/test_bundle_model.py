"""What a bundle says becomes a plan; what medseg cannot follow is refused by name, and nothing is written."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import nnunet_folder
import pytest
import torch
from bundles import Config, spleen, tumour, whole_body, write_bundle

import medseg
from medseg.errors import MedsegError, ModelError
from medseg.inferers.model_record import read_model_record
from medseg.plan import Plan
from medseg.training.initial import InitialModel
from medseg.weights import read_torch_file


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("spleen") / "bundle", spleen())


@pytest.fixture
def bundle(written: Path, tmp_path: Path) -> Path:
    """The spleen's bundle, to be changed."""
    return Path(shutil.copytree(written, tmp_path / "bundle"))


def imported(tmp_path: Path, config: Config, **options: Any) -> Plan:
    bundle = write_bundle(tmp_path / "bundle", config)
    return read_model_record(medseg.import_model(bundle, tmp_path / "model", **options)).plan


def test_spleen(bundle: Path, tmp_path: Path) -> None:
    plan = read_model_record(medseg.import_model(bundle, tmp_path / "model")).plan
    grid, (rule,) = plan.grid, plan.grid.normalization
    assert (grid.orientation, grid.spacing, grid.own_spacing, grid.resample_first) == ("RAS", (1.5, 1.5, 2.0), (), True)
    assert (grid.resampling.rule, grid.resampling.interpolation) == ("monai", "linear")
    assert grid.resampling.restored == "probabilities"
    assert (rule.kind, rule.lower, rule.upper, rule.mean, rule.std) == ("ct", -57, 164, -57, 221)
    assert (plan.patch_size, plan.windows.weighting, plan.windows.padding) == ((24, 24, 24), "constant", "constant")
    assert plan.architecture.name == "monai.UNet" and plan.architecture.features == (4, 8, 16)
    record = read_model_record(tmp_path / "model")
    assert (record.inference.overlap, record.inference.window_batch_size) == (0.5, 4)
    assert (record.channels, record.labels.names) == (("CT",), ["structure 1"])
    origin = record.origin
    assert origin is not None and (origin.program, origin.release) == ("MONAI", "0.5.9")
    assert origin.licence == "Apache License, Version 2.0, January 2004"
    assert origin.dice == {"mean": 0.961}


@pytest.mark.slow
def test_whole_body_and_its_switch(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", whole_body())
    (bundle / "models" / "model_lowres.pt").write_bytes((bundle / "models" / "model.pt").read_bytes())
    (bundle / "models" / "model.pt").unlink()
    with pytest.raises(ModelError, match=r"model\.pt: there is no such file"):
        medseg.import_model(bundle, tmp_path / "model")
    medseg.import_model(bundle, tmp_path / "model", entries=("displayable_configs#highres=false",))
    plan = read_model_record(tmp_path / "model").plan
    assert (plan.grid.spacing, plan.grid.resampling.restored) == ((3.0, 3.0, 3.0), "labels")
    (rule,) = plan.grid.normalization
    assert (rule.kind, rule.nonzero, rule.rescaled, plan.grid.transforms) == ("zscore", True, (-1.0, 1.0), ())
    assert (plan.windows.weighting, plan.windows.padding) == ("gaussian", "replicate")


@pytest.mark.slow
def test_regions_are_written_as_the_function_says(tmp_path: Path) -> None:
    config = tumour()
    plan = imported(tmp_path, config)
    record = read_model_record(tmp_path / "model")
    assert (plan.grid.orientation, plan.grid.own_spacing) == ("stored", (0, 1, 2))
    assert record.labels.values == [1, 2, 4]
    written = [(region.name, record.labels.values[region.value - 1]) for region in plan.regions]
    assert written == [("structure 1", 2), ("structure 0", 1), ("structure 2", 4)]
    assert {name: set(values) for name, values in record.labels.unions.items()} == {
        "structure 1": {1, 2, 3},
        "structure 0": {1, 3},
        "structure 2": {3},
    }


SPACING, RANGE = 3, 4  # places of transforms in ``spleen``


def changed(place: str, value: Any) -> Config:
    """The spleen's configuration with another value at a place, such as "inferer#cval"; … takes it away."""
    config: Any = json.loads(json.dumps(spleen()))
    *parents, last = place.split("#")
    at = config
    for key in parents:
        at = at[int(key) if isinstance(at, list) else key]
    if isinstance(at, list):
        at.insert(int(last), value)
    elif value is ...:
        del at[last]
    else:
        at[last] = value
    return config  # type: ignore[no-any-return]


BEFORE, AFTER = "preprocessing#transforms#", "postprocessing#transforms#"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (
            f"{BEFORE}0",
            {"_target_": "Resized", "keys": "image", "spatial_size": 9},
            "is Resized, which medseg does not",
        ),
        (f"{BEFORE}0", {"_target_": "scripts.x.Y", "keys": "image"}, "is scripts.x.Y, which medseg does not take"),
        (
            f"{BEFORE}0",
            {"_target_": "monai.transforms.Lambdad", "keys": "image", "func": "$open('x')"},
            "Lambdad, which",
        ),
        (f"{BEFORE}4", {"_target_": "Orientationd", "keys": "image", "axcodes": "LPS"}, "comes after Spacingd"),
        (f"{BEFORE}{SPACING}#padding_mode", "zeros", "the nearest value beyond the border"),
        (f"{BEFORE}{SPACING}#diagonal", True, "of Spacingd is True; medseg takes False only"),
        (f"{BEFORE}{SPACING}#pixdim", ["1", 1, 1], "no spacing"),
        (f"{BEFORE}{SPACING}#pixdim", [1e400, 1, 1], "no spacing|cannot be taken"),
        (f"{BEFORE}2#axcodes", "RAT", "cannot be taken: 'orientation'"),
        (f"{BEFORE}{RANGE}#a_min", "$@bundle_root", "no number"),
        ("inferer#_target_", "SimpleInferer", "is SimpleInferer; medseg takes SlidingWindowInferer"),
        ("inferer#roi_size", [96, -1, 96], "takes 3 numbers of voxels"),
        ("inferer#roi_size", [10**6] * 3, "a patch of"),
        ("inferer#cval", -1, "of SlidingWindowInferer is -1; medseg takes 0 only"),
        ("inferer#overlap", 1.5, "cannot be taken: 'overlap'"),
        ("network_def#_target_", "monai.networks.nets.UNett", "did you mean 'UNet'"),
        ("network_def#_target_", "scripts.net.Own", "is of the class scripts.net.Own, no segmentation network"),
        ("network_def#channels", [2**40, 2], "cannot be taken: 'features"),
        ("network_def#num_res_units", 10**9, "larger than 16,384"),
        ("network_def#out_channels", 300, "300 outputs"),
        ("network_def#in_channels", ..., "'in_channels' has to be given"),
        ("network_def#nonsense", 1, "has no such argument"),
        ("network_def#act", {"_target_": "torch.nn.ReLU"}, "no number, text or list"),
        ("network_def", ..., "refers to '@network_def', which is not there"),
        (f"{AFTER}2", {"_target_": "Lambdad", "keys": "pred", "func": "$open('x', 'w')"}, "is Lambdad, which medseg"),
        (f"{AFTER}2", {"_target_": "VoteEnsembled", "keys": "pred"}, "does not take behind a network"),
        (
            f"{AFTER}3",
            {"_target_": "MapLabelValued", "keys": "pred", "orig_labels": [0, 1], "target_labels": [0, 0]},
            "leaves 1 of 2 outputs a value",
        ),
        (f"{AFTER}1#nearest_interp", "$torch.rand(1) > 0", "runs no code of a bundle"),
        ("checkpointloader#load_path", "/etc/passwd", "lies outside of the bundle"),
        ("checkpointloader#load_path", "$@bundle_root + '/../x.pt'", "lies outside of the bundle"),
        ("checkpointloader#load_path", "models/none.pt", "there is no such file"),
    ],
)
def test_what_cannot_be_followed_is_refused(bundle: Path, tmp_path: Path, place: str, value: Any, message: str) -> None:
    (bundle / "configs" / "inference.json").write_text(json.dumps(changed(place, value), indent=1))
    with pytest.raises(MedsegError, match=message) as caught:
        medseg.import_model(bundle, tmp_path / "model")
    assert len(str(caught.value)) < 700
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


class Opens:
    """What writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("as_pickle", [False, True])
def test_weights_that_would_run_code_are_refused(bundle: Path, tmp_path: Path, as_pickle: bool) -> None:
    file = bundle / "models" / "model.pt"
    state = torch.load(file, weights_only=True) | {"more": Opens(tmp_path / "written")}
    if as_pickle:
        file.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, file)
    with pytest.raises(ModelError, match=r"model\.pt"):
        medseg.import_model(bundle, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.popitem(), "lacks 'model"),
        (lambda state: state.update(more=torch.zeros(1)), "holds 'more', which the network has not"),
        (lambda state: state.update({next(iter(state)): torch.zeros(2, 2)}), r"is \(2, 2\), and \("),
        (lambda state: state[next(iter(state))].fill_(float("nan")), "holds what is no number"),
        (lambda state: state.update(more=3), "holds no weights by name"),
    ],
)
def test_weights_that_do_not_fit_are_refused(bundle: Path, tmp_path: Path, change: Any, message: str) -> None:
    file = bundle / "models" / "model.pt"
    state = torch.load(file, weights_only=True)
    change(state)
    torch.save(state, file)
    with pytest.raises(ModelError, match=message):
        medseg.import_model(bundle, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_training_begins_with_a_bundle(bundle: Path, tmp_path: Path) -> None:
    initial = InitialModel.read(bundle)
    model = medseg.import_model(bundle, tmp_path / "model")
    imported = InitialModel.read(model)
    assert (initial.architecture, initial.channels, initial.outputs) == (
        imported.architecture, ("CT",), ("background", "structure 1"),
    )  # fmt: skip
    theirs, own = initial.weights(), imported.weights()
    assert theirs.keys() == own.keys() and all(torch.equal(theirs[name], own[name]) for name in own)


@pytest.mark.slow
def test_weights_may_lie_under_a_key_and_bear_the_names_of_parallel_training(bundle: Path, tmp_path: Path) -> None:
    file = bundle / "models" / "model.pt"
    state = torch.load(file, weights_only=True)
    before = read_model_record(medseg.import_model(bundle, tmp_path / "plain"))
    torch.save({"model": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 3}, file)
    after = read_model_record(medseg.import_model(bundle, tmp_path / "parallel"))
    assert before.plan == after.plan
    files = [tmp_path / name / "weights.safetensors" for name in ("plain", "parallel")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_a_bundle_of_nnunet_is_the_trained_folder_that_it_was_made_of(tmp_path: Path) -> None:
    """``monai.apps.nnunet`` splits a checkpoint in two, and puts the folder into models/."""
    trained = nnunet_folder.write(tmp_path / nnunet_folder.NAME)
    models = tmp_path / "bundle" / "models"
    (models / "fold_0").mkdir(parents=True)
    for name in ("plans.json", "dataset.json"):
        shutil.copy(trained / name, models / name)
    checkpoint = read_torch_file(trained / "fold_0" / "checkpoint_final.pth", "", ModelError)
    torch.save({"network_weights": checkpoint.pop("network_weights")}, models / "fold_0" / "model.pt")
    kept = ("inference_allowed_mirroring_axes", "init_args", "trainer_name")
    torch.save({key: checkpoint[key] for key in kept}, models / "nnunet_checkpoint.pth")
    (tmp_path / "bundle" / "configs").mkdir()
    (tmp_path / "bundle" / "configs" / "inference.json").write_text("{}")
    plan = read_model_record(medseg.import_model(trained, tmp_path / "model")).plan
    assert read_model_record(medseg.import_model(tmp_path / "bundle", tmp_path / "again")).plan == plan
    files = [tmp_path / name / "weights.safetensors" for name in ("model", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_bundle_without_metadata_has_names_too(bundle: Path, tmp_path: Path) -> None:
    (bundle / "configs" / "metadata.json").unlink()
    record = read_model_record(medseg.import_model(bundle, tmp_path / "model"))
    assert (record.channels, record.labels.names) == (("image",), ["output_1"])
