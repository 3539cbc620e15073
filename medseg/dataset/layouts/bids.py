"""BIDS, and what is named like it: ATLAS, ISLES 2022, VerSe.

sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz
derivatives/manual/sub-01/ses-1/anat/sub-01_ses-1_label-lesion_mask.nii.gz
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from medseg.dataset.layouts.case_list_draft import CaseListDraft
from medseg.dataset.layouts.listing import Listing
from medseg.errors import MedsegError
from medseg.io.read import read_geometry
from medseg.io.source import ImageSource
from medseg.progress import counted
from medseg.volume import GRID_TOLERANCE

LABEL_SUFFIXES = ("mask", "dseg", "msk", "seg", "roi", "label", "labels", "lesion", "segmentation", "gt")
OTHERS = ("probseg", "bold", "sbref", "epi", "meg", "eeg")  # probabilities; no pictures of anatomy

# What tells scans of one session apart, and the label maps drawn on each.
SCAN = ("run", "split", "acq", "dir", "rec", "ce", "space", "echo")


@dataclass(frozen=True)
class Named:
    """A file by its name: ``sub-01_ses-1_run-2_T1w``."""

    source: ImageSource
    entities: dict[str, str]
    suffix: str
    is_derived: bool  # it lies below derivatives/

    @property
    def session(self) -> str:
        """The subject and the session: ``sub-01/ses-1``."""
        return "/".join(f"{key}-{self.entities[key]}" for key in ("sub", "ses") if key in self.entities)

    @property
    def scan(self) -> tuple[tuple[str, str], ...]:
        """The entities that say which scan the file is of, each with its value."""
        return tuple((key, value) for key, value in self.entities.items() if key in SCAN)

    @property
    def kind(self) -> str:
        """What the file shows, by the rest of its entities and its suffix: ``label-lesion_mask``."""
        drawn = [f"{key}-{value}" for key, value in self.entities.items() if key not in ("sub", "ses", *SCAN)]
        return "_".join([*drawn, self.suffix])

    def is_of(self, label: "Named") -> bool:
        """Returns whether a label map may have been drawn on it."""
        return all(self.entities.get(key, value) == value for key, value in label.scan)


def bids(listing: Listing) -> CaseListDraft | None:
    """Finds files named ``sub-X_…_T1w`` and ``sub-X_…_mask``.

    The images of a session that lie on the grid of its label map are its channels.
    """
    named = [name for source in listing.found.sources if (name := _named(listing, source))]
    labels = [name for name in named if name.suffix in LABEL_SUFFIXES]
    images = [name for name in named if name.suffix not in (*LABEL_SUFFIXES, *OTHERS)]
    if not images or not (labels or (listing.path / "dataset_description.json").is_file()):
        return None
    draft = listing.draft("BIDS (sub-*)")
    labels = _of_usual_kind(draft, labels)
    sessions: dict[str, list[Named]] = defaultdict(list)
    for image in images:
        sessions[image.session].append(image)
    drawn: dict[tuple[str, tuple[tuple[str, str], ...]], list[Named]] = defaultdict(list)
    for label in labels:
        drawn[label.session, label.scan].append(label)
    n_scans = Counter(session for session, _ in drawn)
    for (session, scan), maps in drawn.items():
        key = "/".join([session, *(f"{k}-{v}" for k, v in scan if n_scans[session] > 1)])
        _add(draft, key, _drawn_on(maps[0], sessions[session]), maps)
    for session in sessions.keys() - n_scans.keys():
        raw = [image for image in sessions[session] if not image.is_derived]
        _add(draft, session, raw or sessions[session], [])
    _leave_out_rare(draft)
    return draft


def _named(listing: Listing, source: ImageSource) -> Named | None:
    """Returns what the name of a file says; None for a file that is not named like this."""
    if source.kind == "dicom":
        return None
    place = listing.place(source)
    words = place.name.split("_")
    rest = [word for word in words if "-" not in word]
    if not words[0].startswith("sub-") or not rest:
        return None
    entities = dict(word.split("-", 1) for word in words if "-" in word)
    return Named(source, entities, rest[-1], "derivatives" in (part.lower() for part in place.parts))


def _of_usual_kind(draft: CaseListDraft, labels: Sequence[Named]) -> list[Named]:
    """Returns the label maps of the kind that most sessions have; those that differ in ``label-`` are masks of
    structures."""
    kinds: dict[str, list[Named]] = defaultdict(list)
    for label in labels:
        of_structure = {**label.entities, "label": "*"} if "label" in label.entities else label.entities
        kinds[replace(label, entities=of_structure).kind].append(label)
    if len(kinds) < 2:
        return list(labels)
    usual, *others = sorted(kinds, key=lambda kind: ("brain" in kind, -len(kinds[kind]), kind))
    names = ", ".join(f"{kind} ({len(kinds[kind])})" for kind in others)
    draft.notes.append(
        f"there are several kinds of label maps: {usual} ({len(kinds[usual])}) is taken; others, left out: {names}; "
        "--images and --labels take another"
    )
    return kinds[usual]


def _drawn_on(label: Named, images: Sequence[Named]) -> list[Named]:
    """Returns the images of a session that a label map was drawn on, by their names and their grids.

    Those of derivatives are taken only where no other is.
    """
    candidates = [image for image in images if image.is_of(label)]
    raw = [image for image in candidates if not image.is_derived]
    grids = {image.source.path: _lie_on_one_grid(image.source, label.source) for image in candidates}
    for those in (raw, candidates):
        on_grid = [image for image in those if grids[image.source.path]]
        if on_grid:
            return on_grid
    return raw or candidates


def _lie_on_one_grid(one: ImageSource, other: ImageSource) -> bool:
    try:
        first, second = read_geometry(one), read_geometry(other)
        return first.difference(second.oriented_as(first.orientation), GRID_TOLERANCE) is None
    except MedsegError:  # told where the case is read
        return False


def _add(draft: CaseListDraft, key: str, images: Sequence[Named], labels: Sequence[Named]) -> None:
    """Adds a case. Of several images of one kind the first is taken, which has the fewest entities."""
    of_kind: dict[str, Named] = {}
    for image in sorted(images, key=lambda image: (len(image.entities), image.source.path)):
        first = of_kind.setdefault(image.suffix, image)
        if first is image:
            draft.add_image(key, image.source, image.suffix).unlabelled_as = "session"
        else:
            draft.notes.append(f"{key}: of several {image.suffix} the first is taken, {first.source.path.name}")
    structures = len({label.entities.get("label") for label in labels}) > 1
    for label in labels:
        name = label.entities.get("label", label.kind)
        draft.add_label(key, replace(label.source, structure=name) if structures else label.source)


def _leave_out_rare(draft: CaseListDraft) -> None:
    """Drops the kinds of images that no more than half of the labelled cases have, and says so."""
    labelled = [case for case in draft.cases.values() if case.labels] or list(draft.cases.values())
    counts = Counter(suffix for case in labelled for suffix in case.images)
    rare = {suffix for suffix, n in counts.items() if n <= len(labelled) / 2}
    rare |= {suffix for case in draft.cases.values() for suffix in case.images if suffix not in counts}
    usual = counts.keys() - rare
    dropped: Counter[str] = Counter()
    for case in draft.cases.values():
        for suffix in rare & case.images.keys() if usual & case.images.keys() else ():
            del case.images[suffix]
            dropped[suffix] += 1
    if dropped:
        names = ", ".join(f"{suffix} (in {counted(n, 'session')})" for suffix, n in sorted(dropped.items()))
        draft.notes.append(f"not on the grid of most label maps, or not in most sessions, left out: {names}")
