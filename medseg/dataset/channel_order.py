"""The channels of cases in the order in which a model was trained on them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from medseg.dataset.cases import Case, CaseList
from medseg.progress import say, warn


def channels_as_trained(trained: Sequence[str], found: CaseList, incomplete: bool = False) -> CaseList:
    """Returns cases with their channels in the order of training, and tells which is taken for which.

    Args:
        trained: The names of the model's channels.
        found: The cases, with the names that their layout gives to channels.
        incomplete: Whether the model takes cases that lack channels.
    """
    found = (placed if incomplete else in_order_of)(trained, found)
    tell_channels(found.channels, trained)
    return found


def in_order_of(trained: Sequence[str], found: CaseList) -> CaseList:
    """Returns cases whose channels are in the order of training, where they have the same names.

    Channels beside them are left out.
    """
    has_all = set(trained) <= set(found.channels) and len(set(found.channels)) == len(found.channels)
    if not has_all or any(len(case.images) != len(found.channels) for case in found.cases):
        return found
    unused = [name for name in found.channels if name not in trained]
    if unused:
        say(f"The model was not trained on {', '.join(unused)}: left out")
    order = [found.channels.index(name) for name in trained]
    cases = tuple(replace(case, images=tuple(case.images[i] for i in order)) for case in found.cases)
    return replace(found, cases=cases, channels=tuple(trained))


def placed(trained: Sequence[str], found: CaseList) -> CaseList:
    """Returns cases that may lack channels in the order of training.

    The names of their channels, or the numbers that nnU-Net gives them, say which they have.
    """
    each = [_placed_case(trained, case) for case in found.cases]
    cases = tuple(new or case for new, case in zip(each, found.cases, strict=True))
    return replace(found, cases=cases, channels=tuple(trained) if all(each) else found.channels)


def _placed_case(trained: Sequence[str], case: Case) -> Case | None:
    """Returns the case in the order of training; None where the names of its channels say nothing."""
    places = [
        trained.index(name) if name in trained else int(name) if name.isdigit() else len(trained)
        for name in case.channels
    ]
    if len(set(places)) < len(case.images) or max(places, default=0) >= len(trained):
        return None
    images = tuple(case.images[places.index(place)] for place in sorted(places))
    return replace(case, images=images, missing=tuple(sorted(set(range(len(trained))) - set(places))))


def usual_number(numbers: Sequence[int], names: Sequence[str]) -> int:
    """Returns how many channels the cases of a dataset have: as many as are named, where any case has; else as most.

    Args:
        numbers: Of channels, of each case.
        names: Of the channels, as the dataset has them.
    """
    return len(names) if len(names) in numbers or not numbers else Counter(numbers).most_common(1)[0][0]


def told_of_channels(names: Sequence[str], n_channels: int) -> str:
    """Returns a warning, where a dataset names more or fewer channels than its images have."""
    return (
        f"{len(names)} channels are named ({', '.join(names)}), but images have {n_channels}: the names are not taken"
    )


def tell_channels(found: Sequence[str], trained: Sequence[str]) -> None:
    """Tells the user which channel is taken for which.

    Channels are taken by their order: where names differ, that order may be another one.
    """
    if len(found) == len(trained) > 1 and tuple(found) != tuple(trained):
        pairs = ", ".join(f"{name} as {meant}" for name, meant in zip(found, trained, strict=True))
        # Numbers, as in nnU-Net's names, are an order; other names say what is in the files.
        tell = say if all(name.isdigit() for name in found) else warn
        tell(f"Channels are named otherwise than in training, and taken in this order: {pairs}")
