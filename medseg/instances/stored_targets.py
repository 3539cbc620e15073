"""Targets of objects, made of the object maps of a prepared dataset when they are first needed, and kept with it."""

from functools import partial
from pathlib import Path

import numpy as np

from medseg.dataset.store import PreparedDataset
from medseg.errors import OutputError
from medseg.files import written_whole
from medseg.instances.targets import object_targets
from medseg.parallel import run_in_workers
from medseg.plan import Plan


def store_targets(dataset: PreparedDataset, plan: Plan) -> None:
    """Writes what networks of a plan learn of objects beside the object map of each case, unless it is there.

    Files are ``cases/<case_id>/<kind>_<dims>d.npy``, uint8 ``(x, y, z)`` on the model grid.

    Args:
        dataset: All cases of it, whichever it is a subset of.
        plan: Says which targets, and which axis 2D networks don't see.

    Raises:
        OutputError: One could not be made.
    """
    if plan.objects is None:
        return
    kinds = plan.objects.targets
    missing = [
        case_id
        for case_id in dataset.cases
        if not all(dataset.target_path(case_id, kind, plan.dims).is_file() for kind in kinds)
    ]
    make = partial(_make, dataset.folder, plan)
    for outcome in run_in_workers(make, missing, description="Targets of objects"):
        if outcome.error is not None:
            raise OutputError(f"{dataset.folder}: {outcome.item}: its objects cannot be learnt: {outcome.error}")


def _make(folder: Path, plan: Plan, case_id: str) -> bool:
    """Makes the targets of a case. It runs in a worker."""
    dataset, kinds = PreparedDataset(folder), plan.objects.targets if plan.objects is not None else ()
    spacing = dataset.model_grid(case_id).spacing
    targets = object_targets(np.array(dataset.objects(case_id)), spacing, kinds, plan.slice_axis)
    for target, kind in zip(targets, kinds, strict=True):
        with written_whole(dataset.target_path(case_id, kind, plan.dims)) as temporary:
            np.save(temporary, target, allow_pickle=False)
    return True
