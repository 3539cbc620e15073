"""Whether the values of an image are like those of other images: of the training data, or of the rest of a dataset.

What is compared is what the network would notice, and that depends on the normalization of the channel:

* ``ct``, ``linear`` and ``none``: values mean something, and are compared as they are in the file. Cases differ in how
  much of them is air, fat or bone, so that a part of the voxels may well be brighter than those of any other case; but
  not a part several times as large as the others have at all. And their values may not lie ten times as close together,
  as they do when somebody has scaled them to 0–1, or ten times as far apart.
* ``zscore``: the normalization takes out any scale and any offset of a whole image, so these do no harm, and are not
  seen here. What is left is the form of the distribution: normalized values are compared percentile by percentile.
  It is another one in another modality, in an inverted or a saturated image, or where the background isn't 0 any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg.fingerprint import PERCENTS, UsualValues
from medseg.plan import Normalization
from medseg.transforms.extremes import sampled_places
from medseg.volume import Array

Floats = npt.NDArray[np.float64]

QUANTILES = 200
LOW, HIGH = PERCENTS.index(5.0), PERCENTS.index(95.0)
# How many times as many voxels beyond a percentile of the others are put down to another field of view …
SHARE_FACTOR = 2.0
# … and how far beyond it begins, as part of the width of the distribution.
MARGIN = 0.05
# What is told at least, whatever the cases differ in: the part of the voxels that is too much of a tail (ct, none) …
LEAST_SHARE = 0.25
# … and the mean distance between percentiles, as part of the width of the distribution (zscore).
LEAST_DISTANCE = 0.035
# Where cases differ more from one another, a case is told that differs this many times as much.
DIFFERENCE_FACTOR = 2.0
# Ranges that are so many times as narrow or wide are told. A small field of view within a body has a third.
WIDTH_FACTOR = 5.0
# Against fewer others no case is called unlike them: forms of distributions differ more than values.
LEAST_OTHERS = {"ct": 3, "linear": 3, "none": 3, "mask": 3, "zscore": 6}


def quantiles(channel: Array) -> Floats:
    """Returns 200 quantiles of the values of a channel (x, y, z), from a sample of its voxels."""
    flat = channel.ravel(order="K")
    return quantiles_of_sample(flat[sampled_places(flat.size)].astype(np.float64))


def quantiles_of_sample(sample: Array) -> Floats:
    """Returns 200 quantiles of the values of some voxels."""
    result: Floats = np.quantile(sample, (np.arange(QUANTILES) + 0.5) / QUANTILES)
    return result


def profile(quantiles: Floats, rule: Normalization) -> Floats:
    """Returns what is compared of a channel.

    Args:
        quantiles: Of the values of the channel.
        rule: How the channel is normalized.

    Returns:
        For ``zscore`` the quantiles of normalized values, of non-zero voxels where the rule says so; else ``quantiles``
        themselves.
    """
    if rule.kind != "zscore":
        return quantiles
    values = quantiles[quantiles != 0] if rule.nonzero and quantiles.any() else quantiles
    normalized: Floats = (values - values.mean()) / max(float(values.std()), 1e-8)
    return normalized


def usual_values(profiles: Sequence[Floats], rule: Normalization) -> UsualValues:
    """Returns how the values of one channel are spread in all cases.

    Args:
        profiles: One for each case.
        rule: How the channel is normalized.
    """
    together = _Together.of(profiles)
    largest = None if len(profiles) < 2 else max(_differences(profiles, rule))
    return _usual(together, rule, len(profiles), largest)


def unlike_the_others(profiles: Sequence[Floats], rule: Normalization) -> dict[int, str]:
    """Returns the cases that are unlike all others, with what is odd about them in words.

    Args:
        profiles: One for each case.
        rule: How the channel is normalized.

    Returns:
        Words by the index of the case; none where there are fewer than ``LEAST_OTHERS``.
    """
    if len(profiles) <= LEAST_OTHERS[rule.kind]:
        return {}
    differences = _differences(profiles, rule)
    together = _Together.of(profiles)
    found = {}
    for i, each in enumerate(profiles):
        ordinary = float(np.quantile(np.delete(differences, i), 0.9))
        others = _usual(together.without(i), rule, len(profiles) - 1, ordinary)
        told = unlike(each, others, "in the other cases")
        if told is not None:
            found[i] = told
    return found


def unlike(values: Floats, usual: UsualValues, where: str = "in training") -> str | None:
    """Returns what is odd about a case's values against the usual ones, in words; None where they are alike.

    Args:
        values: The profile of a channel of the case.
        usual: Of this channel in other cases.
        where: What these others are, as the sentence is to name them.
    """
    if usual.kind == "zscore":
        return _another_form(values, usual, where)
    return _another_width(values, usual, where) or _another_place(values, usual, where)


@dataclass(frozen=True)
class _Together:
    """The percentiles of several cases: (case, percent)."""

    percentiles: Floats

    @classmethod
    def of(cls, profiles: Sequence[Floats]) -> "_Together":
        return cls(np.array([_percentiles(each) for each in profiles]))

    def without(self, i: int) -> "_Together":
        return _Together(np.delete(self.percentiles, i, axis=0))


def _percentiles(values: Floats) -> Floats:
    places = (np.arange(values.size) + 0.5) / values.size * 100
    percentiles: Floats = np.interp(PERCENTS, places, values)
    return percentiles


def _usual(together: _Together, rule: Normalization, cases: int, largest_difference: float | None) -> UsualValues:
    percentiles = together.percentiles
    widths = percentiles[:, -1] - percentiles[:, 0]
    return UsualValues(
        kind=rule.kind,
        nonzero=rule.nonzero,
        cases=cases,
        percents=PERCENTS,
        lowest=tuple(percentiles.min(axis=0).tolist()),
        median=tuple(np.median(percentiles, axis=0).tolist()),
        highest=tuple(percentiles.max(axis=0).tolist()),
        width=(float(widths.min()), float(widths.max())),
        largest_difference=largest_difference,
    )


def _differences(profiles: Sequence[Floats], rule: Normalization) -> list[float]:
    """Returns how much each case differs from all others."""
    together = _Together.of(profiles)
    others = (_usual(together.without(i), rule, len(profiles) - 1, None) for i in range(len(profiles)))
    measured = _distance if rule.kind == "zscore" else _too_many
    return [measured(each, usual) for each, usual in zip(profiles, others, strict=True)]


def _too_many(values: Floats, usual: UsualValues) -> float:
    """Returns the part of the voxels by which a tail is too large.

    It is too large where beyond a percentile of all other cases lie more than a multiple of what lies there in them.
    """
    return max(_excess(values, usual, above=True), _excess(values, usual, above=False))


def _excess(values: Floats, usual: UsualValues, above: bool) -> float:
    margin = MARGIN * _width(usual)
    if above:
        beyond = [(values > edge + margin).mean() for edge in usual.highest]
        theirs = [1 - percent / 100 for percent in usual.percents]
    else:
        beyond = [(values < edge - margin).mean() for edge in usual.lowest]
        theirs = [percent / 100 for percent in usual.percents]
    return float(max(0.0, *(mine - SHARE_FACTOR * their for mine, their in zip(beyond, theirs, strict=True))))


def _distance(values: Floats, usual: UsualValues) -> float:
    """Returns the mean over all percentiles of how far they lie outside of what the other cases span."""
    mine = _percentiles(values)
    outside = np.maximum(0, np.maximum(np.array(usual.lowest) - mine, mine - np.array(usual.highest)))
    return float(outside.mean() / max(_width(usual), 1e-8))


def _width(usual: UsualValues) -> float:
    return usual.median[HIGH] - usual.median[LOW]


def _another_form(values: Floats, usual: UsualValues, where: str) -> str | None:
    if usual.largest_difference is None or usual.cases < LEAST_OTHERS["zscore"]:
        return None  # too little is known of how far cases differ
    difference = _distance(values, usual)
    limit = max(LEAST_DISTANCE, DIFFERENCE_FACTOR * usual.largest_difference)
    if difference <= limit:
        return None
    return (
        f"its values are spread otherwise than {where} (percentiles of the normalized values lie {difference:.2f} of "
        f"their range apart, up to {limit:.2f} is ordinary); is it of another modality or sequence, inverted, or with "
        "another background?"
    )


def _another_width(values: Floats, usual: UsualValues, where: str) -> str | None:
    mine = _percentiles(values)
    width, (narrowest, widest) = mine[-1] - mine[0], usual.width
    if narrowest <= WIDTH_FACTOR * width and width <= WIDTH_FACTOR * widest:
        return None
    return (
        f"98 of 100 of its voxels have values between {mine[0]:.4g} and {mine[-1]:.4g}, {where} between "
        f"{usual.median[0]:.4g} and {usual.median[-1]:.4g}; were they scaled, or is it of another modality?"
    )


def _another_place(values: Floats, usual: UsualValues, where: str) -> str | None:
    limit = max(LEAST_SHARE, DIFFERENCE_FACTOR * (usual.largest_difference or 0.0))
    if _too_many(values, usual) <= limit:
        return None
    above = _excess(values, usual, above=True) >= _excess(values, usual, above=False)
    mine = _percentiles(values)
    text = (
        f"too many of its voxels are {'brighter' if above else 'darker'} than {where}: its 1st, 50th and 99th "
        f"percentiles are {_three(mine)}, {where} {_three(usual.lowest)} to {_three(usual.highest)}"
    )
    if usual.kind == "ct":
        return f"{text}; is its intercept another one (air lies at -1000 in Hounsfield units), or is it no CT?"
    return f"{text}; does it have another offset or scale, or is it of another modality?"


def _three(percentiles: Floats | Sequence[float]) -> str:
    return ", ".join(f"{percentiles[PERCENTS.index(percent)]:.4g}" for percent in (1.0, 50.0, 99.0))
