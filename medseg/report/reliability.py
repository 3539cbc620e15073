"""Reliability diagrams: how often a label was there, against the probability that it was given."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import log10

from medseg.evaluation.calibration import LabelCalibration
from medseg.report.distributions import EDGE, LEFT, WIDTH
from medseg.report.scale import Scale
from medseg.structures import Colour

HEIGHT = 300.0
CURVE = (EDGE, 206.0)  # top and bottom
COUNTS = (226.0, 276.0)
GAP = 1.0  # between bars


@dataclass(frozen=True)
class Bar:
    """A bin of probabilities.

    Attributes:
        x: Its left edge on the page.
        width: On the page.
        y: Its upper edge.
        height: On the page: the logarithm of how many voxels it holds.
        point: Of the curve; None where there are no voxels.
        text: What it says when it is pointed at.
    """

    x: float
    width: float
    y: float
    height: float
    point: tuple[float, float] | None
    text: str


@dataclass(frozen=True)
class Reliability:
    """The reliability diagram of a label.

    Attributes:
        label: Its name.
        colour: Of its curve.
        calibration: What was measured.
        across: The axis of the probabilities.
        up: The axis of the frequencies.
        bars: The bins.
        most: How many voxels the fullest bin holds.
        curve: Top and bottom of the curve on the page.
        counts: Top and bottom of the bars on the page.
        width: Of the page's SVG.
        height: Of the page's SVG.
    """

    label: str
    colour: Colour
    calibration: LabelCalibration
    across: Scale
    up: Scale
    bars: tuple[Bar, ...]
    most: int
    curve: tuple[float, float] = CURVE
    counts: tuple[float, float] = COUNTS
    width: float = WIDTH
    height: float = HEIGHT

    @property
    def points(self) -> str:
        """The places of the points on the page, as an SVG polyline has them: ``"x,y x,y"``."""
        return " ".join(f"{bar.point[0]},{bar.point[1]}" for bar in self.bars if bar.point is not None)


def reliabilities(calibration: Mapping[str, LabelCalibration], colours: Mapping[str, Colour]) -> Iterator[Reliability]:
    """Yields a reliability diagram for each label.

    Args:
        calibration: What was measured, by label.
        colours: By label.
    """
    across = Scale(0.0, 1.0, LEFT / 2, WIDTH - EDGE)
    up = Scale(0.0, 1.0, CURVE[1], CURVE[0])
    for name, label in calibration.items():
        most = max(each.voxels for each in label.bins)
        heights = Scale(0.0, max(log10(most + 1), 1.0), 0.0, COUNTS[1] - COUNTS[0])
        bars = []
        for each in label.bins:
            left, right, height = across(each.low), across(each.high), heights(log10(each.voxels + 1))
            point, text = None, f"{each.low:.2f}–{each.high:.2f}: {each.voxels:,} voxels"
            if each.confidence is not None and each.frequency is not None:
                point = across(each.confidence), up(each.frequency)
                text += f", mean probability {each.confidence:.3f}, {each.frequency:.3f} of them {name}"
            y = round(COUNTS[1] - height, 2)
            bars.append(Bar(left + GAP / 2, round(right - left - GAP, 2), y, height, point, text))
        yield Reliability(name, colours[name], label, across, up, tuple(bars), most)
