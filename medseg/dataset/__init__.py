"""Datasets: what a folder holds, and what ``medseg preprocess`` makes of it.

Public names are imported when they are first used, since PyTorch and MONAI take seconds to import.
"""

from typing import TYPE_CHECKING

from medseg.lazy_names import lazy_names

if TYPE_CHECKING:
    from medseg.dataset.patches import Batch, PatchSampler
    from medseg.dataset.prepared_json import DatasetRecord
    from medseg.dataset.splits import Split, split_fold
    from medseg.dataset.store import PreparedDataset

_HOMES = {
    "Batch": "medseg.dataset.patches",
    "DatasetRecord": "medseg.dataset.prepared_json",
    "PatchSampler": "medseg.dataset.patches",
    "PreparedDataset": "medseg.dataset.store",
    "Split": "medseg.dataset.splits",
    "split_fold": "medseg.dataset.splits",
}

__all__ = ["Batch", "DatasetRecord", "PatchSampler", "PreparedDataset", "Split", "split_fold"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
