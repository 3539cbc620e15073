"""How much memory prediction takes, and how to make do with less."""

from dataclasses import dataclass

import torch

from medseg.config import InferenceConfig
from medseg.inference.windows import Layout
from medseg.plan import Plan

WINDOW_BATCH_SIZE = {2: 16, 3: 4}


@dataclass(frozen=True)
class Room:
    """What the stream takes; results are the same but for rounding."""

    batch_size: int  # windows that the network gets at a time
    rows_at_once: int = 1  # of windows, before voxels leave
    dtype: torch.dtype = torch.float32  # of the sums
    sums_on_device: bool = True  # or in main memory


def usual_room(layout: Layout, plan: Plan, config: InferenceConfig) -> Room:
    """Where memory is no concern: rows of windows that fill a batch."""
    batch_size = config.window_batch_size or WINDOW_BATCH_SIZE[plan.dims]
    return Room(batch_size, rows_at_once=-(-batch_size // layout.windows_per_row))
