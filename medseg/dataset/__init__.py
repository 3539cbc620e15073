"""Datasets: what a folder holds, and what ``medseg preprocess`` makes of it.

Public names are imported when they are first used, since PyTorch and MONAI take seconds to import.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medseg.dataset.patches import Batch, PatchSampler
    from medseg.dataset.prepared_json import DatasetRecord
    from medseg.dataset.splits import Split, split_fold
    from medseg.dataset.store import PreparedDataset

_HOMES = {
    "Batch": "patches",
    "DatasetRecord": "prepared_json",
    "PatchSampler": "patches",
    "PreparedDataset": "store",
    "Split": "splits",
    "split_fold": "splits",
}

__all__ = ["Batch", "DatasetRecord", "PatchSampler", "PreparedDataset", "Split", "split_fold"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medseg.dataset' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"medseg.dataset.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
