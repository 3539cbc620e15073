import json
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from model_records import record_of

import medseg
from medseg.device import choose_device
from medseg.errors import ConfigError, OutputError
from medseg.inferers.model import load_model, save_model
from medseg.inferers.model_record import read_model_record
from medseg.interop.onnx_folder import steps
from medseg.labels import Labels
from medseg.networks.registry import build_network
from medseg.plan import Normalization, Plan
from medseg.planning.regions import learnt_regions
from medseg.prediction.golden import check_golden


@pytest.fixture
def plan(tiny_plan: Plan) -> Plan:
    rule = Normalization(kind="ct", lower=-100, upper=200, mean=40, std=60)
    grid = tiny_plan.grid.model_copy(update={"crop_to_nonzero": False, "normalization": (rule,)})
    return tiny_plan.model_copy(update={"grid": grid})


@pytest.fixture
def model(plan: Plan, tmp_path: Path) -> Path:
    return write_model(tmp_path / "run" / "model", plan)


LABELS = Labels.from_names({"liver": 1, "spleen": 5})
TUMOUR = Labels.from_names({"core": 1}, {"whole": (1, 5)})


def write_model(folder: Path, plan: Plan, labels: Labels = LABELS) -> Path:
    torch.manual_seed(0)
    record = record_of(plan, labels, ("CT", "PET")[: len(plan.grid.normalization)])
    network = build_network(len(record.channels), len(record.outputs), plan.architecture)
    with torch.no_grad():  # labels of random weights, and as many voxels of each
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    save_model(folder, record, network.state_dict())
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "images" / "case.nii.gz"
    path.parent.mkdir()
    values = np.random.default_rng(0).normal(40, 60, size=(14, 11, 9)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, -1.0, 1.0, 1.0])), path)
    return path


