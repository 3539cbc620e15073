"""Images and label maps selected by the user's globs."""

import re

from medseg.dataset.draft import Draft
from medseg.dataset.listing import Listing
from medseg.errors import ConfigError, SourceError

WILDCARDS = {"**/": r"((?:.*/)?)", "**": r"(.*)", "*": r"([^/]*)", "?": r"([^/])"}


def paired_by_patterns(listing: Listing, images: str, labels: str) -> Draft:
    """Images and label maps that match two globs, paired by what the ``*`` of each match.

    Raises ``ConfigError`` when the globs differ in their wildcards, ``SourceError`` when one matches nothing.
    """
    image_pattern, label_pattern = _pattern(images), _pattern(labels)
    if image_pattern.groups != label_pattern.groups:
        raise ConfigError(f"--images '{images}' and --labels '{labels}' need equally many * to be paired by")
    draft = listing.draft(f"images {images} with labels {labels}")
    for source in listing.found.sources:
        path = listing.relative(source)
        if match := label_pattern.fullmatch(path):
            draft.add_label(_key(match), source)
        elif match := image_pattern.fullmatch(path):
            case = draft.add_image(_key(match), source)
            case.group = case.key.split("/")[0] if "/" in case.key else ""
    if not any(case.images for case in draft.cases.values()):
        raise _nothing_matches("--images", images, listing)
    if not any(case.label for case in draft.cases.values()):
        raise _nothing_matches("--labels", labels, listing)
    return draft


def only_images(draft: Draft, listing: Listing, images: str) -> Draft:
    """The cases of a draft with those of their images that match a glob. Raises ``SourceError`` when none
    is left."""
    pattern = _pattern(images)
    for key, case in list(draft.cases.items()):
        case.images = {c: s for c, s in case.images.items() if pattern.fullmatch(listing.relative(s))}
        if not case.images:
            del draft.cases[key]
    if not draft.cases:
        raise _nothing_matches("--images", images, listing)
    draft.hints = [f"only the images that match '{images}'"]
    return draft


def _pattern(glob: str) -> re.Pattern[str]:
    """A glob as a regular expression with one group for each wildcard; ``**/`` matches any depth."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob.removeprefix("./").rstrip("/"))
    return re.compile("".join(WILDCARDS.get(part, re.escape(part)) for part in parts))


def _key(match: re.Match[str]) -> str:
    return "/".join(part.strip("/") for part in match.groups() if part)


def _nothing_matches(option: str, glob: str, listing: Listing) -> SourceError:
    examples = ", ".join(listing.relative(source) for source in listing.found.sources[:3])
    return SourceError(f"{listing.path}: {option} '{glob}' matches nothing; there are: {examples or 'no images'}")
