"""TotalSegmentator's weights, drawn at random, in folders as its program keeps them."""

from collections.abc import Mapping
from pathlib import Path

import nnunet_folder

from medseg.interop.totalsegmentator.tasks import read_tasks

TABLES = read_tasks()


def write_weights(home: Path, task: str, speed: str = "default", values: Mapping[str, int] | None = None) -> None:
    """Writes the models of a task as its program keeps them, with patches of 16 voxels."""
    variant = TABLES.tasks[task].variants[speed]
    spacing = list(reversed(variant.spacing or (1.0, 1.0, 3.0)))
    for dataset in variant.datasets:
        labels = dict(values or TABLES.values_of(task, dataset))
        configuration = {"spacing": spacing, "patch_size": [16, 16, 16], "architecture": nnunet_folder.architecture()}
        plans = nnunet_folder.plans(configuration, dataset_name=TABLES.datasets[dataset])
        plans["configurations"] = {variant.configuration: plans["configurations"]["3d_fullres"]}
        weights = nnunet_folder.state(outputs=len(labels) + 1, seed=dataset)
        saved = nnunet_folder.checkpoint(
            weights, variant.configuration, trainer_name=variant.trainer, inference_allowed_mirroring_axes=None
        )
        folder = f"{variant.trainer}__nnUNetPlans__{variant.configuration}"
        nnunet_folder.write(
            home / "nnunet" / "results" / TABLES.datasets[dataset] / folder,
            plans, {"labels": {"background": 0, **labels}}, dict.fromkeys(variant.folds or ("0", "1"), saved),
        )  # fmt: skip
