"""Losses for small and thin structures: against what their formulas say, with regions, ignored voxels, heads."""

import numpy as np
import pytest
import torch
from monai.losses import FocalLoss, SoftclDiceLoss, TverskyLoss
from scipy.ndimage import distance_transform_edt, label

from medseg.config import load
from medseg.errors import ConfigError
from medseg.labels import IGNORED
from medseg.losses import create_loss
from medseg.losses.components import SMOOTH
from medseg.losses.tubes import tubed_skeleton

NAMES = ("cc-dice-ce", "blob", "skeleton-recall", "cldice", "tversky", "focal")
RANDOM = np.random.default_rng(0)


def _lesions(*shape: int) -> torch.Tensor:
    """Two samples with lesions of labels 1 and 2; the second sample has none of label 2."""
    target = np.zeros((2, 1, *shape), np.uint8)
    target[0, 0, 1:3, 1:3] = target[0, 0, 8:14, 2:9] = target[1, 0, 2:4, 3:4] = target[1, 0, 9:11, 9:15] = 1
    target[0, 0, 4:6, 12:15] = 2
    if len(shape) == 3:
        target[..., :3] = 0
    return torch.from_numpy(target)


def _logits(channels: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(RANDOM.normal(size=(2, channels, *shape)).astype(np.float32))


def _by_hand(probability: np.ndarray, mask: np.ndarray, entropy: np.ndarray, nearest: bool) -> list[float]:
    """The Dice and cross-entropy of each component, voxel by voxel, as the papers have it."""
    components, n = label(mask, structure=np.ones((3,) * mask.ndim))
    if nearest:
        where = distance_transform_edt(components == 0, return_distances=False, return_indices=True)
        part = components[tuple(where)]
    values = []
    for i in range(1, n + 1):
        own = part == i if nearest else (components == i) | (components == 0)
        p, m = probability[own], (components == i)[own]
        values.append(1 - (2 * (p * m).sum() + SMOOTH) / (p.sum() + m.sum() + SMOOTH) + entropy[own].mean())
    return values


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 8)])
@pytest.mark.parametrize("name, weight", [("cc-dice-ce", 1.0), ("blob", 0.5)])
def test_each_component_counts_alike(name: str, weight: float, shape: tuple[int, ...]) -> None:
    target, logits = _lesions(*shape), _logits(3, *shape)
    probability = logits.softmax(1).numpy()
    entropy = torch.nn.functional.cross_entropy(logits, target[:, 0].long(), reduction="none").numpy()
    of_labels = []
    for value in (1, 2):
        masks = target[:, 0].numpy() == value
        each = [_by_hand(probability[i, value], masks[i], entropy[i], name == "cc-dice-ce") for i in (0, 1)]
        of_labels.append(np.mean(each[0] + each[1]))
    expected = float(create_loss()(logits, target)) + weight * np.mean(of_labels)
    assert float(create_loss(name)(logits, target)) == pytest.approx(expected, rel=1e-4)


def test_a_missed_small_lesion_costs_as_much_as_a_large_one() -> None:
    target = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    target[..., 2:32, 2:32] = target[..., 50:52, 50:52] = 1
    found = torch.stack([target[:, 0] == 0, target[:, 0] == 1], 1) * 20.0
    without_small, without_large = found.clone(), found.clone()
    for logits, part in ((without_small, slice(40, None)), (without_large, slice(0, 40))):
        logits[:, 0, part, part], logits[:, 1, part, part] = 20.0, 0.0
    usual, own = (create_loss(name, ce_weight=0) for name in ("dice-ce", "cc-dice-ce"))
    difference = float(own(without_small, target) - usual(without_small, target))
    assert difference == pytest.approx(float(own(without_large, target) - usual(without_large, target)), abs=1e-3)
    assert difference == pytest.approx(0.5, abs=1e-3)
    assert float(usual(without_small, target)) < 0.01


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 8)])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_ignored_changes_nothing_and_has_no_gradient(name: str, shape: tuple[int, ...]) -> None:
    target, logits = _lesions(*shape), _logits(3, *shape)
    target[:, :, :, 9:] = IGNORED
    others = logits.clone()
    others[:, :, :, 9:] += 5
    others.requires_grad_()
    loss = create_loss(name)
    value = loss(others, target)
    assert float(value.detach()) == pytest.approx(float(loss(logits, target)), rel=1e-5)
    value.backward()
    assert others.grad is not None and float(others.grad[:, :, :, 9:].abs().max()) == 0
    assert float(others.grad[:, :, :, :9].abs().max()) > 0


