"""What file names say: which is a mask, which channel it is, and how a case may be called."""

import re
from collections import Counter
from collections.abc import Sequence

from medseg.io.structure_names import LONGEST_FILE_NAME, RESERVED, shortened

MASK_WORD = (
    r"(?:(?:lesions?[_\-. ]?)?masks?|msk|d?seg(?:s|m|mentations?)?|labels?|labelmap|label_map|lbl|gt|ground_?truth|"
    r"annotations?|manual|rois?|lesions?|contours?)"
)
IMAGE_WORD = r"(?:images?|imgs?|imaging|vol(?:umes?)?|scans?|data|orig|raw)"
SEPARATOR = r"[_\-. ]"
CHANNEL = re.compile(r"^(?P<base>.+)_(?P<channel>\d{4})$")


def mask_core(stem: str) -> str | None:
    """Returns what is left of a mask's name without the word that makes it one; None when it is no mask.

    ``CT_mask`` → ``CT``; ``label_07`` and ``mask07`` → ``07``; ``segmentation`` → ``""``; ``CT`` → None.
    """
    return _without(MASK_WORD, stem)


def image_core(stem: str) -> str:
    """Returns what is left of an image's name without the word that makes it one; the name itself where there is none.

    ``CT_image`` → ``CT``, ``volume-7`` → ``7``, ``imaging`` → ``""``, ``CT`` → ``CT``.
    """
    core = _without(IMAGE_WORD, stem)
    return stem if core is None else core


def split_channel(stem: str) -> tuple[str, str]:
    """Returns ``("liver_07", "0001")`` of ``liver_07_0001``, as nnU-Net names channels; ``(stem, "")`` without such
    an end."""
    match = CHANNEL.match(stem)
    return (match["base"], match["channel"]) if match else (stem, "")


def rest_after(start: str, stem: str) -> str | None:
    """Returns what follows ``start`` and a separator in a stem: ``t1`` in ``case3_t1`` after ``case3``; None
    otherwise."""
    if start == "":
        return stem
    rest = stem.removeprefix(start)
    return rest[1:] if rest != stem and re.match(rf"{SEPARATOR}.", rest) else None


def safe(name: str) -> str:
    """Returns a name that is fit to be a file name on every system: letters, digits, and ``_ - + .`` inside."""
    kept = re.sub(r"_{2,}", "_", re.sub(r"[^\w.+-]+", "_", name)).strip("._-")
    whole = f"case_{kept}" if RESERVED.match(kept) else kept
    return shortened(whole, LONGEST_FILE_NAME).rstrip("._-")  # Windows drops dots at the end


def unique(names: Sequence[str]) -> list[str]:
    """Returns safe names in which none occurs twice (file systems may ignore case): the second ``a`` becomes
    ``a_2``."""
    result: list[str] = []
    taken = {safe(name).lower() for name in names}
    seen: Counter[str] = Counter()
    for name in names:
        candidate = base = safe(name) or "case"
        seen[base.lower()] += 1
        number = seen[base.lower()]
        while number > 1 and (candidate := f"{base}_{number}").lower() in taken:
            number += 1
        taken.add(candidate.lower())
        result.append(candidate)
    return result


def in_folder(folder: str, name: str) -> str:
    """Returns the name of a case below a folder of the dataset, ``folder/name``; one of the two may be empty."""
    return "/".join(part for part in (folder, name) if part)


def _without(word: str, stem: str) -> str | None:
    patterns = (
        rf"(?P<core>){word}",
        rf"(?P<core>.+?){SEPARATOR}{word}",
        rf"{word}(?:{SEPARATOR}|(?=\d))(?P<core>.+)",
    )
    for pattern in patterns:
        match = re.fullmatch(pattern, stem, flags=re.IGNORECASE)
        if match:
            return match["core"]
    return None
