"""What is done to an input: bytes of any file, and what the format means. Each is a function of the random generator
alone, so that a number gives the same input again."""

import io
import json
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import DataElement, Dataset

Random = np.random.Generator
Mutation = Callable[[bytes, Random], bytes]

DEEP = 100_000
NUMBERS = (
    "0", "-1", "1", "2", "3", "7", "255", "256", "65536", "-32769", "2147483647", "2147483648", "-2147483649", "1e9",
    "4294967296", "9223372036854775808", "99999999999999999999", "1e30", "1e308", "1e400", "-1e30", "1e-30", "1e-320",
    "nan", "NaN", "inf", "-Infinity", "0.5", "-0.5", "1.00001", "0x10", "1_000", "１２", "1,5", "2024-13-45",
)  # fmt: skip
TEXTS = (
    "", " ", "a", "foo bar", "é", "\ud83e\udde0", "\0", "\x1b[2J", "..", "../../x", "/", "\\", "C:\\x", "a/b", "%s%n",
    "NULL", "true", "None", "~", "=1+1", "@x", "-", "[]", "{}", "<b>", "'", '"', "a\nb", "x" * 255, "x" * 5000,
    "s%d.raw 1 999999999 1", "s%d.raw 1 9 0", "LIST", "!!int foo", "!!python/object:os.system x", "&a [*a, *a]", "1 1",
    "1 1 1", "0 0 0", "1 0 0 0 1 0 0 0 1", "(1,0,0) (0,1,0) (0,0,1)", "none none none", "9" * 400, "-1\\2", "1\\2\\3",
)  # fmt: skip
BYTE_RUNS = tuple(
    struct.pack(form, value)
    for form, values in {
        "<H": (0, 1, 0x7FFF, 0x8000, 0xFFFF), "<i": (0, -1, 2**31 - 1, -(2**31), 1, 0x10000), "<q": (-1, 2**62, 2**31),
        "<f": (0.0, -1.0, float("nan"), float("inf"), 1e30, 1e-40), "<d": (float("nan"), 1e300, -1.0, 0.0),
        ">H": (1, 0x7FFF), ">i": (1, 2**31 - 1),
    }.items()
    for value in values
)  # fmt: skip


def mutate(path: Path, kind: str, random: Random) -> str:
    """Changes the file; returns the names of what was done."""
    content = path.read_bytes()
    done = []
    for _ in range(1 + int(random.random() < 0.3) + int(random.random() < 0.1)):
        known = BY_KIND.get(kind, ())
        mutation = _choice(random, known if known and random.random() < 0.6 else BYTES)
        try:
            content = mutation(content, random)
            done.append(mutation.__name__)
        except Exception as error:  # libraries refuse to write some of what they would read
            done.append(f"({mutation.__name__} failed: {type(error).__name__})")
            content = flip(content, random)
    path.write_bytes(content)
    return ", ".join(done)


def _choice(random: Random, options: Any) -> Any:
    return options[int(random.integers(len(options)))]


def _place(content: bytes, random: Random) -> int:
    """More often near the beginning, where headers lie."""
    length = len(content) if random.random() < 0.5 else min(len(content), 400)
    return int(random.integers(length + 1))


def flip(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(int(random.integers(1, 9))):
        if changed:
            changed[min(_place(content, random), len(changed) - 1)] = int(random.integers(256))
    return bytes(changed)


def truncate(content: bytes, random: Random) -> bytes:
    return content[: int(random.integers(len(content) + 1))]


def insert(content: bytes, random: Random) -> bytes:
    at = _place(content, random)
    return content[:at] + random.bytes(int(random.integers(1, 40))) + content[at:]


def delete(content: bytes, random: Random) -> bytes:
    at = _place(content, random)
    return content[:at] + content[at + int(random.integers(1, 40)) :]


def splice(content: bytes, random: Random) -> bytes:
    """A part of it comes again at another place."""
    at, other = _place(content, random), _place(content, random)
    part = content[other : other + int(random.integers(1, 200))]
    return content[:at] + part + content[at + len(part) * int(random.integers(2)) :]


def extreme_bytes(content: bytes, random: Random) -> bytes:
    run = _choice(random, BYTE_RUNS)
    at = _place(content, random) // 2 * 2
    return content[:at] + run + content[at + len(run) :]


def zeros(content: bytes, random: Random) -> bytes:
    at, length = _place(content, random), int(random.integers(1, 200))
    return content[:at] + bytes(length) + content[at + length :]


BYTES: tuple[Mutation, ...] = (flip, flip, truncate, insert, delete, splice, extreme_bytes, zeros)


def _value(random: Random) -> str:
    huge = random.random()
    if huge < 0.02:
        return "x" * 3_000_000
    if huge < 0.04:
        return "[" * DEEP
    return _choice(random, NUMBERS if random.random() < 0.5 else TEXTS)


def line(content: bytes, random: Random) -> bytes:
    """Of a text, or of the text before the voxels: a line is changed, or is gone, comes twice, or elsewhere."""
    end = content.find(b"\n\n")
    lines = content[: end if end > 0 else len(content)].split(b"\n")
    at, other = (int(random.integers(len(lines))) for _ in range(2))
    what = int(random.integers(6))
    if what == 0:
        del lines[at]
    elif what == 1:
        lines.insert(other, lines[at])
    elif what == 2:
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at] = _changed_line(lines[at], random)
    return b"\n".join(lines) + (content[end:] if end > 0 else b"")