def label_map(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def test_a_zip_is_a_model(model: Path, image: Path, tmp_path: Path) -> None:
    path = medseg.package(model.parent, tmp_path / "liver.zip")
    names = zipfile.ZipFile(path).namelist()
    assert {"liver/model.json", "liver/weights.safetensors", "liver/golden/label_map.nii.gz"} <= set(names)
    (own,) = medseg.predict(model, image, device="cpu")
    (packed,) = medseg.predict(path, image, device="cpu")
    assert np.array_equal(own.label_map.array, packed.label_map.array)
    loaded = load_model(path, choose_device("cpu"))
    assert loaded.name == "liver"
    assert check_golden(loaded) >= 0.99


def test_onnx_says_what_is_done_around_it_and_names_no_data(leaky: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = medseg.package(leaky, tmp_path / "onnx", format="onnx")
    check_names_nothing(folder, tmp_path)
    content = json.loads((folder / "model.json").read_text())
    assert content["network"]["output"].endswith("the outputs are background, liver, spleen")
    assert "channel CT: clip to -100 … 200, subtract 40, divide by 60" in content["steps"]
    assert "values: {'liver': 1, 'spleen': 5}" in content["steps"]
    session = onnxruntime.InferenceSession(folder / "network.onnx", providers=["CPUExecutionProvider"])
    windows = torch.randn(3, 1, 8, 8, 8)
    (logits,) = session.run(None, {"image": windows.numpy()})
    with torch.no_grad():
        expected = load_model(leaky, choose_device("cpu", "fp32")).network(windows)
    assert torch.allclose(torch.from_numpy(logits), expected, atol=1e-4)


def test_graphs_of_one_shape_have_windows_as_in_training(model: Path, tmp_path: Path) -> None:
    """Other programs pad small images to a window: in one that was larger than any patch nothing was found."""
    path = model / "model.json"
    content = json.loads(path.read_text())
    patch = content["plan"]["patch_size"]
    content["inference"]["window"] = [2 * n for n in patch]
    path.write_text(json.dumps(content))
    bundle = medseg.package(model, tmp_path / "bundle", format="monai-bundle")
    inference = json.loads((bundle / "configs" / "inference.json").read_text())
    assert inference["inferer"]["roi_size"] == patch
    kept = json.loads((bundle / "models" / "model.json").read_text())  # what 'medseg import' brings back
    assert kept["inference"] == content["inference"]
    onnx = pytest.importorskip("onnx")
    folder = medseg.package(model, tmp_path / "onnx", format="onnx")
    shape = onnx.load(folder / "network.onnx").graph.input[0].type.tensor_type.shape
    assert [each.dim_value for each in shape.dim[2:]] == patch


@pytest.fixture
def regions(plan: Plan, tmp_path: Path) -> Path:
    """A model of a core in a whole."""
    plan = plan.model_copy(update={"regions": learnt_regions(TUMOUR)})
    return write_model(tmp_path / "regions" / "model", plan, TUMOUR)


@pytest.fixture
def leaky(model: Path) -> Path:
    """A model that names data, as version 0.1 wrote it, and what a call left that was killed."""
    path = model / "model.json"
    content = json.loads(path.read_text())
    secret = "/home/alice/patients"
    content["provenance"] = {"source": secret, "init": f"{secret}/run", "watchdog": ["(cases patient_7)"], "steps": 3}
    path.write_text(json.dumps(content))
    (model / ".model.0a1b2c3d.json").write_text("half wri")
    return model


@pytest.mark.parametrize("format_", ["zip", "monai-bundle"])
def test_packages_name_neither_data_nor_machine(leaky: Path, tmp_path: Path, format_: str) -> None:
    packed = medseg.package(leaky, tmp_path / f"packed{'.zip' * (format_ == 'zip')}", format=format_)
    check_names_nothing(packed, tmp_path)


def check_names_nothing(packed: Path, tmp_path: Path) -> None:
    files = [packed] if packed.is_file() else [file for file in packed.rglob("*") if file.is_file()]
    contents = [file.read_bytes() for file in files]
    for file in (file for file in files if zipfile.is_zipfile(file)):
        with zipfile.ZipFile(file) as archive:
            contents += [archive.read(name) for name in archive.namelist()]
            assert not [name for name in archive.namelist() if "0a1b2c3d" in name]
    for word in (b"alice", b"patient_7", str(Path(medseg.__file__).parent).encode(), str(tmp_path).encode()):
        assert not [each for each in contents if word in each]


def test_onnx_says_how_regions_make_a_label_map(regions: Path) -> None:
    model = load_model(regions, choose_device("cpu", "fp32"))
    assert model.record.outputs == ("whole", "core")
    (step,) = (step for step in steps(model) if step.startswith("logits: resample"))
    assert "the logit above 0" in step and step.endswith("whole 2, core 1")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model", pytest.param("regions", marks=pytest.mark.slow)])
def test_a_bundle_predicts_by_monai_alone(
    name: str, request: pytest.FixtureRequest, image: Path, tmp_path: Path
) -> None:
    model = request.getfixturevalue(name)
    pytest.importorskip("fire", reason="'python -m monai.bundle' needs fire and pytorch-ignite (medseg[test])")
    pytest.importorskip("ignite")
    folder = medseg.package(model, tmp_path / "bundle", format="monai-bundle")
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    options = ["--bundle_root", ".", "--input_dir", str(image.parent), "--output_dir", str(tmp_path / "masks")]
    done = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    medseg.predict(model, image, tmp_path / "own", device="cpu", backend="torch")
    own, other = label_map(tmp_path / "own" / "case.nii.gz"), label_map(tmp_path / "masks" / "case.nii.gz")
    assert set(np.unique(other)) <= {0, 1, 5}
    assert name == "model" or len(np.unique(other)) > 1
    assert (own == other).mean() > 0.98  # ours are computed in bf16 where the processor has that
    affines = [nibabel.load(tmp_path / name / "case.nii.gz").affine for name in ("own", "masks")]
    assert np.allclose(*affines)
    back = medseg.import_model(folder, tmp_path / "back")
    assert read_model_record(back) == read_model_record(model)
    assert (back / "weights.safetensors").read_bytes() == (model / "weights.safetensors").read_bytes()


def test_the_same_package_again_is_no_error_and_another_one_is(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    before = medseg.package(model, path).stat().st_size
    assert medseg.package(model, path).stat().st_size == before
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/more.txt", "more")
    changed = path.read_bytes()
    with pytest.raises(OutputError, match="is there already"):
        medseg.package(model, path)
    assert path.read_bytes() == changed


def test_what_cannot_be_packed_is_said(model: Path, plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'onnx'"):
        medseg.package(model, tmp_path / "a", format="onx")
    with pytest.raises(OutputError, match=r"named \.zip"):
        medseg.package(model, tmp_path / "a")
    (tmp_path / "there.zip").touch()
    with pytest.raises(OutputError, match="is there already"):
        medseg.package(model, tmp_path / "there.zip")
    mixed = plan.grid.model_copy(update={"normalization": (Normalization(kind="none"), Normalization(kind="zscore"))})
    write_model(tmp_path / "mixed", plan.model_copy(update={"grid": mixed}))
    with pytest.raises(ConfigError, match="different rules"):
        medseg.package(tmp_path / "mixed", tmp_path / "b", format="monai-bundle")
    assert not (tmp_path / "b").exists()
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []
