"""What a layout did not take, and what it took that looks like something else."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from medseg.dataset.layouts.case_list_draft import CaseListDraft
from medseg.dataset.layouts.label_map_guess import holds_few_integers, is_named_like_label
from medseg.dataset.layouts.listing import Listing
from medseg.dataset.layouts.patterns import paired_keys
from medseg.io.source import ImageSource
from medseg.progress import counted

MOST_LOOKED_AT = 200  # images, spread over all
MOST_KINDS = 4

# Names of placeholders for what images and label maps have in common.
PLACEHOLDERS = ("case", "scan", "part")


def files_left_out(draft: CaseListDraft, listing: Listing) -> list[str]:
    """Returns a note that counts the files that no case has, by kind, where no problem tells of them."""
    used = [source for case in draft.cases.values() for source in (*case.images.values(), *case.labels)]
    taken = {path for source in used for path in (source.path, *source.files)}
    told = {problem.path for problem in draft.problems}
    left = [source for source in listing.found.sources if source.path not in taken | told and not source.derived]
    kinds: dict[str, list[ImageSource]] = defaultdict(list)
    for source in left:
        kinds[_kind(listing.relative(source))].append(source)
    shown = [
        f"{_counted(listing, sources)} ({kind if len(sources) > 1 else listing.relative(sources[0])})"
        for kind, sources in sorted(kinds.items(), key=lambda item: -len(item[1]))[:MOST_KINDS]
    ]
    more = f", and {len(kinds) - MOST_KINDS} kinds more" if len(kinds) > MOST_KINDS else ""
    return [f"taken for no case, left out: {', '.join(shown)}{more}"] if shown else []


def likely_label_maps(draft: CaseListDraft, listing: Listing) -> list[str]:
    """Returns warnings about images that look like label maps, with the patterns that would pair them.

    Images that have a label map of their own may look like anything.
    """
    cases = [case for case in draft.cases.values() if not case.labels and case.unlabelled_as in ("", "scan")]
    images = [source for case in cases for source in case.images.values()]
    likely = {source for source in images if is_named_like_label(listing.place(source))}
    step = max(1, len(images) // MOST_LOOKED_AT)
    likely |= {source for source in images[::step] if source not in likely and holds_few_integers(source)}
    if not likely:
        return []
    labels = sorted(listing.relative(source) for source in likely)
    others = sorted(listing.relative(source) for source in images if source not in likely)
    of_all = f"{len(labels)} of {counted(len(images), 'image')}" if others else f"all {counted(len(images), 'image')}"
    what = f"{of_all} may be label maps, by name or by few whole values, and are taken as images: {labels[0]}"
    patterns = suggested_patterns(others, labels)
    if patterns:
        return [f"{what}; if so, pair them: --images '{patterns[0]}' --labels '{patterns[1]}'"]
    if others:
        return [f"{what}; if so, pair them by --images and --labels, or in a cases.csv"]
    return [f"{what}; if so, give a folder that holds their images too"]


def suggested_patterns(images: Sequence[str], labels: Sequence[str]) -> tuple[str, str] | None:
    """Returns patterns that pair some images and label maps by what their paths have in common; None where nothing
    does."""
    for label in labels[:MOST_KINDS]:
        for image in sorted(images, key=lambda path: -len(_shared(path, label))):
            for pair in _generalised(image, label, labels):
                if paired_keys(*pair, images, labels):
                    return pair
            break
    return None


def _generalised(image: str, label: str, labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields an image's and its label map's path with placeholders for what they share and other label maps don't."""
    everywhere = set.intersection(*(set(_words(path)) for path in labels)) if len(labels) > 1 else set()
    shared = [word for word in _shared(image, label) if word not in everywhere]
    if 0 < len(shared) <= len(PLACEHOLDERS):
        globs = []
        for path in (image, label):
            for word, name in zip(shared, PLACEHOLDERS, strict=False):
                path = re.sub(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", f"{{{name}}}", path)
            globs.append(path)
        alike = [path for path in labels if set(shared) <= set(_words(path))]
        if len(alike) > 1:  # several label maps of one case
            yield globs[0], _with_structure(globs[1], label, alike)
        yield globs[0], globs[1]


def _with_structure(glob: str, label: str, alike: Sequence[str]) -> str:
    """Returns the glob of one mask with ``{structure}`` where masks of the same case differ."""
    folder, _, name = label.rpartition("/")
    names = [path.rpartition("/")[2] for path in alike if path.rpartition("/")[0] == folder]
    common = set.intersection(*(set(_words(each)) for each in names))
    differing = [word for word in _words(name) if word not in common]
    if not differing:
        return glob
    start, end = name.index(differing[0]), name.rindex(differing[-1]) + len(differing[-1])
    return "{structure}".join(glob.rsplit(name[start:end], 1))


def _shared(one: str, other: str) -> list[str]:
    """Returns the words of both paths that may name a case: those with a digit; else all."""
    both = [word for word in dict.fromkeys(_words(one)) if word in set(_words(other))]
    return [word for word in both if re.search(r"\d", word)] or both


def _words(path: str) -> list[str]:
    return [word for word in re.findall(r"[^\W_]+", re.sub(r"(?:\.nii)?\.\w+$", "", path)) if word]


def _kind(path: str) -> str:
    """Returns what is alike in the paths of files of one kind: ``sub-*/anat/sub-*_T1w.nii.gz``."""
    return re.sub(r"\d+", "*", path)


def _counted(listing: Listing, sources: Sequence[ImageSource]) -> str:
    like = sum(is_named_like_label(listing.place(source)) for source in sources)
    return f"{counted(len(sources), 'file')} named like label maps" if like else counted(len(sources), "image")
