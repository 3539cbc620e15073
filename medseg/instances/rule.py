"""The rule by which voxels are grouped into objects: what a model's record keeps of it."""

from pydantic import Field, PositiveInt

from medseg.records import Record


class GroupingRule(Record):
    """Where objects begin, and how small they may be.

    Attributes:
        threshold: Voxels with at least this score, 0 … 1, that touch each other are the middle of one object.
        smallest: Objects of fewer voxels are dropped.
    """

    threshold: float = Field(0.5, gt=0, lt=1)
    smallest: PositiveInt = 1
