"""The case to draw next: the one from which a network would learn most."""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.ndimage import zoom

from medseg.annotation.folder import AnnotatedFolder
from medseg.dataset.reading import read_images
from medseg.errors import ConfigError, MedsegError, did_you_mean
from medseg.serve.datastore import Datastore
from medseg.serve.state import Strategy
from medseg.volume import GRID_TOLERANCE, Array, Volume

if TYPE_CHECKING:
    from medseg.annotation.rounds import Rounds

BLOCKS = 6  # along each axis, of which features are made
BINS = 16  # of the histogram
MOST_LOOKED_AT = 200  # cases whose images are read to tell how alike they are


class ChosenCase(NamedTuple):
    """A case, and why it was chosen.

    Attributes:
        case_id: The case.
        reason: In words.
    """

    case_id: str
    reason: str


class Candidates(NamedTuple):
    """What a strategy chooses from.

    Attributes:
        open_cases: Ids of the cases that have no label map.
        done: Ids of those that have one.
        features: Of the images, as far as they were read, by case id.
        doubt: 1 minus the Dice that the last network expects of its own mask, as far as it is known, by case id.
        seed: Draws what is drawn by chance.
    """

    open_cases: Sequence[str]
    done: Sequence[str] = ()
    features: Mapping[str, Array] = {}
    doubt: Mapping[str, float] = {}
    seed: int = 0


def by_chance(candidates: Candidates) -> ChosenCase:
    """Returns any case.

    Examples:
        >>> by_chance(Candidates(["a", "b", "c"], seed=1)).reason
        'by chance'
    """
    generator = np.random.default_rng((candidates.seed, len(candidates.done)))
    return ChosenCase(candidates.open_cases[int(generator.integers(len(candidates.open_cases)))], "by chance")


def most_doubtful(candidates: Candidates) -> ChosenCase:
    """Returns the case whose mask the network itself holds to be the worst; without a network any.

    Examples:
        >>> most_doubtful(Candidates(["a", "b"], doubt={"a": 0.1, "b": 0.3}))
        ChosenCase(case_id='b', reason='the network expects a Dice of 0.70')
    """
    known = [case_id for case_id in candidates.open_cases if case_id in candidates.doubt]
    if not known:
        return by_chance(candidates)
    chosen = max(known, key=lambda case_id: candidates.doubt[case_id])
    return ChosenCase(chosen, f"the network expects a Dice of {1 - candidates.doubt[chosen]:.2f}")


def most_unlike(candidates: Candidates) -> ChosenCase:
    """Returns the case whose image is least like those that are done; at first the one most like all others.

    Source:
        Sener, Savarese: Active learning for convolutional neural networks: a core-set approach, ICLR 2018 (the greedy
        choice).

    Examples:
        >>> features = {"a": np.zeros(2), "b": np.ones(2), "c": np.full(2, 5.0)}
        >>> most_unlike(Candidates(["b", "c"], ["a"], features)).case_id
        'c'
    """
    distances = _distances(candidates)
    if not distances:
        return by_chance(candidates)
    chosen = max(distances, key=lambda case_id: distances[case_id])
    done = any(case_id in candidates.features for case_id in candidates.done)
    return ChosenCase(
        chosen, "its image is least like those that are done" if done else "its image is most like all others"
    )


def doubtful_and_unlike(candidates: Candidates) -> ChosenCase:
    """Returns the case that is foremost by doubt and by unlikeness together: by the sum of its two ranks.

    Without a network it is the most unlike one.

    Examples:
        >>> features = {"a": np.zeros(2), "b": np.ones(2), "c": np.full(2, 5.0)}
        >>> doubtful_and_unlike(Candidates(["b", "c"], ["a"], features, {"b": 0.2, "c": 0.4})).case_id
        'c'
    """
    distances = _distances(candidates)
    known = [case_id for case_id in distances if case_id in candidates.doubt]
    if not known:
        return most_unlike(candidates) if not candidates.doubt else most_doubtful(candidates)
    doubt, unlike = (_ranks([values[case_id] for case_id in known]) for values in (candidates.doubt, distances))
    chosen = known[int(np.argmax(doubt + unlike))]
    expected = 1 - candidates.doubt[chosen]
    return ChosenCase(chosen, f"the network expects a Dice of {expected:.2f}, and few like it are done")


STRATEGIES: dict[str, Callable[[Candidates], ChosenCase]] = {
    "doubtful and unlike": doubtful_and_unlike,
    "doubtful": most_doubtful,
    "unlike": most_unlike,
    "random": by_chance,
}


