"""An object that a user prompts: its prompts, its mask, and what it was before."""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from medseg.interactive.bounds import Bounds
from medseg.interactive.object_mask import ObjectMask
from medseg.interactive.prompts import Prompt
from medseg.volume import Array

MOST_STEPS_BACK = 50


class EarlierState(NamedTuple):
    """What an object was before a step: its mask in bits, which is little to keep."""

    prompts: tuple[Prompt, ...]
    answered: int
    bounds: Bounds
    bits: Array


@dataclass
class PromptedObject:
    """An object that the user prompts.

    Attributes:
        prompts: From the oldest to the newest.
        answered: How many of them the mask answers to.
        mask: What it is so far.
        steps: What it was before each step that can be undone.
    """

    prompts: tuple[Prompt, ...] = ()
    answered: int = 0
    mask: ObjectMask = field(default_factory=ObjectMask)
    steps: deque[EarlierState] = field(default_factory=lambda: deque(maxlen=MOST_STEPS_BACK))

    def remember(self) -> None:
        """Notes the present state of the object, for ``go_back``."""
        mask = self.mask
        self.steps.append(EarlierState(self.prompts, self.answered, mask.bounds, np.packbits(mask.voxels)))

    def go_back(self) -> None:
        """Becomes what it was before the last step; stays as it is where there is none."""
        if not self.steps:
            return
        self.prompts, self.answered, bounds, bits = self.steps.pop()
        shape = [high - low for low, high in bounds]
        voxels = np.unpackbits(bits, count=int(np.prod(shape))).astype(bool).reshape(shape)
        self.mask = ObjectMask(bounds, voxels)
