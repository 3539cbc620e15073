import numpy as np
import pytest
import torch
from monai.data.utils import compute_importance_map
from monai.inferers import sliding_window_inference
from scipy.ndimage import gaussian_filter
from sliding import CPU, Ramps, plan

from medseg.config import InferenceConfig
from medseg.errors import ConfigError
from medseg.inferers.case_stream import CaseStream, predict_logits
from medseg.inferers.predictor import Predictor
from medseg.inferers.windows import Layout, window_of
from medseg.networks.network import Network
from medseg.plan import Windows


class Identity(torch.nn.Module):
    """Logits that are the image and its double, whatever the window."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image, 2 * image], dim=1)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("shape", [(8, 8, 8), (21, 11, 17), (5, 3, 9)])
def test_windows_cover_every_voxel_and_weights_sum_to_one(dims: int, shape: tuple[int, int, int]) -> None:
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    logits = predict_logits(Identity(), image, plan(dims), InferenceConfig(), CPU)
    assert logits.shape == (2, *shape)
    assert torch.allclose(logits, torch.cat([image, 2 * image]), atol=1e-5)


@pytest.mark.parametrize("scale", [0.125, (0.125, 0.3, 0.02)])
@pytest.mark.parametrize("mode", ["gaussian", "constant"])
def test_windows_are_weighed_as_monai_weighs_them(mode: str, scale: float | tuple[float, ...]) -> None:
    patch = (24, 17, 1)
    layout = Layout((40, 40, 40), patch, (0, 0, 0), 0.5, mode=mode, sigma_scale=scale)
    assert torch.equal(layout.weight(), compute_importance_map(patch, mode=mode, sigma_scale=scale))


@pytest.mark.parametrize(
    ("n", "patch", "overlap", "starts"),
    [
        (110, 64, 0.5, [0, 23, 46]),  # the example in nnU-Net's source
        (64, 64, 0.5, [0]),
        (10, 64, 0.5, [0]),  # padded to one window
        (65, 64, 0.5, [0, 1]),
        (21, 8, 0.5, [0, 3, 6, 10, 13]),  # 6.5 and 9.75, rounded to even numbers
        (100, 40, 0.2, [0, 30, 60]),
        (5, 1, 0.5, [0, 1, 2, 3, 4]),  # slices of a 2D network
    ],
)
def test_windows_of_nnunet_are_spread_evenly(n: int, patch: int, overlap: float, starts: list[int]) -> None:
    layout = Layout((n, 4, 4), (patch, 4, 4), (0, 0, 0), overlap, rule="nnunet")
    assert sorted({start[0] for row in layout.rows() for start in row.windows}) == starts


@pytest.mark.parametrize("patch", [(24, 17, 1), (20, 32, 28), (64, 48, 32)])
def test_windows_of_nnunet_are_weighed_by_its_gaussian(patch: tuple[int, int, int]) -> None:
    """Its source: a filtered impulse in the middle, 10 at most, in float16, whose zeros become its least value."""
    impulse = np.zeros(patch)
    impulse[tuple(n // 2 for n in patch)] = 1
    gaussian = gaussian_filter(impulse, [n / 8 for n in patch], 0, mode="constant", cval=0)
    weight = torch.from_numpy(gaussian / (gaussian.max() / 10)).half()
    weight[weight == 0] = weight[weight > 0].min()
    ours = Layout((200, 200, 200), patch, (0, 0, 0), 0.5, rule="nnunet").weight()
    assert torch.allclose(ours, weight.float(), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("dims", [2, 3])
def test_sums_are_those_of_nnunet_at_the_edges_too(dims: int) -> None:
    """It adds weighted logits in float16, of which little is left where windows weigh 6e-8 and no others lie."""
    own = plan(dims).model_copy(update={"windows": Windows(rule="nnunet")})
    image = torch.randn(1, 13, 12, 17, generator=torch.Generator().manual_seed(0))
    stream = CaseStream(Predictor(Ramps(), own, CPU), image, InferenceConfig())
    ours = torch.cat([slab.fresh for slab in stream.slabs()], stream.layout.axis).permute(3, 0, 1, 2)
    sums, weights = torch.zeros(3, 13, 12, 17).half(), torch.zeros(13, 12, 17).half()
    weight = stream.layout.weight()
    for start in sorted(start for row in stream.layout.rows() for start in row.windows):
        x, y, z = stream.layout.place(start)
        sums[:, x, y, z] += stream.predictor(image[None, :, x, y, z])[0] * weight
        weights[x, y, z] += weight.half()
    theirs = (sums / weights).float()
    apart = (ours - theirs).abs() / theirs.abs().clamp_min(1)
    assert apart.max() < 5e-3
    exact = stream.predictor(image[None, :, :8, : 8 if dims == 3 else 1, :8])[0][:, 0, 0, 0]
    far = (ours[:, 0, 0, 0] - exact).abs().max()
    assert far > 0.01 if dims == 3 else far < 0.05


def test_a_plan_says_where_windows_lie_and_how_they_are_weighed() -> None:
    windows = Windows(rule="nnunet", weighting="constant", padding="replicate")
    own = plan(3).model_copy(update={"windows": windows})
    layout = CaseStream(Predictor(Identity(), own, CPU), torch.zeros(1, 21, 5, 9), InferenceConfig()).layout
    assert (layout.rule, layout.mode, layout.padding_mode) == ("nnunet", "constant", "replicate")
    image = torch.randn(1, 21, 5, 9, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(predict_logits(Identity(), image, own, InferenceConfig(), CPU)[:1], image, atol=2e-3)


class LeftRight(torch.nn.Module):
    """Answers differently on both sides, so that mirroring shows."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        ramp = torch.arange(image.shape[2], dtype=torch.float32).view(1, 1, -1, 1, 1)
        return image * 0 + ramp


