from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_records import record_of

from medseg.config import InferenceConfig
from medseg.device import Device
from medseg.errors import ConfigError
from medseg.inferers import backends
from medseg.inferers.backends import OneByOne, with_backend
from medseg.inferers.case_stream import predict_logits
from medseg.inferers.model import Model
from medseg.networks.registry import build_network
from medseg.plan import Plan

CPU = Device(torch.device("cpu"), torch.float32)


@pytest.fixture(params=[2, 3])
def model(request: pytest.FixtureRequest, tiny_plan: Plan) -> Model:
    plan, dims = tiny_plan, request.param
    if dims == 2:
        architecture = plan.architecture.model_copy(update={"strides": ((1, 1), (2, 2)), "kernel_sizes": ((3, 3),) * 2})
        plan = plan.model_copy(
            update={"dims": 2, "slice_axis": 2, "patch_size": (8, 8, 1), "architecture": architecture}
        )
    grid = plan.grid.model_copy(update={"normalization": 2 * plan.grid.normalization})
    plan = plan.model_copy(update={"grid": grid})
    record = record_of(plan, {"a": 1, "b": 2}, ("x", "y"))
    torch.manual_seed(0)
    return Model(Path("m"), record, build_network(2, 3, plan.architecture).eval(), CPU)


def installed(name: str) -> str:
    if name in backends.PACKAGES and not backends._installed(name):
        pytest.skip(f"{name} is not installed (medseg[{name}])")
    return name


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_logits_are_those_of_torch(model: Model, name: str) -> None:
    other = with_backend(model, installed(name))
    assert other.backend == name
    image = torch.randn(2, 13, 9, 17)
    plan, config = model.record.plan, InferenceConfig(window_batch_size=3)
    own = predict_logits(model.network, image, plan, config, CPU)
    assert torch.allclose(predict_logits(other.network, image, plan, config, CPU), own, atol=1e-4)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_logits_of_images_that_are_smaller_than_a_window_are_those_of_torch(model: Model, name: str) -> None:
    """Instance norm tells an image from one that is padded to the window: the mask of a small one was empty."""
    plan = model.record.plan
    window = tuple(2 * n for n in plan.network_patch)
    config = InferenceConfig(window=window, overlap=0.25)
    model = replace(model, record=model.record.model_copy(update={"inference": config}))
    other = with_backend(model, installed(name))
    assert other.backend == name
    for shape in ((5, 30, 9), (7, 6, 5), (30, 30, 17), (8, 9, 8)):
        image = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)) + 1
        own = predict_logits(model.network, image, plan, config, CPU)
        assert torch.allclose(predict_logits(other.network, image, plan, config, CPU), own, atol=1e-4)


def test_what_is_wrong_for_smaller_windows_is_left_to_torch(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    def wrong(window: torch.Tensor) -> torch.Tensor:
        if window.shape[2] == 4:
            raise RuntimeError("no such shape. And more")
        return model.network(window) + 1

    network = OneByOne(model.network, wrong, (16,) * model.record.plan.dims, tolerance=0.01)
    with torch.inference_mode():
        for n in (16, 8, 4):
            image = torch.randn(2, 2, *(n,) * model.record.plan.dims)
            assert torch.allclose(network(image), model.network(image) + (n == 16), atol=1e-5)
    said = " ".join(capsys.readouterr().err.split())
    assert "4 voxels: the back end cannot run them (no such shape); torch runs them" in said
    assert "8 voxels: the back end gives other logits" in said


@pytest.mark.slow
def test_compiled_logits_are_those_of_torch(model: Model) -> None:
    other = with_backend(model, "compile")
    assert other.backend == "compile"
    image = torch.randn(2, 13, 9, 17)
    plan = model.record.plan
    own = predict_logits(model.network, image, plan, InferenceConfig(), CPU)
    assert torch.allclose(predict_logits(other.network, image, plan, InferenceConfig(), CPU), own, atol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda logits: logits + 0.1 * logits.std() * torch.randn_like(logits), "gives other logits"),
        (lambda logits: logits * torch.nan, "gives other logits"),
        (lambda logits: logits[:, :1, :2], "cannot run this network"),
    ],
)
def test_what_disagrees_is_dropped_with_a_warning(
    model: Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong, message: str
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setitem(backends.START, "compile", lambda m, _: lambda window: wrong(m.network(window)))
    assert with_backend(model, "compile") is model
    assert message in " ".join(capsys.readouterr().err.split())


def test_rounding_of_bf16_is_no_disagreement(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends.START, "compile", lambda m, _: lambda w: m.network(w).bfloat16().float())
    assert isinstance(with_backend(model, "compile").network, OneByOne)


def test_auto_takes_what_is_faster(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_installed", lambda name: True)
    monkeypatch.setitem(backends.START, "openvino", lambda m, _: m.network)
    seconds = {OneByOne: 0.5}  # of a window; torch takes 1
    monkeypatch.setattr(backends, "_timed", lambda _, network, w: (torch.ones(2), seconds.get(type(network), 1.0)))
    assert with_backend(model, "auto").backend == "torch"  # a constant says nothing
    monkeypatch.setattr(backends, "_timed", lambda _, network, w: (torch.arange(2.0), seconds.get(type(network), 1.0)))
    assert with_backend(model, "auto").backend == "openvino"
    seconds[OneByOne] = 2.0
    assert with_backend(model, "auto").backend == "torch"
    monkeypatch.setattr(backends, "_installed", lambda name: False)
    assert with_backend(model, "auto") is model


def test_what_cannot_be_had_is_said(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="did you mean 'openvino'"):
        with_backend(model, "openvin")
    monkeypatch.setattr(backends, "_installed", lambda name: False)
    with pytest.raises(ConfigError, match=r"pip install 'medseg\[openvino\]'"):
        with_backend(model, "openvino")
