"""How far predicted probabilities can be believed: of the voxels that were given 0.8, 8 of 10 should be the label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medseg.errors import GeometryError, MedsegError, Problem, SourceError
from medseg.evaluation.measure import in_workers
from medseg.evaluation.pairs import CasePair
from medseg.evaluation.predictions_json import map_paths, saved_probabilities
from medseg.evaluation.reading import as_said, read_pair
from medseg.evaluation.summary import Floats, interval, resamples
from medseg.io.read import read_volume
from medseg.labels import Labels
from medseg.metrics.overlap import mask_of
from medseg.parallel import Workers
from medseg.records import Record
from medseg.volume import Array, Geometry, Volume, box_of

N_BINS = 15  # as Guo et al. 2017
MARGIN_MM = 10.0
ROUNDING = 1e-6  # what saved probabilities may lie beyond 0 and 1, and beyond the edge of a bin

DEFINITIONS = {
    "voxels": f"of each case and label those in a box around the label in either mask, {MARGIN_MM:g} mm wider on each "
    "side: beyond it, background that nobody doubts would make any model look calibrated (boxes around the foreground: "
    "Mehrtash et al. 2020). Voxels that the reference ignores do not count, nor do cases in which the label was not "
    "annotated. Cases in which neither mask has the label do not count",
    "bins": f"{N_BINS} bins of equal width over the probability of the label, each without its lower edge, the first "
    "with it; filled with the voxels of all cases together. confidence: mean probability in a bin; frequency: part of "
    "its voxels that are the label in the reference; both null in an empty bin",
    "ece": "expected calibration error: mean over the bins of |frequency - confidence|, weighted by their voxels "
    "(Guo et al. 2017; of each label against all others)",
    "brier": "mean of (probability - 1 where the reference has the label, else 0)², over the same voxels (Brier 1950)",
    "interval": "95 % percentile bootstrap interval of ece, 2,000 resamples of the cases, seed 0",
}


class Bin(Record):
    """The voxels whose probability lies between ``low`` and ``high``; None where there are none."""

    low: float
    high: float
    voxels: int
    confidence: float | None
    frequency: float | None


class LabelCalibration(Record):
    """One label over the ``cases`` that have probabilities of it; ``interval`` is that of ``ece``."""

    cases: int
    voxels: int
    ece: float
    interval: tuple[float, float] | None
    brier: float
    bins: list[Bin]


@dataclass(frozen=True)
class Counts:
    """Voxels of one case and label, summed up by bin; no voxel is kept. ``squares`` are those of the errors."""

    voxels: Floats
    confidence: Floats
    frequency: Floats
    squares: float


def count_case(
    pair: CasePair, *, predictions: Path, labels: Labels, grid_tolerance: float
) -> tuple[dict[str, Counts], list[str]]:
    """Returns counts by label, and what is wrong with single maps. It holds one map at a time, and runs in a worker."""
    folder = saved_probabilities(predictions, pair.case_id)
    if folder is None:
        return {}, []
    prediction, reference = read_pair(pair, grid_tolerance)
    counts, wrong = {}, []
    known = np.full(reference.geometry.shape, True)
    if labels.ignore is not None:
        known = reference.label_map != labels.ignore
    maps = map_paths(folder, list(labels.unions))
    for label in labels.annotated_structures(pair.reference.annotated):
        masks = mask_of(prediction.label_map, label.values), mask_of(reference.label_map, label.values)
        try:
            probabilities = _read(maps[label.name], pair, reference.geometry, grid_tolerance)
        except MedsegError as error:
            wrong.append(str(error))
            continue
        margins = [round(MARGIN_MM / mm) for mm in reference.geometry.spacing]
        box = box_of((masks[0] | masks[1]) & known, margins)
        if box is not None:
            counts[label.name] = count(probabilities[box][known[box]], masks[1][box][known[box]])
    return counts, wrong


def _read(path: Path, pair: CasePair, grid: Geometry, grid_tolerance: float) -> Array:
    """Returns a map on ``grid``.

    Raises:
        MedsegError: The file holds no probabilities on it.
    """
    if not path.is_file():
        raise SourceError(f"{path}: no such file; predict with --save-probabilities again, or delete its folder")
    read = read_volume(path)
    volume = Volume(read.array, as_said(read.geometry, pair))
    if volume.geometry.orientation != grid.orientation:
        volume = volume.oriented_as(grid.orientation)
    difference = volume.geometry.difference(grid, grid_tolerance)
    if difference is not None:
        raise GeometryError(f"{path}: lies on another grid than the reference: {difference}; predict again")
    if len(volume.array) != 1:
        raise SourceError(f"{path}: has {len(volume.array)} channels; a map of probabilities has one")
    low, high = float(volume.array.min()), float(volume.array.max())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # nan, too
        raise SourceError(f"{path}: values from {low:g} to {high:g}; probabilities lie between 0 and 1")
    probabilities: Array = volume.array[0]
    return probabilities


def count(probabilities: Array, mask: npt.NDArray[np.bool_]) -> Counts:
    """Returns the counts of the probabilities of a label, given where it is.

    Args:
        probabilities: From 0 to 1, of any shape.
        mask: Where the label is, of the same shape.
    """
    given = probabilities.ravel().astype(np.float64)
    true = mask.ravel().astype(np.float64)
    bins = np.clip(np.ceil(given * N_BINS - ROUNDING).astype(np.intp) - 1, 0, N_BINS - 1)
    voxels, confidence, frequency = (
        np.bincount(bins, weights, N_BINS).astype(np.float64) for weights in (None, given, true)
    )
    return Counts(voxels, confidence, frequency, float(((given - true) ** 2).sum()))


def calibrate(cases: Sequence[Mapping[str, Counts]], labels: Labels) -> dict[str, LabelCalibration]:
    """Returns the calibration by label, in their order; labels of which nothing is known are left out."""
    found = {}
    for name in labels.unions:
        counts = [case[name] for case in cases if name in case]
        if counts:
            found[name] = _of_label(counts)
    return found


def calibrate_pairs(
    pairs: Sequence[CasePair],
    predictions: Path,
    labels: Labels,
    grid_tolerance: float,
    workers: Workers,
    problems: list[Problem],
) -> dict[str, LabelCalibration]:
    """Returns the calibration of each label, over the cases that have saved probabilities.

    Args:
        pairs: The cases that were measured.
        predictions: The folder of predictions, beside which probabilities are looked for.
        labels: Names and values of the labels.
        grid_tolerance: How far apart grids may be that count as one, as part of the smallest voxel edge.
        workers: Who does it.
        problems: What is wrong with the probabilities is added to it.
    """
    saved = [pair for pair in pairs if saved_probabilities(predictions, pair.case_id)]
    count = partial(count_case, predictions=predictions, labels=labels, grid_tolerance=grid_tolerance)
    counted = in_workers(count, saved, "Reading probabilities", workers, problems) if saved else {}
    for case_id, (_, wrong) in counted.items():
        problems += [Problem(case_id, predictions, each) for each in wrong]
    return calibrate([counted[pair.case_id][0] for pair in saved if pair.case_id in counted], labels)


def _of_label(counts: Sequence[Counts]) -> LabelCalibration:
    tables = [np.stack([getattr(each, name) for each in counts]) for name in ("voxels", "confidence", "frequency")]
    voxels, confidence, frequency = (each.sum(axis=0) for each in tables)
    draws = resamples(len(counts))
    edges = np.arange(N_BINS + 1) / N_BINS
    return LabelCalibration(
        cases=len(counts),
        voxels=int(voxels.sum()),
        ece=float(expected_error(voxels, confidence, frequency)),
        interval=interval(expected_error(*(draws @ each for each in tables))) if len(counts) > 1 else None,
        brier=float(sum(each.squares for each in counts) / voxels.sum()),
        bins=[
            Bin(
                low=float(edges[i]),
                high=float(edges[i + 1]),
                voxels=int(voxels[i]),
                confidence=float(confidence[i] / voxels[i]) if voxels[i] else None,
                frequency=float(frequency[i] / voxels[i]) if voxels[i] else None,
            )
            for i in range(N_BINS)
        ],
    )


def expected_error(voxels: Floats, confidence: Floats, frequency: Floats) -> Floats:
    """Returns the expected calibration error (ECE) of sums by bin, over the last axis."""
    error: Floats = np.abs(frequency - confidence).sum(axis=-1) / voxels.sum(axis=-1)
    return error