def test_mirroring_averages_over_the_mirrored_images() -> None:
    image = torch.zeros(1, 8, 8, 8)
    plain = predict_logits(LeftRight(), image, plan(3), InferenceConfig(), CPU)
    stream = CaseStream(Predictor(LeftRight(), plan(3), CPU, (0, 1, 2)), image, InferenceConfig())
    mirrored = torch.cat([slab.fresh for slab in stream.slabs()], stream.layout.axis).permute(3, 0, 1, 2)
    assert plain[0, :, 0, 0].tolist() == pytest.approx(list(range(8)))
    assert mirrored[0, :, 0, 0].tolist() == pytest.approx([3.5] * 8)


class OfEven(Network):
    """Takes even numbers of voxels only."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        assert all(n % 2 == 0 for n in image.shape[2:])
        return torch.cat([image, 2 * image], dim=1)


@pytest.mark.parametrize(
    ("window", "shape", "seen"),
    [
        (None, (40, 40, 40), (8, 8, 8)),
        ((16, 8, 12), (40, 40, 40), (16, 8, 12)),
        ((15, 8, 12), (40, 40, 40), (16, 8, 12)),  # what the network takes
        ((16, 16, 16), (11, 40, 3), (12, 16, 8)),  # no larger than a small image needs, no smaller than the patch
        ((4, 4, 4), (40, 40, 40), (4, 4, 4)),
    ],
)
def test_windows_may_have_another_size_than_the_patch(
    window: tuple[int, ...] | None, shape: tuple[int, int, int], seen: tuple[int, ...]
) -> None:
    network, config = OfEven((2, 2, 2)), InferenceConfig(window=window)
    assert window_of(network, plan(3), config, shape) == seen == Layout.of(network, plan(3), shape, config).patch_size
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    logits = predict_logits(network, image, plan(3), config, CPU)
    assert torch.allclose(logits, torch.cat([image, 2 * image]), atol=1e-5)


def test_windows_of_slices_have_two_edges() -> None:
    layout = Layout.of(Identity(), plan(2), (40, 5, 30), InferenceConfig(window=(16, 40), overlap=0.25))
    assert layout.patch_size == (16, 1, 30)
    assert layout.n_windows == 3 * 5 * 1
    with pytest.raises(ConfigError, match=r"inference\.window has 3 numbers; give 2 for a 2D model"):
        Layout.of(Identity(), plan(2), (40, 5, 30), InferenceConfig(window=(16, 16, 16)))


def test_logits_of_large_windows_are_those_of_monai() -> None:
    image = torch.randn(1, 21, 11, 17, generator=torch.Generator().manual_seed(0))
    own = predict_logits(Ramps(), image, plan(3), InferenceConfig(window=(12, 10, 16), overlap=0.25), CPU)
    monai = sliding_window_inference(image[None], (12, 10, 16), 1, Ramps(), overlap=0.25, mode="gaussian")
    assert isinstance(monai, torch.Tensor)
    assert torch.allclose(own, monai[0], atol=1e-4)
