import pytest
import torch
from monai.data.utils import compute_importance_map
from sliding import CPU, plan

from medseg.config import InferenceConfig
from medseg.inferers.case_stream import CaseStream, predict_logits
from medseg.inferers.predictor import Predictor
from medseg.inferers.windows import Layout


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
