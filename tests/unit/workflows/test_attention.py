from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from model_records import record_of
from PIL import Image
from typer.testing import CliRunner

import medseg
from medseg.architecture import Architecture
from medseg.cli.main import app
from medseg.errors import GeometryError, ModelError, SourceError
from medseg.inferers.model import save_model
from medseg.networks.attention_unet import Gate
from medseg.networks.registry import build_network
from medseg.plan import Plan
from medseg.report.attention import plot_attention
from medseg.volume import Geometry, Volume


def save(folder: Path, plan: Plan, name: str, closed: bool = False) -> Path:
    architecture = Architecture(
        name=name, features=(4, 4, 4), strides=((1,) * 3, (2,) * 3, (2,) * 3), kernel_sizes=((3,) * 3,) * 3
    )
    record = record_of(plan.model_copy(update={"architecture": architecture}), {"a": 1}, ("T1",))
    torch.manual_seed(0)
    network = build_network(1, 2, architecture)
    for module in network.modules():
        if isinstance(module, Gate) and closed:
            torch.nn.init.constant_(module.psi.bias, -100.0)
    save_model(folder, record, network.state_dict())
    return folder


@pytest.mark.parametrize("closed", [True, False])
def test_maps_lie_on_the_model_grid_and_say_what_gates_do(
    tmp_path: Path, tiny_plan: Plan, write_image: Callable[..., Path], closed: bool
) -> None:
    model = save(tmp_path / "model", tiny_plan, "attention-unet", closed)
    random = np.random.default_rng(0).normal(size=(11, 9, 10)).astype(np.float32) + 5
    path = write_image(tmp_path / "image.nii.gz", random, np.diag((-1.0, 1.0, 1.0, 1.0)))
    image, maps = medseg.attention_maps(model, path, device="cpu")
    assert image.array.shape == (1, 11, 9, 10) and maps.array.shape == (2, 11, 9, 10)
    assert np.allclose(image.array[0], random[::-1])  # the model grid is RAS
    assert np.array_equal(image.geometry.affine, maps.geometry.affine)
    assert maps.array.max() < 1e-6 if closed else maps.array.mean() > 0.5
    plot_attention(image, maps, tmp_path / "attention.png")
    assert (tmp_path / "attention.png").stat().st_size > 10_000


def test_the_command_writes_maps_and_a_picture(
    tmp_path: Path, tiny_plan: Plan, write_image: Callable[..., Path]
) -> None:
    model = save(tmp_path / "model", tiny_plan, "attention-unet")
    path = write_image(tmp_path / "image.nii.gz", np.arange(990.0).reshape(11, 9, 10), np.diag((-1.0, 1.0, 1.0, 1.0)))
    result = CliRunner().invoke(app, ["attention", str(model), str(path), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    _, maps = medseg.attention_maps(model, path)
    written = [medseg.read_volume(tmp_path / "out" / f"gate_{number}.nii.gz") for number in (1, 2)]
    assert np.allclose(np.concatenate([gate.array for gate in written]), maps.array)
    assert np.allclose(written[0].geometry.affine, maps.geometry.affine)
    names = {"image.nii.gz", "gate_1.nii.gz", "gate_2.nii.gz", "attention.png"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == names


def test_other_networks_and_several_cases_are_refused(
    tmp_path: Path, tiny_plan: Plan, write_image: Callable[..., Path]
) -> None:
    path = write_image(tmp_path / "images" / "a.nii.gz")
    with pytest.raises(ModelError, match="only a single attention-unet"):
        medseg.attention_maps(save(tmp_path / "unet", tiny_plan, "unet"), path, device="cpu")
    write_image(tmp_path / "images" / "b.nii.gz")
    with pytest.raises(SourceError, match="holds 2 cases"):
        medseg.attention_maps(save(tmp_path / "gated", tiny_plan, "attention-unet"), path.parent, device="cpu")


def test_the_picture_is_red_where_a_gate_is_open_and_blue_where_it_is_not(tmp_path: Path) -> None:
    image = Volume(np.zeros((1, 20, 20, 1), np.float32), Geometry((20, 20, 1), np.eye(4)))
    gate = np.zeros((1, 20, 20, 1), np.float32)
    gate[0, :10] = 1
    drawn = plot_attention(image, Volume(gate, image.geometry), tmp_path / "a.png")
    pixels = np.asarray(Image.open(drawn).convert("RGB")).astype(int)
    half = pixels.shape[1] // 2
    middle = pixels[pixels.shape[0] // 2]
    reddish = middle[:, 0] - middle[:, 2]
    assert reddish[: half // 2].max() > 30 and reddish[: half // 2].min() >= 0
    with pytest.raises(GeometryError):
        plot_attention(image, Volume(gate[:, :5], Geometry((5, 20, 1), np.eye(4))), tmp_path / "b.png")
