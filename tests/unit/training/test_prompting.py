"""Prompts that a batch gets while a network is trained."""

from typing import Literal

import pytest
import torch

from medseg.architecture import PromptChannels
from medseg.interactive import target_objects
from medseg.plan import LearntRegion, Plan
from medseg.training import prompting
from medseg.training.prompting import Prompting

SHAPE = (16, 16, 16)


@pytest.fixture(autouse=True)
def never_wider(monkeypatch: pytest.MonkeyPatch) -> None:
    """But where a test says so."""
    monkeypatch.setattr(prompting, "WIDER", 0.0)


def promptable(plan: Plan, objects: Literal["labels", "any"] = "labels", **changes: object) -> Plan:
    prompts = PromptChannels(point_radius_mm=3, scribble_radius_mm=1, objects=objects)
    architecture = plan.architecture.model_copy(update={"prompts": prompts})
    return plan.model_copy(update={"architecture": architecture, **changes})


def batch(n: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    label = torch.zeros(n, 1, *SHAPE, dtype=torch.uint8)
    label[:, :, 3:9, 3:12, 3:12] = 1
    label[:, :, 9:13, 3:12, 3:12] = 2
    return label.float() + 0.1 * torch.randn(label.shape, generator=generator), label


def silent(image: torch.Tensor) -> torch.Tensor:
    """A network that never sees anything."""
    return torch.cat([torch.ones_like(image[:, :1]), -torch.ones_like(image[:, :3])], 1)


def test_some_samples_have_an_object_and_prompts_and_others_neither(tiny_plan: Plan) -> None:
    image, label = batch(40)
    seen, target = Prompting(promptable(tiny_plan), silent)(image, label, seed=(0, 1), first=0)
    assert torch.equal(seen[:, :1], image) and torch.equal(target[:, :1], label)
    unprompted = (target[:, 1] == 255).flatten(1).all(1)
    assert 0.1 < unprompted.float().mean() < 0.5
    assert not seen[unprompted, 1:].any()
    assert seen[~unprompted, 1:].flatten(1).any(1).all()
    for own, structure in zip(label[~unprompted, 0], target[~unprompted, 1], strict=True):
        assert any(torch.equal(structure == 1, own == value) for value in (1, 2))


def test_a_sample_is_the_same_whichever_process_has_it_and_whatever_else_is_drawn(tiny_plan: Plan) -> None:
    image, label = batch()
    each = Prompting(promptable(tiny_plan), silent)
    for step in range(4):
        whole = each(image, label, seed=(0, step), first=0)
        torch.manual_seed(step)
        part = each(image[5:], label[5:], seed=(0, step), first=5)
        assert all(torch.equal(a[5:], b) for a, b in zip(whole, part, strict=True))
    assert not torch.equal(each(image, label, seed=(1, 3), first=0)[1], whole[1])


def test_the_user_corrects_what_the_network_said(tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompting, "ROUNDS", (0.0, 0.0, 1.0))
    monkeypatch.setattr(prompting, "UNPROMPTED", 0.0)
    image, label = batch(24)
    asked = []

    def network(seen: torch.Tensor) -> torch.Tensor:
        asked.append(seen.clone())
        found = (seen[:, :1] > 1.5).float() - 0.5  # label 2, whatever the prompts say
        return torch.cat([-found, torch.full_like(found, -9), found, found], 1)

    seen, target = Prompting(promptable(tiny_plan), network)(image, label, seed=(0, 5), first=0)
    assert len(asked) == 2
    is_first = (target[:, 1] == 1) & (label[:, 0] == 1)
    of_label_1 = is_first.flatten(1).any(1)
    assert of_label_1.any() and not of_label_1.all()
    previous = seen[:, 1] > 0.5
    from_labels = ~asked[0][:, 1:].flatten(1).any(1)  # nothing was said before the network spoke
    assert from_labels.any() and not from_labels.all()
    assert torch.equal(previous[of_label_1], (image[of_label_1, 0] > 1.5))
    outside = seen[of_label_1, 3] + seen[of_label_1, 7]  # points and scribbles outside: at what is no part of label 1
    assert outside.flatten(1).any(1).float().mean() > 0.1
    assert not (outside[:, 3:6, 3:12, 3:12] > 0.9).any()


def test_unknown_voxels_are_no_part_of_a_target(tiny_plan: Plan) -> None:
    image, label = batch(20)
    label[:, :, 10:] = 255
    _, target = Prompting(promptable(tiny_plan), silent)(image, label, seed=(0, 0), first=0)
    assert (target[:, 1, 10:] == 255).all()
    assert set(target[:, 1, :10].unique().tolist()) == {0, 1, 255}


def test_slices_get_prompts_too_and_regions_are_objects(tiny_plan: Plan) -> None:
    architecture = tiny_plan.architecture.model_copy(
        update={"strides": ((1, 1), (2, 2)), "kernel_sizes": ((3, 3), (3, 3))}
    )
    regions = (
        LearntRegion(name="all", values=(1, 2), value=1),
        LearntRegion(name="core", values=(2,), value=2),
    )
    flat = tiny_plan.model_copy(
        update={"dims": 2, "slice_axis": 2, "patch_size": (16, 16, 1), "architecture": architecture}
    )
    image, label = (each[..., 8] for each in batch(40))
    plan = promptable(flat, regions=regions)
    seen, target = Prompting(plan, lambda image: -image[:, :3])(image, label, seed=(0, 2), first=0)
    assert seen.shape == (40, 8, 16, 16) and target.shape == (40, 2, 16, 16)
    assert any(torch.equal(own == 1, of > 0) for own, of in zip(target[:, 1], label[:, 0], strict=True))


def test_some_prompted_samples_are_seen_wider_with_prompts_at_their_scale(
    tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompting, "WIDER", 1.0)
    monkeypatch.setattr(prompting, "ROUNDS", (1.0,))
    monkeypatch.setattr(prompting, "ZOOMS", (2.0,))
    image, label = batch(30)
    before = image.clone(), label.clone()
    seen, target = Prompting(promptable(tiny_plan), silent)(image, label, seed=(0, 1), first=0)
    assert torch.equal(image, before[0]) and torch.equal(label, before[1])  # which a teacher may see
    unprompted = (target[:, 1] == 255).flatten(1).all(1)
    assert torch.equal(seen[unprompted, :1], image[unprompted]) and not unprompted.all()
    wider, inside = seen[~unprompted, 0], (slice(None), slice(4, 12), slice(4, 12), slice(4, 12))
    assert torch.allclose(wider[inside], torch.nn.functional.avg_pool3d(image[~unprompted], 2)[:, 0])
    assert wider.sum() == pytest.approx(wider[inside].sum())  # nothing is around
    assert set(target[~unprompted, 0].unique().tolist()) == {0, 1, 2}
    assert (target[~unprompted, 1] == 1).flatten(1).sum(1).max() <= 6 * 9 * 9 / 8 * 2
    points = seen[~unprompted, 2]
    balls = points[points.flatten(1).any(1)] > 0
    assert balls.any() and balls.flatten(1).sum(1).max() <= 27  # 3 mm of voxels of at least 2 mm


def test_what_is_drawn_into_a_sample_is_its_object_and_hides_labels(
    tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_objects, "KINDS", dict.fromkeys(target_objects.KINDS, 0.0) | {"drawn into the image": 1})
    monkeypatch.setattr(prompting, "ROUNDS", (1.0,))
    image, label = batch(12)
    label[:, :, 14:] = 255
    seen, target = Prompting(promptable(tiny_plan, "any"), silent)(image, label, seed=(0, 1), first=0)
    drawn = target[:, 1] == 1
    assert drawn.flatten(1).any(1).sum() > 4
    assert (target[:, 0][drawn] == 255).all()
    assert torch.equal(target[:, 0][~drawn], label[:, 0][~drawn])
    assert drawn[:, 14:].any()  # there, too, it is known
    assert (seen[:, 0] != image[:, 0])[drawn].all()