def _changed_line(text: bytes, random: Random) -> bytes:
    """Another value behind the first separator, or one of its parts."""
    value = _value(random).encode("utf-8", "surrogatepass")
    separator = next((s for s in (b":=", b": ", b" = ", b",") if s in text), None)
    if separator is None or random.random() < 0.1:
        return value
    parts = text.split(separator)
    at = int(random.integers(len(parts) if separator == b"," else 1, len(parts) + 1)) - 1
    words = parts[at].split(b" ")
    if len(words) > 1 and random.random() < 0.6:
        words[int(random.integers(len(words)))] = value
        parts[at] = b" ".join(words)
    else:
        parts[at] = value
    return separator.join(parts)


def json_node(content: bytes, random: Random) -> bytes:
    """Some value is another, of another type, gone, huge, or nested without end."""
    tree = json.loads(content)
    places = list(_places(tree, []))
    text = json.dumps(_with_node(tree, places, random), ensure_ascii=False)
    if random.random() < 0.06:
        deep = "[" * DEEP + "]" * DEEP if random.random() < 0.5 else '{"a":' * DEEP + "1" + "}" * DEEP
        text = text.replace('"', f'"x":{deep},"', 1) if random.random() < 0.5 else text.replace("1", deep, 1)
    return text.encode("utf-8", "surrogatepass")


