"""Which cases are of one patient, by the names of their files and folders."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from medseg.progress import counted, listed

# Folders that part a dataset, and aren't patients.
PARTS = ("train", "training", "val", "valid", "validation", "test", "testing", "data")

# What is one patient's at two times, on two sides, in two slices.
OCCASION = (
    r"ED|ES|end[-_ ]?(?:dia|sys)tol\w*|(?:dia|sys)tol(?:e|ic)|baseline|bl|follow[-_ ]?up[-_ ]?\d*|fu[-_]?\d*|"
    r"(?:pre|post)(?:[-_]?op)?|t\d{1,2}|tp[-_]?\d+|time[-_ ]?(?:point)?[-_ ]?\d+|(?:visit|v)[-_]?\d{1,3}|"
    r"ses(?:sion)?[-_]?\w+?|(?:scan|frame|phase|week|month|day|year|slice)[-_ ]?\d+|mr\d|(?:19|20)\d{6}|"
    r"left|right|lh|rh|l|r"
)
OCCASIONS = re.compile(rf"(?:(?<=^)|(?<=[-_. ]))(?:{OCCASION})(?=$|[-_. ])", re.IGNORECASE)

# Names that say where a patient's own ends.
PATIENT = re.compile(
    r"sub-[A-Za-z0-9]+|TCGA[-_]\w{2}[-_]\w{4}|BraTS-[A-Za-z]+-\d{5}(?=-\d{3})|"
    r"(?:.*[-_. ])?(?:patient|subject|subj|pat|pt)[-_ ]?\d+(?=$|[-_. ])|p\d{1,4}(?=[-_. ])",
    re.IGNORECASE,
)

ENOUGH_FOLDERS = 5  # of numbered files each: folders of patients, rather than of hospitals
MOST_SHOWN = 3


def patients_by_name(keys: Sequence[str]) -> dict[str, str]:
    """Returns the patient of each case, a path of names, that the names of the cases (keys of a draft) tell of.

    There are none where all would be of one, as below a common folder.
    """
    paths = _reduced(keys)
    named = {key: "/".join(path) for key, path in paths.items() if path and "/".join(path) != key}
    groups = {named.get(key, key) for key in keys}
    return named if len(groups) > 1 else {}


def patients_note(groups: Sequence[str]) -> list[str]:
    """Says which patients have several cases; ``groups`` has the patient of each case that names tell of."""
    several = {name: n for name, n in sorted(Counter(groups).items()) if n > 1}
    if not several:
        return []
    shown = listed((f"{name} ({counted(n, 'case')})" for name, n in several.items()), MOST_SHOWN)
    return [
        f"taken for one patient by their names, and never on both sides of a split: {shown}; a cases.csv with "
        "the column group says otherwise"
    ]


def _reduced(keys: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns names without what differs within a patient: visits, sides, kinds of images."""
    paths = {key: _below_parts(key.split("/")) for key in keys}
    while len({path[0] for path in paths.values()}) == 1 and all(len(path) > 1 for path in paths.values()):
        paths = {key: path[1:] for key, path in paths.items()}
    return _without_kinds({key: _without_occasions(path) for key, path in paths.items()})


def _below_parts(path: list[str]) -> list[str]:
    """Returns ``["P1", "CT"]`` of ``["train", "P1", "CT"]``.

    What lies in the part itself may have the same name in another.
    """
    return [part for part in path if part.lower() not in PARTS] if len(path) > 2 else path


def _without_occasions(path: Sequence[str]) -> tuple[str, ...]:
    kept: list[str] = []
    for part in path:
        patient = PATIENT.match(part)
        if patient:
            return (*kept, patient[0])
        rest = re.sub(r"[-_. ]{2,}", "_", OCCASIONS.sub("", part)).strip("-_. ")
        kept += [rest] if rest else []
    return tuple(kept)


def _without_kinds(paths: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Returns the paths without kinds of images: where names recur from folder to folder, a folder is a patient."""
    parents: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for path in paths.values():
        if len(path) > 1 and not PATIENT.fullmatch(path[-1]) and not {p.lower() for p in path[:-1]} <= {*PARTS}:
            parents[path[-1]].add(path[:-1])
    folders = {folder for within in parents.values() for folder in within}
    recurring = {name for name, within in parents.items() if len(within) > 1}
    numbered = all(re.fullmatch(r"\D*\d+", name) for name in recurring)
    if not recurring or (numbered and len(folders) < ENOUGH_FOLDERS and len(parents) >= len(folders)):
        return dict(paths)
    patients = {folder for name in recurring for folder in parents[name]}
    return {key: path[:-1] if path[:-1] in patients else path for key, path in paths.items()}
