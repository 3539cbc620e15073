"""StreamingInferer against MONAI's SlidingWindowInferer."""

from typing import Any

import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import Inferer, SlidingWindowInferer
from sliding import Ramps

from medseg.errors import ConfigError, MedsegError
from medseg.inferers import StreamingInferer
from medseg.inferers.accumulator import Accumulator


def batch(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def same(inputs: torch.Tensor, network: Any, roi_size: Any, **settings: Any) -> torch.Tensor:
    """The logits, once they are known to be those of MONAI, in parts and as a whole."""
    with torch.no_grad():
        expected = SlidingWindowInferer(roi_size, **{"mode": "gaussian", **settings})(inputs, network)
    inferer = StreamingInferer(roi_size, **settings)
    logits = inferer(inputs, network)
    assert (logits.shape, logits.dtype) == (expected.shape, expected.dtype)
    assert torch.allclose(logits, expected, atol=1e-5)
    parts = torch.full_like(expected, torch.nan)
    for slab in inferer.slabs(inputs, network):
        assert parts[slab.place].isnan().all()  # each voxel once
        parts[slab.place] = slab.logits
    assert torch.allclose(parts, expected, atol=1e-5)
    return logits


@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize("shape", [(8, 8, 8), (21, 11, 17), (5, 3, 9), (9, 26, 4), (7, 1, 8)])
def test_3d(shape: tuple[int, int, int], mode: str) -> None:
    network = torch.nn.Conv3d(2, 3, 3, padding=1)
    for overlap, sw_batch_size in ((0.0, 1), (0.3, 4), (0.5, 3)):
        same(batch(2, 2, *shape), network, (8, 8, 8), overlap=overlap, sw_batch_size=sw_batch_size, mode=mode)


@pytest.mark.parametrize("shape", [(8, 8), (33, 11), (5, 3), (9, 1), (4, 40)])
def test_2d(shape: tuple[int, int]) -> None:
    network = torch.nn.Conv2d(3, 2, 3, padding=1)
    for overlap, sw_batch_size in ((0.0, 1), (0.25, 4), (0.6, 16)):
        same(batch(3, 3, *shape), network, (8, 6), overlap=overlap, sw_batch_size=sw_batch_size)


def test_logits_that_depend_on_the_place_in_the_window() -> None:
    same(batch(1, 1, 21, 11, 17), Ramps(), 8, overlap=0.5, sw_batch_size=5)


def test_settings_of_each_axis() -> None:
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    same(
        batch(1, 1, 20, 13, 9), network, (8, -1, 4), overlap=(0.5, 0.25, 0.0), sigma_scale=(0.1, 0.2, 0.3),
    )  # fmt: skip


@pytest.mark.parametrize("padding_mode", ["reflect", "replicate", "circular", "constant"])
def test_images_smaller_than_a_window(padding_mode: str) -> None:
    cval = -1.5 if padding_mode == "constant" else 0.0
    same(batch(1, 1, 6, 7, 20), torch.nn.Conv3d(1, 2, 3, padding=1), 8, padding_mode=padding_mode, cval=cval)
    same(batch(1, 1, 6, 7), torch.nn.Conv2d(1, 2, 3, padding=1), 8, padding_mode=padding_mode, cval=cval)


def test_the_network_gets_the_other_arguments_and_meta_data_stay() -> None:
    inputs = MetaTensor(batch(1, 1, 9, 9, 9), meta={"name": "this"})
    inferer: Inferer = StreamingInferer(8)
    scaled = inferer(inputs, lambda windows, factor, shift: windows * factor + shift, 2.0, shift=1.0)
    assert isinstance(scaled, MetaTensor)
    assert scaled.meta["name"] == "this"
    assert torch.allclose(scaled.as_tensor(), inputs.as_tensor() * 2 + 1, atol=1e-5)
    scaled += 1  # no inference tensor


def test_memory_is_that_of_a_row_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0
    opened = Accumulator.open

    def open_and_look(self: Accumulator, row: Any, n_labels: int) -> None:
        nonlocal most
        opened(self, row, n_labels)
        most = max(most, sum(segment.sums.nbytes for segment in self._open))

    monkeypatch.setattr(Accumulator, "open", open_and_look)
    image = batch(1, 1, 200, 8, 8)
    for slab in StreamingInferer(8, overlap=0.5).slabs(image, Ramps()):
        assert slab.logits.shape[1] <= 8
    assert most <= 3 * 4 * (8 + 2) * 8 * 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "hann"}, "mode 'hann'"),
        ({"overlap": 1.0}, "overlap 1.0"),
        ({"sw_batch_size": 0}, "sw_batch_size 0"),
        ({"padding_mode": "edge"}, "padding_mode 'edge'"),
    ],
)
def test_settings_that_are_none(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StreamingInferer(8, **settings)


def test_networks_and_inputs_that_do_not_fit() -> None:
    inferer, image = StreamingInferer((8, 8, 8)), batch(1, 1, 9, 9, 9)
    with pytest.raises(MedsegError, match="returns a list"):
        inferer(image, lambda windows: [windows])
    with pytest.raises(MedsegError, match=r"logits of shape \(1, 1, 4, 8, 8\)"):
        inferer(image, lambda windows: windows[:, :, :4])
    with pytest.raises(MedsegError, match="images are 2D"):
        inferer(image[0], lambda windows: windows)
    with pytest.raises(MedsegError, match=r"inputs of shape \(9, 9, 9\)"):
        inferer(image[0, 0], lambda windows: windows)
    with pytest.raises(MedsegError, match="'condition' is not cut"):
        inferer(image, lambda windows, condition: windows, condition=image)


def test_inputs_are_tensors_of_floats() -> None:
    inferer, network = StreamingInferer((4, 4, 4)), torch.nn.Conv3d(1, 2, 1)
    for inputs, kind in (
        (batch(1, 1, 8, 8, 8).to(torch.uint8), "torch.uint8"),
        (batch(1, 1, 8, 8, 8).numpy(), "ndarray"),
    ):
        with pytest.raises(MedsegError, match=f"inputs of {kind}: give a tensor of floats"):
            list(inferer.slabs(inputs, network))  # type: ignore[arg-type]
