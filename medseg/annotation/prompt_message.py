"""A prompt as the page sends it."""

from typing import Literal

import numpy as np
from pydantic import Base64Bytes, Field

from medseg.errors import GeometryError
from medseg.interactive.bounds import Bounds, shape_of
from medseg.records import Record
from medseg.volume import MaskArray

LONGEST_NAME = 100


class PromptMessage(Record):
    """A prompt, in voxels of the image as it is shown.

    Attributes:
        kind: What it is.
        label: Name of the label that it belongs to.
        positive: Whether what is marked belongs to the label.
        place: Of a point.
        bounds: Of a box, or of what was drawn over.
        voxels: Of a scribble or a lasso: a bit for each voxel of the box, the first axis changing fastest.
        keeps_others: Whether voxels of other labels stay what they are.
    """

    kind: Literal["point", "box", "scribble", "lasso"]
    label: str = Field(max_length=LONGEST_NAME)
    positive: bool = True
    place: tuple[int, int, int] = (0, 0, 0)
    bounds: Bounds = ((0, 1), (0, 1), (0, 1))
    voxels: Base64Bytes = b""
    keeps_others: bool = False

    @property
    def mask(self) -> MaskArray:
        """The voxels, boolean ``(x, y, z)``, of the shape of the box.

        Raises:
            GeometryError: There are fewer bits than voxels.
        """
        shape = shape_of(self.bounds)
        count = int(np.prod(shape))
        if min(shape) < 1 or len(self.voxels) * 8 < count:
            raise GeometryError(f"{self.kind}: has fewer bits than its box has voxels")
        bits = np.unpackbits(np.frombuffer(self.voxels, np.uint8), count=count, bitorder="little")
        return bits.astype(bool).reshape(shape, order="F")
