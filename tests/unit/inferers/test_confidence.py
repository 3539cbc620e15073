import numpy as np
import pytest
import torch
from sliding import CPU, Ramps, plan

from medseg.config import InferenceConfig
from medseg.decoding import SOFTMAX, or_on_processor
from medseg.inferers import confidence
from medseg.inferers.case_stream import CaseStream, predict_logits
from medseg.inferers.confidence import Confidence
from medseg.inferers.predictor import Predictor
from medseg.inferers.segmentation import segment
from medseg.labels import Labels
from medseg.transforms.prepared import Prepared
from medseg.volume import Geometry, Shape3


def image_of(shape: Shape3) -> torch.Tensor:
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))


class Unsure(torch.nn.Module):
    """All labels win somewhere, and no label by far."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        value, _, wave = Ramps()(image).split(1, dim=1)
        return torch.cat([value, 1 - value, 2 * wave], dim=1)


LABELS = Labels.from_names({"core": 1, "rim": 4}, {"both": (1, 4)})


def soft_dice(logits: torch.Tensor) -> dict[str, float]:
    """Straight from the definition; logits (label, x, y, z)."""
    found = {}
    for name, values in {"core": [1], "rim": [2], "both": [1, 2]}.items():
        mask = torch.isin(logits.argmax(0), torch.tensor(values))
        probabilities = logits.double().softmax(0)[values].sum(0)
        found[name] = float(2 * (mask * probabilities).sum() / (mask.sum() + probabilities.sum()))
    return found


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("shape", [(21, 11, 17), (5, 3, 9)])
@pytest.mark.parametrize("large", [1, 2**30])
def test_slabs_give_the_soft_dice_of_the_whole_image(
    dims: int, shape: Shape3, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confidence, "LARGE", large)
    image = image_of(shape)
    whole = predict_logits(Unsure(), image, plan(dims), InferenceConfig(), CPU)
    expected = soft_dice(whole[:, ::2, ::2, ::2] if large == 1 else whole)
    watching = Confidence(LABELS, SOFTMAX, shape)
    for slab in CaseStream(Predictor(Unsure(), plan(dims), CPU), image, InferenceConfig()).slabs():
        watching.take(slab)
    assert watching.expected_dice == pytest.approx(expected, abs=1e-4)
    assert all(0.4 < dice < 0.95 for dice in expected.values())


class Sure(torch.nn.Module):
    """Says the first label where the image is positive, the background elsewhere, never the second one."""

    def __init__(self, sureness: float) -> None:
        super().__init__()
        self.sureness = sureness

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        value = image[:, :1].sign() * self.sureness
        return torch.cat([-value, value, -10 * value.abs()], dim=1)


def test_who_is_less_sure_expects_less_and_a_mask_that_is_not_there_has_no_dice() -> None:
    image = image_of((12, 12, 12))
    grid = Geometry((12, 12, 12), np.eye(4))
    found = []
    for sureness in (10.0, 1.0, float("nan")):
        watching = Confidence(LABELS, SOFTMAX, grid.shape)
        prepared = Prepared(image, None, grid, grid)
        segment(Predictor(Sure(sureness), plan(3), CPU), prepared, InferenceConfig(overlap=0), watchers=[watching])
        found.append(watching.expected_dice)
    assert found[0] == {"core": pytest.approx(1.0, abs=1e-4), "both": pytest.approx(1.0, abs=1e-4)}
    assert found[1]["core"] == pytest.approx(1 / (1 + np.exp(-2)), abs=0.02)  # half of the image, so sure of each voxel
    assert found[1].keys() == {"core", "both"}
    assert found[2] == {}


def test_what_a_full_gpu_cannot_count_is_counted_on_the_processor() -> None:
    seen: list[torch.Tensor] = []

    def fails_once(logits: torch.Tensor) -> float:
        seen.append(logits)
        if len(seen) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return float(logits.sum())

    assert or_on_processor(fails_once, torch.ones(3)) == 3
    with pytest.raises(RuntimeError, match="no such thing"):
        or_on_processor(lambda logits: (_ for _ in ()).throw(RuntimeError("no such thing")), torch.ones(3))