def image_features(volume: Volume) -> Array:
    """Returns numbers that are alike for images which look alike: a coarse image, a histogram, and the size.

    Args:
        volume: The image; of several channels the first one counts.

    Returns:
        float32, of one length for all images.

    Examples:
        >>> from medseg.volume import Geometry
        >>> len(image_features(Volume(np.zeros((1, 9, 9, 9)), Geometry((9, 9, 9), np.eye(4)))))
        235
    """
    oriented = volume.oriented_as("RAS")
    image = np.nan_to_num(oriented.array[0].astype(np.float32))
    low, high = np.percentile(image, (0.5, 99.5))
    image = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    histogram = np.histogram(image, BINS, (0, 1))[0] / image.size
    step = [max(1, n // (4 * BLOCKS)) for n in image.shape]  # what lies between is not needed for so coarse an image
    thinned = image[:: step[0], :: step[1], :: step[2]]
    coarse = zoom(thinned, [BLOCKS / n for n in thinned.shape], order=1, grid_mode=True, mode="nearest")
    extent = np.log(np.multiply(oriented.geometry.shape, oriented.geometry.spacing))
    # Each of the three counts about as much as the others.
    parts = (coarse.ravel() / np.sqrt(coarse.size), histogram, extent)
    return np.concatenate(parts).astype(np.float32)


class CaseChooser:
    """Chooses the next case of a folder; images are read in the background.

    Args:
        folder: The folder.
        rounds: Knows what the last network expects of its masks.
    """

    def __init__(self, folder: AnnotatedFolder, rounds: "Rounds") -> None:
        self.folder, self.rounds = folder, rounds
        self.features: dict[str, Array] = {}
        self._thread = threading.Thread(target=self._look, name="features", daemon=True)
        self._thread.start()

    def next_case(self, strategy: str, shown: str = "") -> ChosenCase | None:
        """Returns the case to draw next; None where all are done.

        The case that is shown, and those that somebody has begun to draw, come last. Held-back cases come in between,
        as many as their part of all cases: they are drawn like the others, but without the network's choice, so that
        the learning curve stays fair.

        Args:
            strategy: How it is chosen.
            shown: The case that the page shows now.

        Raises:
            ConfigError: There is no such strategy.
        """
        if strategy not in STRATEGIES:
            raise ConfigError(f"there is no strategy '{strategy[:80]}'{did_you_mean(strategy, STRATEGIES)}")
        done = set(self.folder.annotated)
        cases, held = list(self.folder.datastore.cases), set(self.folder.held_back)
        left = [case_id for case_id in cases if case_id not in done]
        left = [case_id for case_id in left if case_id != shown and not self.folder.journal(case_id).is_file()] or left
        waiting = [case_id for case_id in left if case_id in held]
        open_cases = [case_id for case_id in left if case_id not in held]
        due = len(done & held) < len(held) / len(cases) * (len(done) + 1)
        if waiting and (due or not open_cases):
            return ChosenCase(waiting[0], "held back: networks are measured on it, and never trained")
        if not open_cases:
            return None
        trained = [case_id for case_id in done if case_id not in held]
        return STRATEGIES[strategy](Candidates(open_cases, trained, self.features, self.rounds.doubt()))

    def strategies(self) -> dict[str, Strategy]:
        """Returns the strategies as the protocols of the server call them."""
        return {name: partial(self._named, name) for name in STRATEGIES}

    def _named(self, strategy: str, datastore: Datastore, open_cases: list[str]) -> str:
        choice = self.next_case(strategy)
        return open_cases[0] if choice is None else choice.case_id

    def _look(self) -> None:
        cases = list(self.folder.datastore.cases)
        for i in np.random.default_rng(0).permutation(len(cases))[:MOST_LOOKED_AT]:
            try:
                self.features[cases[int(i)]] = image_features(
                    read_images(self.folder.datastore.cases[cases[int(i)]], GRID_TOLERANCE)
                )
            except MedsegError:  # it is told when the case is opened
                continue


def _distances(candidates: Candidates) -> dict[str, float]:
    """Returns of each open case the distance to the nearest that is done; at first the nearness to all others."""
    features = candidates.features
    known = [case_id for case_id in candidates.open_cases if case_id in features]
    if not known:
        return {}
    done = [features[case_id] for case_id in candidates.done if case_id in features]
    here = np.stack([features[case_id] for case_id in known])
    if not done:
        nearness = -np.linalg.norm(here - here.mean(axis=0), axis=1)
        return dict(zip(known, nearness.tolist(), strict=True))
    apart = np.linalg.norm(here[:, None] - np.stack(done), axis=-1).min(axis=1)
    return dict(zip(known, apart.tolist(), strict=True))


def _ranks(values: Sequence[float]) -> Array:
    ranks: Array = np.argsort(np.argsort(values)) / max(1, len(values) - 1)
    return ranks
