"""What the names of labels mean, as codes that DICOM and 3D Slicer know.

``structures.csv`` holds common structures: the words of their names, and their code in SNOMED CT (lesions that enhance
or don't: NCI Thesaurus). Codes and meanings are those of DICOM's context groups (PS3.16, CID 7151 and others), as
pydicom lists them.
"""

import csv
import re
import zlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from medseg.records import Record

TABLE = Path(__file__).with_name("structures.csv")

PRIVATE = "99MEDSEG"  # the scheme of names that say nothing

LONGEST_VALUE = 16  # characters that DICOM has for a code's value (SH), and for its meaning (LO)
LONGEST_MEANING = 64

Words = frozenset[str]


class Code(Record):
    """A term of a coding scheme, as DICOM and 3D Slicer name structures: ``SCT, 10200004, Liver``.

    Attributes:
        scheme: DICOM's designator of the scheme, such as ``SCT`` for SNOMED CT.
        value: The code, of at most 16 characters.
        meaning: The term in words, of at most 64 characters.
    """

    scheme: str
    value: str
    meaning: str


class Coding(NamedTuple):
    """What kind of thing a structure is, which it is, and on which side or in which part.

    Attributes:
        category: Such as "Anatomical Structure".
        type: Such as "Kidney".
        modifier: Such as "Left"; None where nothing says it.
    """

    category: Code
    type: Code
    modifier: Code | None = None


# DICOM PS3.16, CID 7150; for the first, the code that 3D Slicer and dcmqi use.
CATEGORIES = {
    "anatomical": Code(scheme="SCT", value="123037004", meaning="Anatomical Structure"),
    "tissue": Code(scheme="SCT", value="85756007", meaning="Tissue"),
    "substance": Code(scheme="SCT", value="91720002", meaning="Body Substance"),
    "abnormal": Code(scheme="SCT", value="49755003", meaning="Morphologically Abnormal Structure"),
}

LEFT = Code(scheme="SCT", value="7771000", meaning="Left")
RIGHT = Code(scheme="SCT", value="24028007", meaning="Right")
BILATERAL = Code(scheme="SCT", value="51440002", meaning="Bilateral")
SIDES = {"left": LEFT, "l": LEFT, "right": RIGHT, "r": RIGHT, "bilateral": BILATERAL, "both": BILATERAL}
# DICOM PS3.16, CID 2
PLACES = {
    "anterior": Code(scheme="SCT", value="255549009", meaning="Anterior"),
    "posterior": Code(scheme="SCT", value="255551008", meaning="Posterior"),
    "superior": Code(scheme="SCT", value="264217000", meaning="Superior"),
    "inferior": Code(scheme="SCT", value="261089000", meaning="Inferior"),
    "proximal": Code(scheme="SCT", value="40415009", meaning="Proximal"),
    "distal": Code(scheme="SCT", value="46053002", meaning="Distal"),
    "medial": Code(scheme="SCT", value="255561001", meaning="Medial"),
    "lateral": Code(scheme="SCT", value="49370004", meaning="Lateral"),
}

FILLERS = ("of", "the", "in", "and", "a")
# As in the table: American, singular, without Latin.
SPELLINGS = {
    "tumour": "tumor", "oesophagus": "esophagus", "oedema": "edema", "haemorrhage": "hemorrhage", "grey": "gray",
    "haematoma": "hematoma", "vertebrae": "vertebra", "metastases": "metastasis", "clavicula": "clavicle",
    "brainstem": "brain stem", "bronchi": "bronchus", "testes": "testis", "ovaries": "ovary", "arteries": "artery",
}  # fmt: skip


def coding(name: str) -> Coding:
    """Returns the codes of a structure by its name.

    ``kidney_left``, ``Left Kidney`` and ``Kidney_L`` are the kidney, left. A name with a word for a lesion is that
    lesion, wherever it is. A name that says nothing is an anatomical structure with a private code (scheme 99MEDSEG),
    whose meaning is the name.

    Args:
        name: In English, of words that are parted by any signs, or by capital letters.

    Source:
        DICOM PS3.16, context groups 7150, 7151 and others. ``structures.csv`` has the codes.

    Example:
        >>> code = coding("Kidney_L")
        >>> code.type.meaning, code.modifier.meaning
        ('Kidney', 'Left')
    """
    words = _words(name)
    modifier = next((known[word] for known in (SIDES, PLACES) for word in known if word in words), None)
    lesion = _lesion(words)
    if lesion is not None:
        return Coding(CATEGORIES["abnormal"], lesion, modifier)
    sides, places = frozenset(SIDES), frozenset({*SIDES, *PLACES})
    numbered = places | {word for word in words if word.isdigit()}
    for unsaid in (frozenset[str](), sides, places, numbered):
        found = _table().get(words - unsaid)
        if found is not None:
            category, code = found
            # "left atrium" is a structure of its own: its side is not said twice.
            return Coding(CATEGORIES[category], code, modifier if words & unsaid & places else None)
    return Coding(CATEGORIES["anatomical"], _private(name), modifier)


def _lesion(words: Words) -> Code | None:
    """Returns the entry of the table for a lesion that says most of the words."""
    candidates = [known for known, (category, _) in _table().items() if category == "abnormal" and known <= words]
    return _table()[max(candidates, key=len)][1] if candidates else None


def _words(name: str) -> Words:
    separate = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    spelled = " ".join(SPELLINGS.get(word, word) for word in re.split(r"[\W_]+", separate.lower()))
    known = frozenset().union(*_table())
    singular = (word[:-1] if word not in known and word[:-1] in known else word for word in spelled.split())
    return frozenset(word for word in singular if word not in FILLERS)


@lru_cache(maxsize=1)
def _table() -> dict[Words, tuple[str, Code]]:
    with TABLE.open(encoding="utf-8", newline="") as stream:
        return {
            frozenset(row["words"].split()): (
                row["category"],
                Code(scheme=row["scheme"], value=row["value"], meaning=row["meaning"]),
            )
            for row in csv.DictReader(stream)
        }


def _private(name: str) -> Code:
    readable = re.fullmatch(rf"\w{{1,{LONGEST_VALUE}}}", name, flags=re.ASCII)
    value = name.upper() if readable else f"{zlib.crc32(name.encode()):08X}"
    return Code(scheme=PRIVATE, value=value, meaning=name[:LONGEST_MEANING])