def _places(tree: Any, path: list[Any]) -> Any:
    """The path of each node but the root."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield [*path, key]
        yield from _places(value, [*path, key])


def _with_node(tree: Any, places: list[list[Any]], random: Random) -> Any:
    if not places or random.random() < 0.02:
        return _json_value(random, tree)
    shallow = [place for place in places if len(place) <= 2]
    path = _choice(random, shallow if random.random() < 0.5 else places)
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    what = int(random.integers(6))
    if what == 0:
        del parent[path[-1]]
    elif what == 1 and isinstance(parent, dict):
        parent[str(_value(random))] = parent.pop(path[-1])
    elif what == 2 and isinstance(parent, list):
        parent.insert(0, parent[path[-1]])
    elif what == 3 and isinstance(parent[path[-1]], list):
        parent[path[-1]] = parent[path[-1]][:-1] if random.random() < 0.5 else []
    else:
        parent[path[-1]] = _json_value(random, parent[path[-1]])
    return tree


def _json_value(random: Random, old: Any) -> Any:
    if isinstance(old, int | float) and not isinstance(old, bool) and random.random() < 0.6:
        return _choice(
            random, (0, -1, 1, 2, 10**6, -(10**9), 2**63, 10**30, 1e308, float("nan"), float("inf"), 0.5, old + 1)
        )
    if isinstance(old, str) and random.random() < 0.5:
        return _value(random)
    others = (None, True, False, 0, -1, 3.5, 10**400, "", "x", [], {}, [old], {"x": old}, [1, 2, 3], [[]], {"": None})
    return _choice(random, others)


def tag(content: bytes, random: Random) -> bytes:
    """An element of DICOM, at any depth, is another, of another representation, several, empty, or gone."""
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(io.BytesIO(content), force=True)
        elements = [(owner, element) for owner in _datasets(header) for element in owner]
        owner, element = _choice(random, elements)
        what = int(random.integers(5))
        if what == 0:
            del owner[element.tag]
        elif what == 1 and element.VR in ("US", "SS", "UL", "SL", "FD", "FL"):
            owner.add(DataElement(element.tag, element.VR, _number_for(element.VR, random)))
        elif what == 2:
            owner.add(DataElement(element.tag, "LO", _value(random)[:60]))
        elif what == 3 and isinstance(element.value, pydicom.multival.MultiValue | list | pydicom.Sequence):
            kept = list(element.value)
            owner.add(DataElement(element.tag, element.VR, kept[:-1] if random.random() < 0.5 else [*kept, kept[0]]))
        else:
            _set_text(owner, element, random)
        stream = io.BytesIO()
        header.save_as(stream, enforce_file_format=False)
        return stream.getvalue()


def _datasets(header: Dataset) -> Any:
    yield header
    if getattr(header, "file_meta", None):
        yield header.file_meta
    for element in header:
        if element.VR == "SQ":
            for item in element.value:
                yield from _datasets(item)


def _number_for(representation: str, random: Random) -> Any:
    if representation in ("FD", "FL"):
        return _choice(random, (0.0, -1.0, float("nan"), float("inf"), 1e30, [1.0, 2.0]))
    bits = 16 if representation in ("US", "SS") else 32
    top = 2**bits - 1 if representation[0] == "U" else 2 ** (bits - 1) - 1
    return _choice(random, (0, 1, 2, 7, 8, 12, 16, top, top // 2, [1, 2], None))


def _set_text(owner: Dataset, element: DataElement, random: Random) -> None:
    """Written as bytes, which pydicom does not look at."""
    if element.VR == "SQ":
        owner.add(DataElement(element.tag, "SQ", []))
        return
    value = _value(random).encode("utf-8", "surrogatepass")[:4000]
    number = pydicom.dataelem.RawDataElement(
        element.tag, element.VR, len(value) + len(value) % 2, value + b" " * (len(value) % 2), 0, False, True
    )
    owner._dict[element.tag] = number


def member(content: bytes, random: Random) -> bytes:
    """The archive has one more file, of a name or a kind that nobody expects."""
    name = _choice(
        random, ("../out.dcm", "/abs.dcm", "a" * 300, "ct/2.dcm", "ct", "", "x\0y", "C:/x", "ct/é\udce9.dcm")
    )
    stream = io.BytesIO(content)
    if content[:2] == b"PK":
        with warnings.catch_warnings(), zipfile.ZipFile(stream, "a") as archive:
            warnings.simplefilter("ignore")
            archive.writestr(name.encode("utf-8", "replace").decode(), content[: int(random.integers(2000))])
        return stream.getvalue()
    packed = content[:2] == b"\x1f\x8b"
    with tarfile.open(fileobj=stream) as archive:
        files = [(info, archive.extractfile(info)) for info in archive.getmembers()]
        files = [(info, file and file.read()) for info, file in files]
    extra = tarfile.TarInfo(name)
    extra.type = _choice(random, (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE))
    extra.linkname = _choice(random, ("/etc/passwd", "../..", "ct/0.dcm", ""))
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz" if packed else "w") as archive:
        for info, data in [*files, (extra, b"")]:
            archive.addfile(info, io.BytesIO(data or b""))
    return written.getvalue()


def safetensors_header(content: bytes, random: Random) -> bytes:
    """The JSON in front of the tensors, or the progress in it."""
    (length,) = struct.unpack("<Q", content[:8])
    header, tensors = content[8 : 8 + length], content[8 + length :]
    tree = json.loads(header)
    progress = tree.get("__metadata__", {}).get("progress")
    if progress and random.random() < 0.7:
        tree["__metadata__"]["progress"] = json_node(progress.encode(), random).decode("utf-8", "replace")
        header = json.dumps(tree).encode()
    else:
        header = json_node(header, random)
    return struct.pack("<Q", len(header)) + header + tensors


def npy_header(content: bytes, random: Random) -> bytes:
    """Another shape, type or order in the header, of the same length where that is possible."""
    end = content.index(b"\n")
    header = content[10:end]
    old, new = _choice(
        random,
        (
            (b"<f2", _choice(random, (b"<f8", b"|O8", b"|O", b"<U3", b"|V2", b"<i2", b"|b1", b"xyz"))),
            (b"False", _choice(random, (b"True", b"None", b"1"))),
            (b"(", _choice(random, (b"(1, ", b"(-1, ", b"(99999999, ", b"((", b""))),
            (b", ", b","),
            (b"descr", b"x"),
            (b"}", b", 'x': 1}"),
        ),
    )
    header = header.replace(old, new, 1).rstrip()
    header = header.ljust(end - 10)[: end - 10] if random.random() < 0.8 else header
    return content[:10] + header + content[end:]


_TEXT: tuple[Mutation, ...] = (line,)
_JSON: tuple[Mutation, ...] = (json_node, json_node, json_node, line)
_DICOM: tuple[Mutation, ...] = (tag,)
BY_KIND: dict[str, tuple[Mutation, ...]] = {
    "nifti": (extreme_bytes,),
    "tiff": (extreme_bytes,),
    **dict.fromkeys(("nrrd", "mha", "mhd", "seg.nrrd", "cases.csv", "config", "log.csv"), _TEXT),
    **dict.fromkeys(("dicom", "packed dicom", "enhanced dicom", "seg", "rtstruct", "dicomdir"), _DICOM),
    **dict.fromkeys(("zip", "tar", "tar.gz"), (member,)),
    **dict.fromkeys(("checkpoint", "weights"), (safetensors_header,)),
    **dict.fromkeys(
        (
            "dataset.json", "prepared dataset.json", "plan.json", "fingerprint.json", "run.json", "model.json",
            "predictions.json", "metrics.json",
        ),
        _JSON,
    ),
    "image.npy": (npy_header,),
}  # fmt: skip
