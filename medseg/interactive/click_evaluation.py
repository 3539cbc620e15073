"""Objects of a case segmented click by click by a simulated user, and how good their masks become."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args
from zlib import crc32

import numpy as np

from medseg.dataset.cases import Case
from medseg.dataset.reading import read_label_map
from medseg.errors import ConfigError
from medseg.evaluation.clicks_json import GRAPH_CUT, MODEL, RANDOM_WALKER, Click, ClickedObject, Scores
from medseg.inferers.model import Model
from medseg.interactive.bounds import slices, union
from medseg.interactive.classical import graph_cut_mask, random_walker_mask
from medseg.interactive.error_clicks import JITTER_VOXELS, next_click
from medseg.interactive.prompts import Point
from medseg.interactive.session import InteractiveSession
from medseg.labels import Labels
from medseg.metrics.overlap import dice, mask_of
from medseg.metrics.surface import surface_dice
from medseg.prediction.case_reading import read_case_images
from medseg.volume import LabelMap, MaskArray, box_of

COUNTS = (0, 1, 3, 5, 10)
Start = Literal["automatic", "nothing"]

CLASSICAL = {RANDOM_WALKER: random_walker_mask, GRAPH_CUT: graph_cut_mask}


@dataclass(frozen=True)
class ClickProtocol:
    """How a simulated user clicks, and what is measured.

    Attributes:
        clicks: How many clicks the user sets at most.
        start: What structures that the model knows begin with.
        jitter: Standard deviation of a click from where it is meant, in voxels.
        seed: Of the jitter.
        tolerance_mm: Of the surface Dice.
        methods: What the model is compared with, of ``CLASSICAL``; only where objects start with nothing.

    Raises:
        ConfigError: One of these cannot be.
    """

    clicks: int = 10
    start: Start = "automatic"
    jitter: float = JITTER_VOXELS
    seed: int = 0
    tolerance_mm: float = 1.0
    methods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.clicks < 1:
            raise ConfigError(f"clicks: is {self.clicks}; give 1 or more")
        if self.start not in get_args(Start):
            raise ConfigError(f"start: '{self.start}' is not known; give {' or '.join(get_args(Start))}")
        unknown = [name for name in self.methods if name not in CLASSICAL]
        if unknown:
            raise ConfigError(f"methods: '{unknown[0]}' is not known; there are {', '.join(CLASSICAL)}")
        if not self.jitter >= 0 or not self.tolerance_mm >= 0:
            raise ConfigError(f"jitter {self.jitter:g} voxels, tolerance {self.tolerance_mm:g} mm: give 0 or more")

    @property
    def counts(self) -> tuple[int, ...]:
        """After how many clicks the surface Dice, and other methods, are measured."""
        return (*(count for count in COUNTS if count < self.clicks), self.clicks)


def click_objects(
    session: InteractiveSession, case_id: str, references: Mapping[str, MaskArray], protocol: ClickProtocol
) -> Iterator[ClickedObject]:
    """Yields what becomes of each structure of a case that is there at all.

    Args:
        session: On the image of the case.
        case_id: Its name.
        references: Masks ``(x, y, z)`` on the grid of the image, by structure.
        protocol: How clicks are set.
    """
    known = session.model.record.labels.structures if protocol.start == "automatic" else ()
    values = {each.name: each.values for each in known if each.name in references}
    automatic = session.automatic() if values else None
    for name, reference in references.items():
        if reference.any():
            start = None if automatic is None or name not in values else mask_of(automatic, values[name])
            yield _Clicking(session, case_id, name, reference, protocol).clicked(start)


def click_case(
    case: Case, model: Model, labels: Labels, structures: Mapping[str, Sequence[int]], protocol: ClickProtocol
) -> list[ClickedObject]:
    """Returns what becomes of structures of a case that is read from its files, those that were annotated.

    Args:
        case: Its images and its label map.
        model: Answers to the clicks.
        labels: Of the label map.
        structures: The values of each structure to click, by its name.
        protocol: How clicks are set.

    Raises:
        MedsegError: The case cannot be used.
    """
    grid = model.record.plan.grid
    image = read_case_images(case, model.record, grid.tolerance, grid.registered).image
    label_map = read_label_map(case, image.geometry, grid.tolerance).array
    labels.check(int(value) for value in np.unique(label_map))
    annotated = {each.name for each in labels.annotated_structures(case.annotated)}
    masks = reference_masks(label_map, {name: of for name, of in structures.items() if name in annotated})
    return list(click_objects(InteractiveSession(model, image), case.case_id, masks, protocol))


class _Clicking:
    """One object that is clicked."""

    def __init__(
        self,
        session: InteractiveSession,
        case_id: str,
        structure: str,
        reference: MaskArray,
        protocol: ClickProtocol,
    ) -> None:
        self.session, self.reference, self.protocol = session, reference, protocol
        self.case_id, self.structure = case_id, structure
        self.spacing = session.image.geometry.spacing

    def clicked(self, start: MaskArray | None) -> ClickedObject:
        """Returns what became of it, beginning with a mask or with nothing."""
        session, protocol = self.session, self.protocol
        random = np.random.default_rng([protocol.seed, crc32(f"{self.case_id}/{self.structure}".encode())])
        session.object = self.structure
        if start is not None:
            session.add_initial_mask(start)
        clicks: list[Point] = []
        seconds: list[float] = []
        scores = {MODEL: Scores(dice={}), **{name: Scores(dice={}) for name in protocol.methods if start is None}}
        mask = session.mask
        for count in range(protocol.clicks + 1):
            click = next_click(mask, self.reference, self.spacing, random, protocol.jitter) if count else None
            if click is not None:
                began = time.perf_counter()
                session.add_point(click.index, click.positive)
                seconds.append(time.perf_counter() - began)
                clicks.append(click)
                mask = session.mask
            self._score(scores[MODEL], mask, count)
            if count in protocol.counts[1:]:
                for name in list(scores)[1:]:
                    self._score(scores[name], self._by_classical(name, clicks), count)
        return ClickedObject(
            case_id=self.case_id,
            structure=self.structure,
            start="nothing" if start is None else "automatic",
            reference_ml=float(self.reference.sum()) * session.image.geometry.voxel_volume_ml,
            clicks=tuple(Click(index=click.index, positive=click.positive) for click in clicks),
            seconds=tuple(round(each, 4) for each in seconds),
            methods=scores,
        )

    def _score(self, scores: Scores, mask: MaskArray, count: int) -> None:
        """Adds what a mask reaches after so many clicks."""
        box = box_of(mask | self.reference, (1, 1, 1)) or self.session.image.geometry.box
        mask, reference = mask[box], self.reference[box]
        scores.dice[count] = dice(mask, reference) or 0.0
        if count in self.protocol.counts:
            tolerance = self.protocol.tolerance_mm
            scores.surface_dice[count] = surface_dice(mask, reference, self.spacing, tolerance) or 0.0

    def _by_classical(self, name: str, clicks: Sequence[Point]) -> MaskArray:
        """Returns what another method makes of the same clicks, in the part of the image that the model sees."""
        mask = np.zeros_like(self.reference)
        part = clicks and self.session.seen_around(clicks[0].index)
        if not part:
            return mask
        for click in clicks[1:]:
            i, j, k = (int(at) for at in click.index)
            part = union(part, ((i, i + 1), (j, j + 1), (k, k + 1)))
        box = slices(part)
        image = self.session.image.array[0][box]
        low = np.array([first for first, _ in part])
        moved = [Point(tuple(np.array(click.index) - low), click.positive) for click in clicks]
        mask[box] = CLASSICAL[name](image, moved, self.spacing)
        return mask


def reference_masks(label_map: LabelMap, structures: Mapping[str, Sequence[int]]) -> dict[str, MaskArray]:
    """Returns the mask of each structure of a label map, by its name.

    Args:
        label_map: ``(x, y, z)``.
        structures: The values of each.
    """
    return {name: mask_of(label_map, values) for name, values in structures.items()}
