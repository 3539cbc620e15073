"""Objects on the grid of the source, of logits on the model grid."""

import numpy as np
import pytest
import torch

from medseg.decoding import FirstOutputs, decoding_of
from medseg.errors import ModelError
from medseg.inferers.objects import ObjectObserver
from medseg.instances.rule import GroupingRule
from medseg.metrics.objects import object_pairs
from medseg.plan import ObjectOutputs
from medseg.transforms.restoring import Restoring
from medseg.volume import Geometry

CENTRES = np.array([[9.0, 9, 9], [9, 22, 10], [22, 9, 9], [22, 21, 11], [9, 15, 22], [20, 16, 23]])
RADIUS = 7.0  # the first and second, and others, touch


@pytest.fixture
def plan_of_objects(tiny_plan):
    return tiny_plan.model_copy(update={"objects": ObjectOutputs(values=(1, 2), targets=("distance",))})


def balls(places):
    """The label, the object and the depth of each place in mm, ``(…, 3)``."""
    depth = 1 - np.linalg.norm(places[..., None, :] - CENTRES, axis=-1) / RADIUS
    number, deepest = depth.argmax(-1) + 1, depth.max(-1)
    return np.where(deepest > 0, 1 + number % 2, 0), np.where(deepest > 0, number, 0), deepest.clip(0.01, 0.99)


def logits_on(grid: Geometry) -> torch.Tensor:
    """Logits ``(x, y, z, output)`` of the background, two labels and the depth."""
    labels, _, depth = balls(grid.world(np.stack(np.indices(grid.shape), -1).reshape(-1, 3)).reshape(*grid.shape, 3))
    of_labels = np.where(labels[..., None] == np.arange(3), 5.0, -5.0)
    return torch.from_numpy(np.concatenate([of_labels, np.log(depth / (1 - depth))[..., None]], -1)).float()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("affine", [np.diag([1.0, 1, 1, 1]), np.diag([0.8, 1.3, 2.0, 1]), "turned"])
def test_objects_come_to_the_grid_of_the_source(plan_of_objects, axis, affine):
    if isinstance(affine, str):
        affine = np.array([[0, -1.0, 0, 31], [0, 0, 1.5, 0], [-1.2, 0, 0, 31], [0, 0, 0, 1]])
    grid = Geometry((32, 32, 32), np.eye(4))
    inside = np.abs(np.linalg.inv(affine[:3, :3]) @ [31, 31, 31])
    source = Geometry(tuple(int(n) + 1 for n in inside), affine)
    observer = ObjectObserver(plan_of_objects, GroupingRule(threshold=0.5), source)
    restoring = Restoring(grid, source, axis, [observer], decoding_of(plan_of_objects))
    logits = logits_on(grid)
    for start, stop in ((0, 9), (8, 10), (9, 25), (24, 32)):
        restoring.take(logits.narrow(axis, start, stop - start), start)
    objects = observer.objects()
    places = source.world(np.stack(np.indices(source.shape), -1).reshape(-1, 3)).reshape(*source.shape, 3)
    _, truth, _ = balls(places)
    assert object_pairs(truth, objects.object_map).mean_precision([0.5, 0.8]) == 1
    assert ((objects.object_map > 0) == (restoring.label_map > 0)).all()
    for number, value in enumerate(objects.values, start=1):
        assert np.bincount(restoring.label_map[objects.object_map == number]).argmax() == value


def test_outputs_of_objects_do_not_touch_those_of_labels(plan_of_objects):
    logits = torch.randn(5, 4, 3, 2, generator=torch.Generator().manual_seed(0))  # (output, x, y, z)
    logits[4] = 50  # were it a label, it would win everywhere
    first = decoding_of(plan_of_objects.model_copy(update={"objects": None}))
    both = FirstOutputs(first, others=1)
    unions = {"one": (1,), "both": (1, 2)}
    for made, wanted in (
        (both.labels(logits, 0), first.labels(logits[:4], 0)),
        (both.activated(logits), first.activated(logits[:4])),
        (both.entropy(logits), first.entropy(logits[:4])),
        (both.probabilities(logits, unions), first.probabilities(logits[:4], unions)),
        (both.nothing(5)[:4], first.nothing(4)),
    ):
        assert torch.equal(made, wanted)
    assert both.n_values(5) == 4
    assert torch.equal(both.depth(logits), logits[4].sigmoid())
    assert both.depth(both.nothing(5).view(5, 1, 1, 1)).item() < 1e-4


def test_a_model_without_objects_says_what_to_do(tiny_plan):
    with pytest.raises(ModelError, match=r"dataset\.json"):
        ObjectObserver(tiny_plan, None, Geometry((4, 4, 4), np.eye(4)))
