"""Types of settings: durations, ranges, and what may be mirrored, as people write them."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeFloat, PositiveFloat


def seconds(duration: object) -> object:
    """Returns the seconds of ``"90s"``, ``"30m"``, ``"1h30m"`` or ``"2d"``; numbers are seconds already."""
    if not isinstance(duration, str) or re.fullmatch(r"[0-9.]+", duration):
        return duration
    parts = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", duration.strip())
    if not parts or not duration.strip():
        raise ValueError("write a duration as 90s, 30m, 1h30m or 2d")
    return sum(int(n or 0) * unit for n, unit in zip(parts.groups(), (86400, 3600, 60, 1), strict=True))


def ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    """Returns the bounds of a range. Raises ``ValueError`` where the larger one comes first."""
    if bounds[0] > bounds[1]:
        raise ValueError("write the smaller number first")
    return bounds


def mirroring(choice: object) -> object:
    """Returns the choice of axes to mirror; yes and no, which people write, are all and none."""
    return {True: "all", False: "none"}[choice] if isinstance(choice, bool) else choice


Mirror = Annotated[Literal["auto", "left-right", "all", "none"], BeforeValidator(mirroring)]
Duration = Annotated[float, BeforeValidator(seconds), Field(gt=0)]
Range = Annotated[tuple[NonNegativeFloat, NonNegativeFloat], AfterValidator(ascending)]
PositiveRange = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(ascending)]
