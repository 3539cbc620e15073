"""Pictures whose objects are drawn in a COCO JSON."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from medseg.dataset.layouts.case_list_draft import CaseListDraft
from medseg.dataset.layouts.listing import Listing
from medseg.errors import MedsegError, Problem
from medseg.io.coco.reader import CocoFile, read_coco_file
from medseg.io.discover import source_of
from medseg.io.source import ImageSource
from medseg.labels import Labels

NAMED = re.compile(r".*(?:coco|annotation|instances).*\.json", re.IGNORECASE)
FOLDERS = (".", "..", "images", "../images")  # where pictures lie, seen from the JSON


def coco(listing: Listing) -> CaseListDraft | None:
    """Finds pictures whose objects are drawn in a COCO JSON: beside it, in ``images/``, or anywhere by its name.

    Categories are labels, and all of them are objects; those of several files (``train``, ``val``) go by their names.
    """
    files = {path: content for path in _files(listing.path) if (content := _content(path)) is not None}
    if not files:
        return None
    draft = CaseListDraft("pictures with a COCO JSON", notes=list(listing.found.notes))
    names = list(dict.fromkeys(each.name for content in files.values() for each in content.categories))
    draft.labels = Labels.from_names({name: i for i, name in enumerate(names, start=1)}).with_instances(names)
    by_name = _by_name(listing)
    keys = Counter(PurePosixPath(image.file_name).stem for content in files.values() for image in content.images)
    for path, content in files.items():
        drawn = {each.image_id for each in content.annotations}
        for image in content.images:
            picture = _picture(path, image.file_name) or by_name.get(PurePosixPath(image.file_name).name)
            stem = PurePosixPath(image.file_name).stem
            key = stem if keys[stem] == 1 else f"{path.stem}/{image.id}"
            if picture is None:
                draft.problems.append(
                    Problem(key, path, f"{path}: lists {image.file_name}, which is not there; left out")
                )
                continue
            case = draft.add_image(key, source_of(picture))
            if image.id in drawn:
                draft.add_label(key, ImageSource("coco", path, (path,), part=str(image.id)))
            else:
                case.unlabelled_as = "picture without objects"
    return draft


def _files(folder: Path) -> Iterator[Path]:
    for pattern in ("*.json", "annotations/*.json", "*/*.json"):
        yield from (path for path in sorted(folder.glob(pattern)) if NAMED.fullmatch(path.name))


def _content(path: Path) -> CocoFile | None:
    try:
        content = read_coco_file(path)
    except MedsegError:
        return None
    return content if content.images and content.categories else None


def _picture(path: Path, name: str) -> Path | None:
    """Returns where a picture lies that the JSON at ``path`` lists, below its folder or the one above."""
    root = path.parent.parent.resolve()
    found = ((path.parent / folder / name).resolve() for folder in FOLDERS)
    return next((file for file in found if file.is_file() and file.is_relative_to(root)), None)


def _by_name(listing: Listing) -> dict[str, Path]:
    """Returns all pictures whose names occur once, by these."""
    paths = [source.path for source in listing.found.sources]
    counts = Counter(path.name for path in paths)
    return {path.name: path for path in paths if counts[path.name] == 1}
