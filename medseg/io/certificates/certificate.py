"""What a reader that shares no code with the writer found in a mask that was written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

# Contours have no voxels: filled again, each structure has to agree with its mask by at least this Dice.
LEAST_DICE = 0.99


@dataclass(frozen=True)
class Certificate:
    """The verdict of a reader that shares no code with the writer, on a mask that it read back.

    Attributes:
        reader: Name and version of the library that read the mask.
        n_voxels: How many voxels were compared.
        n_different: How many of them differ from what was to be written.
        max_distance_mm: How far corners of the grid, vertices or contours lie from where they belong, at most.
        tolerance_mm: How far they may.
        dice: Of contours, which have no voxels: the lowest Dice of a structure that was filled again. Else None.
        remark: What else is wrong.

    Example:
        >>> certificate = Certificate("nibabel 5.3", 1000, 3, max_distance_mm=0.0, tolerance_mm=0.1)
        >>> certificate.passed, certificate.fault
        (False, '3 of 1000 voxels differ')
    """

    reader: str
    n_voxels: int
    n_different: int
    max_distance_mm: float
    tolerance_mm: float
    dice: float | None = None
    remark: str = ""

    @property
    def fault(self) -> str:
        """What is wrong with the mask that was written, in words; empty when nothing is."""
        if self.remark:
            return self.remark
        if not self.max_distance_mm <= self.tolerance_mm:
            return f"it lies up to {self.max_distance_mm:.3g} mm away from its place"
        if self.dice is not None:
            return f"Dice is {self.dice:.4f} for one structure" if self.dice < LEAST_DICE else ""
        return f"{self.n_different} of {self.n_voxels} voxels differ" if self.n_different else ""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.fault

    @property
    def verdict(self) -> str:
        """The verdict in words, for the user."""
        what = "voxel by voxel" if self.dice is None else f"Dice {self.dice:.4f}"
        return f"Read back by {self.reader}: {self.fault or f'right, {what}'}"

    def moved(self, distance_mm: float) -> "Certificate":
        """Returns the certificate of the same mask, where its grid itself lies off its place.

        Args:
            distance_mm: How far the grid lies off.
        """
        return replace(self, max_distance_mm=max(self.max_distance_mm, distance_mm))

    def as_json(self) -> dict[str, Any]:
        """Returns the certificate as ``predictions.json`` has it."""
        return {
            "reader": self.reader,
            "n_voxels": self.n_voxels,
            "n_different": self.n_different,
            "max_distance_mm": round(self.max_distance_mm, 6),
            **({} if self.dice is None else {"dice": round(self.dice, 6)}),
            "passed": self.passed,
        }


def together(certificates: Sequence[Certificate]) -> Certificate:
    """Returns one certificate for several files, or several structures."""
    dices = [certificate.dice for certificate in certificates if certificate.dice is not None]
    return Certificate(
        reader=certificates[0].reader,
        n_voxels=sum(certificate.n_voxels for certificate in certificates),
        n_different=sum(certificate.n_different for certificate in certificates),
        max_distance_mm=max(certificate.max_distance_mm for certificate in certificates),
        tolerance_mm=min(certificate.tolerance_mm for certificate in certificates),
        dice=min(dices, default=None),
        remark="; ".join(certificate.remark for certificate in certificates if certificate.remark),
    )
