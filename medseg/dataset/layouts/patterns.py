"""Images and label maps selected by the user's globs."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from medseg.dataset.layouts.case_list_draft import CaseListDraft
from medseg.dataset.layouts.file_names import image_core
from medseg.dataset.layouts.listing import Listing
from medseg.errors import ConfigError, SourceError
from medseg.io.archives import without_suffix
from medseg.io.folders import stem
from medseg.io.parts import may_be_part, volumes_of
from medseg.io.source import ImageSource

WILDCARDS = {"**/": r"((?:.*/)?)", "**": r"(.*)", "*": r"([^/]*)", "?": r"([^/])"}
PLACEHOLDER = re.compile(r"\{([a-z]+)\}")

# Placeholders that say something else than which case a file is of.
CHANNEL, STRUCTURE = "channel", "structure"

NAMED = re.compile(r"(?:([^=/*?]+)=)?(.*)")  # CT=*/CT.nii.gz


def paired_by_patterns(listing: Listing, images: Sequence[str], labels: str | None) -> CaseListDraft:
    """Pairs images with label maps by what the ``*`` of each glob matches; DICOM series also by their study.

    Where globs have placeholders, they are paired by these, and ``*`` is anything: ``"{case}/*_{channel}.nii.gz"`` and
    ``"{case}/segmentations/{structure}.nii.gz"``, which is a mask for each structure.

    Args:
        listing: Where the files are.
        images: Globs, one a channel; ``"CT=*/CT_image.nii.gz"`` names it.
        labels: The glob of the label maps.

    Raises:
        ConfigError: The globs differ in what they can be paired by.
        SourceError: One matches nothing.
    """
    globs = {name: normalize("NFC", glob) for name, glob in _channels(images).items()}
    labels = normalize("NFC", labels) if labels else None
    _check(list(globs.values()), labels)
    draft = listing.draft(f"images {', '.join(globs.values())}" + (f" with labels {labels}" if labels else ""))
    draft.channels = tuple(name for name in globs if name)
    label_maps = _matches(listing, listing.label_maps, "--labels", labels) if labels else {}
    first: dict[ImageSource, str] = {}
    for channel, glob in globs.items():
        matches = _matches(listing, _with_volumes(listing.found.sources, glob), "--images", glob)
        first = first or matches
        for source, key in _of_one_study(matches, first).items():
            if source not in label_maps:
                name = _placed(glob, CHANNEL, listing.relative(source)) or channel
                draft.add_image(key, source, name).group = source.patient_id
    for source, key in label_maps.items():
        structure = _placed(labels or "", STRUCTURE, listing.relative(source))
        draft.add_label(key, replace(source, structure=structure) if structure else source)
    return draft


def _check(images: Sequence[str], labels: str | None) -> None:
    """Checks that globs can be paired.

    Raises:
        ConfigError: They cannot.
    """
    patterns = [*images, *([labels] if labels else [])]
    shown = ", ".join(f"'{glob}'" for glob in patterns)
    placeholders = [set(PLACEHOLDER.findall(glob)) - {CHANNEL, STRUCTURE} for glob in patterns]
    if any(placeholders) and any(each != placeholders[0] for each in placeholders):
        raise ConfigError(f"--images and --labels need the same placeholders to be paired by: {shown}")
    if any(f"{{{STRUCTURE}}}" in glob for glob in images) or f"{{{CHANNEL}}}" in (labels or ""):
        raise ConfigError(f"{{{CHANNEL}}} is for --images, {{{STRUCTURE}}} for --labels: {shown}")
    if not any(placeholders) and len({_pattern(glob).groups for glob in patterns}) > 1:
        raise ConfigError(
            f"--images and --labels need equally many * to be paired by: {shown}; or say what is the same in both, "
            "as in --images '{case}/ct.nii.gz' --labels '{case}/segmentations/{structure}.nii.gz'"
        )


def paired_keys(images: str, labels: str, image_paths: Sequence[str], label_paths: Sequence[str]) -> set[str]:
    """Returns what the files are called that two globs pair."""
    first, second = (
        {_key(match) for path in paths if (match := _pattern(glob).fullmatch(path))}
        for glob, paths in ((images, image_paths), (labels, label_paths))
    )
    return first & second


def is_named(image: str) -> bool:
    """Returns whether a glob gives its channel a name."""
    match = NAMED.fullmatch(image)
    return match is not None and match[1] is not None


def take_labels(draft: CaseListDraft, others: CaseListDraft) -> None:
    """Gives cases the label maps that other cases have for the images of their first channel."""
    labelled = {source: case for case in others.cases.values() for source in case.images.values()}
    for case in draft.cases.values():
        first = case.images.get(draft.channels[0] if draft.channels else "")
        if first in labelled:
            case.labels, case.unlabelled_as = labelled[first].labels, labelled[first].unlabelled_as
            case.annotated = labelled[first].annotated
    draft.labels, draft.problems = others.labels, others.problems


def only_images(draft: CaseListDraft, listing: Listing, images: str) -> None:
    """Leaves the cases of a draft with those of their images that match a glob, or with those volumes of files that
    hold several.

    Raises:
        SourceError: None is left.
        ConfigError: Several volumes of a file match.
    """
    there = [source for case in draft.cases.values() for source in case.images.values()]
    chosen = _matches(listing, _with_volumes(there, images), "--images", images)
    volumes: dict[Path, list[ImageSource]] = defaultdict(list)
    for source in chosen:
        volumes[source.path] += [source] if source.part and source.kind != "dicom" else []
    for path, several in volumes.items():
        if len(several) > 1:
            names = ", ".join(each.part for each in several)
            raise ConfigError(f"--images '{images}': matches {names} of {path}; name one of them")
    for key, case in list(draft.cases.items()):
        choices = {c: [s] if s in chosen else volumes.get(s.path, []) for c, s in case.images.items()}
        case.images = {channel: choice[0] for channel, choice in choices.items() if choice}
        if not case.images:
            del draft.cases[key]
    draft.hints = [f"only the images that match '{images}'"]


def _with_volumes(sources: Sequence[ImageSource], glob: str) -> list[ImageSource]:
    """Returns the sources with the volumes of files that hold several, where a glob names volumes."""
    if not may_be_part(PurePosixPath(glob).name):
        return list(sources)
    return [*sources, *(volume for source in sources for volume in volumes_of(source))]


def _matches(listing: Listing, sources: Sequence[ImageSource], option: str, glob: str) -> dict[ImageSource, str]:
    """Returns those sources that match, with the names that the wildcards stand for.

    Raises:
        SourceError: None matches.
    """
    matches = {source: _pattern(glob).fullmatch(listing.relative(source)) for source in sources}
    keys = {source: _key(match) for source, match in matches.items() if match}
    if not keys:
        examples = ", ".join(map(listing.relative, sources[:3])) or "no images"
        raise SourceError(f"{listing.path}: {option} '{glob}' matches nothing; there are: {examples}")
    return keys


def _of_one_study(matches: Mapping[ImageSource, str], first: Mapping[ImageSource, str]) -> dict[ImageSource, str]:
    """Returns matches whose own key is none of the first channel's with that of the first channel's series.

    It is the key of the only series of the same DICOM study: descriptions of series differ from channel to channel, and
    from patient to patient.
    """
    of_study: dict[str, list[str]] = defaultdict(list)
    for source, key in first.items():
        of_study[source.study_uid].append(key)
    known = {uid: keys[0] for uid, keys in of_study.items() if uid and len(keys) == 1}
    taken = set(first.values())
    return {source: key if key in taken else known.get(source.study_uid, key) for source, key in matches.items()}


def _key(match: re.Match[str]) -> str:
    named = {name: part for name, part in match.groupdict().items() if name not in (CHANNEL, STRUCTURE)}
    groups = [named[name] for name in sorted(named)] if named else match.groups()
    parts = "/".join(part.strip("/") for part in groups if part).split("/")
    return "/".join(key for part in parts if (key := _without_suffix(part)))


def _without_suffix(part: str) -> str:
    """Returns ``P1`` of ``P1.nii.gz`` and of ``P1.zip``; empty for ``.nii.gz`` and ``nii.gz``, as in ``CT*`` and
    ``CT.*``."""
    name = f"_.{part.lstrip('.')}"
    return stem(without_suffix(Path(name))).removeprefix("_").removeprefix(".")


def _channels(images: Sequence[str]) -> dict[str, str]:
    """Returns globs by the names of their channels: those given, else what the globs' own words tell apart, else
    numbers.

    A single one may have no name.

    Raises:
        ConfigError: Only some are named, or two alike.
    """
    given = [NAMED.fullmatch(image) for image in images]
    names, globs = zip(*((match[1] or "", match[2]) for match in given if match), strict=True)
    if len(images) > 1 and not any(names):
        names = tuple(map(_words, globs))
        if "" in names or len(set(names)) < len(names):
            names = tuple(f"{i:04d}" for i in range(len(globs)))
    if len(images) > 1 and ("" in names or len(set(names)) < len(names)):
        raise ConfigError(f"--images: give each channel a name of its own, as in 'CT={globs[0]}'")
    return dict(zip(names, globs, strict=True))


def _words(glob: str) -> str:
    """Returns ``CT`` of ``*/CT_image.nii.gz`` and of ``*/CT/image``; empty where it says nothing."""
    parts = [stem(Path(part)).replace("*", "").strip("_-. ") for part in reversed(PurePosixPath(glob).parts)]
    return next((word for part in parts if (word := image_core(part))), "")


def _placed(glob: str, placeholder: str, path: str) -> str:
    """Returns what a placeholder stands for in a path that matches; empty where the glob has no such."""
    match = _pattern(glob).fullmatch(path)
    return _without_suffix(match[placeholder]) if match and placeholder in match.groupdict() else ""


def _pattern(glob: str) -> re.Pattern[str]:
    """Returns a glob as a regular expression with one group for each wildcard, or for each placeholder where there are
    such.

    ``**/`` matches any depth. A placeholder that occurs twice has to match the same twice.
    """
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\{[a-z]+\})", glob.removeprefix("./").rstrip("/"))
    names = set(PLACEHOLDER.findall(glob))
    seen: set[str] = set()
    expression = ""
    for part in parts:
        placeholder = PLACEHOLDER.fullmatch(part)
        if placeholder is None:
            wildcard = WILDCARDS.get(part, re.escape(part))
            expression += wildcard.replace("(", "(?:", 1) if names and part in WILDCARDS else wildcard
            continue
        name = placeholder[1]
        expression += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)"
        seen.add(name)
    return re.compile(expression)
