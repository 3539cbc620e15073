"""Where objects begin, and how small they may be: chosen on held-back cases when a training ends."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from medseg.device import Device
from medseg.inferers.case_stream import CaseStream
from medseg.inferers.model import Model, load_model
from medseg.inferers.model_record import write_model_record
from medseg.inferers.objects import labels_and_depths
from medseg.inferers.predictor import Predictor
from medseg.instances.grouping import Grouping
from medseg.instances.rule import GroupingRule
from medseg.labels import IGNORED
from medseg.metrics.objects import object_pairs
from medseg.progress import counted, say
from medseg.training.run import Run
from medseg.volume import Array

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
# Of the sizes of objects that were trained on: smaller ones may be dropped.
PARTS = (0.0, 0.002, 0.01, 0.03, 0.06)
# Of the held-back cases, and of those that sizes are taken from; on the model grid.
MOST_CASES, MOST_VOXELS = 40, 2**26


def fit_grouping(run: Run, cases: Sequence[str], device: Device, network: torch.nn.Module | None = None) -> None:
    """Chooses the rule of grouping for the best model of a finished training, and writes it into its model.json.

    It is that with the highest mean average precision at IoUs of 0.5 to 0.9, on the model grid; of equal ones the first
    threshold and the smallest objects.

    Args:
        run: Whose model it is.
        cases: Those that are held back.
        device: Where they are predicted.
        network: The module that was trained, where it is one of the user's own.
    """
    if run.plan.objects is None:
        return
    model = load_model(run.folder, device, network=network)
    sizes = smallest_sizes(run)
    tried = list(_within_limits(run, cases))
    scores = np.mean([_scores(model, run, case_id, sizes) for case_id in tried], axis=0)
    best, size = np.unravel_index(int(scores.argmax()), scores.shape)
    rule = GroupingRule(threshold=THRESHOLDS[best], smallest=sizes[size])
    say(
        f"Objects begin at a depth of {rule.threshold:g}, and have {counted(rule.smallest, 'voxel')} or "
        f"more: average precision {scores.max():.3f} on {counted(len(tried), 'held-back case')}"
    )
    write_model_record(model.folder, model.record.model_copy(update={"grouping": rule}))


def smallest_sizes(run: Run) -> list[int]:
    """Returns the sizes that are tried as those of the smallest objects, in voxels of the model grid."""
    sizes = [np.bincount(run.dataset.objects(each).ravel())[1:] for each in _within_limits(run, run.split.training)]
    every = np.concatenate(sizes)
    every = every[every > 0]
    return sorted({1, *(int(np.quantile(every, part)) for part in PARTS)}) if len(every) else [1]


def _within_limits(run: Run, cases: Sequence[str]) -> Iterator[str]:
    """Yields some cases, spread evenly, of no more voxels than are to be looked at; one in any case."""
    step, voxels = max(1, -(-len(cases) // MOST_CASES)), 0
    for case_id in cases[::step]:
        voxels += int(np.prod(run.dataset.model_grid(case_id).shape))
        if voxels > MOST_VOXELS and voxels > int(np.prod(run.dataset.model_grid(case_id).shape)):
            return
        yield case_id


def _scores(model: Model, run: Run, case_id: str, sizes: Sequence[int]) -> Array:
    """Returns the mean average precision of a case, ``(threshold, size)``."""
    plan, dataset = model.record.plan, run.dataset
    image = torch.from_numpy(dataset.image(case_id).astype(np.float32))
    stream = CaseStream(Predictor(model.network, plan, model.device), image, model.record.inference)
    instances = () if plan.objects is None else plan.objects.values
    shape, axis = stream.layout.shape, stream.layout.axis
    groupings = [Grouping(shape, axis, GroupingRule(threshold=threshold)) for threshold in THRESHOLDS]
    for values, depth, start in labels_and_depths(stream):
        for grouping in groupings:
            grouping.take(np.where(np.isin(values, instances), values, 0), depth, start)
    reference = np.array(dataset.objects(case_id))
    known = dataset.label_map(case_id) != IGNORED
    pairs = [object_pairs(reference, grouping.objects().object_map * known) for grouping in groupings]
    return np.array([[each.mean_precision(smallest=size) for size in sizes] for each in pairs])