@pytest.mark.parametrize("name", NAMES)
def test_regions_overlap_and_labels_that_nobody_drew_count_nothing(name: str) -> None:
    target, logits = _lesions(16, 16), _logits(2, 16, 16)
    annotated = torch.tensor([[True, True, True], [True, True, False]])
    loss = create_loss(name, regions=[[1, 2], [2]])
    logits.requires_grad_()
    value = loss(logits, target, annotated)
    value.backward()
    assert value.isfinite() and logits.grad is not None
    assert float(logits.grad[1].abs().max()) == 0  # no region is known in this sample
    assert (logits.grad[0].abs().amax((1, 2)) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_find_and_all_found(name: str) -> None:
    empty, logits = torch.zeros(2, 1, 16, 16, dtype=torch.uint8), _logits(3, 16, 16).requires_grad_()
    create_loss(name)([logits, logits[..., ::2, ::2]], empty).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    target = _lesions(16, 16)
    perfect = torch.nn.functional.one_hot(target[:, 0].long(), 3).permute(0, 3, 1, 2) * 50.0 - 25.0
    assert float(create_loss(name)(perfect.requires_grad_(), target)) == pytest.approx(0, abs=1e-3)


def test_tversky_and_focal_are_monais() -> None:
    target, logits = _lesions(16, 16), _logits(3, 16, 16)
    theirs = TverskyLoss(False, True, softmax=True, alpha=0.2, beta=0.8, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)(
        logits, target
    )
    own = create_loss("tversky", alpha=0.2, beta=0.8, ce_weight=0)(logits, target)
    assert float(own) == pytest.approx(float(theirs), rel=1e-5)
    focal = (
        FocalLoss(to_onehot_y=True, use_softmax=True, gamma=3.0)(logits, target) * 3
    )  # its mean goes over labels too
    assert float(create_loss("focal", dice_weight=0, gamma=3.0)(logits, target)) == pytest.approx(
        float(focal), rel=1e-5
    )


def test_cldice_of_one_label_is_monais() -> None:
    target, logits = (_lesions(16, 16, 8) == 1).to(torch.uint8)[:1], _logits(2, 16, 16, 8)[:1]
    theirs = SoftclDiceLoss(iter_=4, include_background=False, to_onehot_y=True, softmax=True, smooth=1e-9)
    own = create_loss("cldice", dice_weight=0, ce_weight=0, iterations=4)
    assert float(own(logits, target)) == pytest.approx(float(theirs(logits, target.long())), rel=1e-4)


def test_a_skeleton_keeps_every_component_and_is_thinner_than_a_tube() -> None:
    mask = np.zeros((24, 24, 40), bool)
    mask[8:17, 8:17, 2:38] = True  # a thick tube
    mask[2:4, 2:4, 2:4] = True  # a cube of even edges, of which thinning leaves nothing
    tube = tubed_skeleton(mask)
    assert not (tube & ~mask).any()
    assert tube[2:4, 2:4, 2:4].all()
    assert tube[12, 12, 6:34].all() and not tube[8, 8].any()


def test_a_gap_in_a_vessel_costs_and_a_thinner_vessel_does_not() -> None:
    target = torch.zeros(1, 1, 48, 16, 16, dtype=torch.uint8)
    target[:, :, :, 4:11, 4:11] = 1
    found = torch.stack([target[:, 0] == 0, target[:, 0] == 1], 1) * 20.0
    thinner = found.clone()
    thinner[:, 1, :, 4] = thinner[:, 1, :, :, 4] = -20
    gap = found.clone()
    gap[:, 1, 20:28] = -20
    loss = create_loss("skeleton-recall", dice_weight=0, ce_weight=0)
    assert float(loss(thinner, target)) == pytest.approx(0, abs=1e-3)
    assert float(loss(gap, target)) > 0.15


@pytest.mark.parametrize(
    "overrides, told",
    [
        (["loss.name=cc-dice", "loss.arguments={}"], "did you mean 'cc-dice-ce'"),
        (["loss.name=tversky", "loss.arguments={betta: 1}"], "tversky has no such argument; did you mean 'beta'"),
        (["loss.name=tversky", "loss.arguments={gamma: x}"], "gamma: cannot be 'x'; tversky wants a number from 1"),
        (["loss.name=cldice", "loss.arguments={iterations: 2.5}"], "wants a whole number from 1 on"),
        (["loss.name=blob", "loss.arguments={component_weight: -1}"], "cannot be -1; blob wants a number from 0 on"),
    ],
)
def test_wrong_arguments_are_refused_by_name(overrides: list[str], told: str) -> None:
    config = load(overrides=overrides)
    with pytest.raises(ConfigError, match=told):
        create_loss(config.loss.name, **config.loss.arguments)
