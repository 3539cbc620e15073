"""Images without labels: what each case is called, and when several files are channels of one."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import count

from medseg.dataset.layouts.case_list_draft import CaseListDraft
from medseg.dataset.layouts.file_names import rest_after, safe, split_channel
from medseg.dataset.layouts.listing import Listing
from medseg.io.source import ImageSource
from medseg.progress import listed

# A single group of more files than this, numbered from 0000, is a row of cases, not one case with channels.
MOST_CHANNELS = 8

Channels = dict[str, dict[str, ImageSource]]  # sources by case key and channel


def add_unlabelled(draft: CaseListDraft, listing: Listing, sources: Sequence[ImageSource]) -> None:
    """Adds a case for each image, named by its path, as in a labelled dataset.

    DICOM series that share a folder are named by patient and description.
    """
    several_patients = len({source.patient_id for source in sources if source.kind == "dicom"}) > 1
    for source in sources:
        shared = listing.shares_folder(source)
        name = _dicom_key(source, several_patients) if shared else listing.place(source).as_posix()
        names = (f"{name}_{i}" if i > 1 else name for i in count(1))
        key = next(key for key in names if key not in draft.cases)
        draft.add_image(key, source).group = source.patient_id


def leave_out_derived(draft: CaseListDraft, listing: Listing) -> None:
    """Drops images that were computed from others (ADC maps, projections, subtractions), with a note.

    Those that were drawn on stay, and all where there is nothing else.
    """
    derived = {
        key: list(case.images.values())
        for key, case in draft.cases.items()
        if case.images and not case.labels and all(source.derived for source in case.images.values())
    }
    if not any(case.images for key, case in draft.cases.items() if key not in derived):
        return
    of_kind: dict[str, list[str]] = defaultdict(list)
    for key, sources in derived.items():
        del draft.cases[key]
        for source in sources:
            of_kind[source.derived].append(listing.relative(source))
    draft.hints += [
        f"left out, computed from other images: {kind} in {listed(paths, 1)}; take it with --images '{paths[0]}'"
        for kind, paths in of_kind.items()
    ]


def add_by_channel(draft: CaseListDraft, listing: Listing) -> bool:
    """Adds the images as channels where all their names say so; False, with nothing added, otherwise."""
    channels = _by_number(listing) or _by_folder(listing)
    if channels is None:
        return False
    for key, sources in channels.items():
        for channel, source in sources.items():
            draft.add_image(key, source, channel)
    names = sorted(_usual_channels(channels))
    if len(names) > 1:
        draft.notes.append(f"files whose names differ in {', '.join(names)} only are channels of one case")
    return True


def _dicom_key(source: ImageSource, several_patients: bool) -> str:
    name = safe(source.description) or safe(source.path.name)
    patient = safe(source.patient_id)
    name = f"{patient}_{name}" if several_patients and patient not in name else name
    return f"{name}_{source.part}" if source.part else name


def _by_number(listing: Listing) -> Channels | None:
    """Returns channels by number: ``a_0000, a_0001, b_0000, b_0001``.

    Every name has a number, and every case the same ones.
    """
    channels: Channels = defaultdict(dict)
    for source in listing.found.sources:
        key, channel = split_channel(listing.place(source).as_posix())
        if not channel or channel in channels[key]:
            return None
        channels[key][channel] = source
    return channels if _usual_channels(channels, "0000") else None


def _by_folder(listing: Listing) -> Channels | None:
    """Returns channels by folder: ``X/X_t1, X/X_flair, Y/Y_t1, Y/Y_flair``.

    There is a folder for each case, and its name is in its files.
    """
    channels: Channels = defaultdict(dict)
    for source in listing.found.sources:
        place = listing.place(source)
        folder = place.parent.name or listing.path.resolve().name
        channel = rest_after(folder, place.name)
        key = place.parent.as_posix() if place.parent.name else folder
        # Numbers count cases: hippocampus/hippocampus_001.
        if not channel or channel[0].isdigit() or channel in channels[key]:
            return None
        channels[key][channel] = source
    return channels if len(_usual_channels(channels)) > 1 else None


def _usual_channels(channels: Channels, needed: str | None = None) -> frozenset[str]:
    """Returns the channels that more than half of the cases have (one that misses some is told of later).

    There are none when there is no such set, or when it doesn't look like channels.
    """
    names, n_cases = Counter(frozenset(sources) for sources in channels.values()).most_common(1)[0]
    few_enough = len(channels) > 1 or len(names) <= MOST_CHANNELS
    if n_cases <= len(channels) / 2 or (needed is not None and needed not in names) or not few_enough:
        return frozenset()
    return names
