"""What a user can cause: errors that are shown as one line, without a traceback.

Every message names the file or the setting, says what is wrong, and what to do about it.
"""

import difflib
import errno
import re
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Archives are unpacked below a folder of this name; what follows it in a path is the path of the archive.
TEMPORARY = Path(tempfile.gettempdir()).resolve()
UNPACKED = "medseg-unpacked-"
_UNPACKED = re.compile(rf"{re.escape(str(TEMPORARY))}[/\\]{UNPACKED}\w+")


def shown(text: str) -> str:
    """Returns a path or a message as the user is to see it: files of an archive by their place in the archive."""
    return _UNPACKED.sub("", text)


LONGEST_REASON = 200  # characters of what a library, or a stranger's file, says


class MedsegError(Exception):
    """Something in the input was wrong. The command line shows the message and exits with status 1."""

    def __str__(self) -> str:
        return shown(super().__str__())


class SourceError(MedsegError):
    """A file or folder cannot be read as what it should be."""


class GeometryError(MedsegError):
    """Two things that should lie on one grid do not, or a grid cannot be represented."""


class LabelError(MedsegError):
    """A label map holds values that it should not hold, or none at all."""


class ConfigError(MedsegError):
    """A setting has a wrong name or a wrong value."""


class OutputError(MedsegError):
    """A result cannot be written where it was asked for."""


class TrainingError(MedsegError):
    """Training cannot go on, or cannot be resumed."""


class ModelError(MedsegError):
    """A model folder cannot be used."""


@contextmanager
def reading(
    path: Path,
    kind: str,
    advice: str = "copy or export it again",
    raises: type[MedsegError] = SourceError,
) -> Iterator[None]:
    """Bounds all that reads a file which somebody else may have written.

    Libraries raise whatever they like about a damaged or hostile file, RecursionError and MemoryError among it. Here
    each becomes an error that names the file, the cause and what to do; the library's error is its ``__cause__``, which
    ``--debug`` shows. A ``MedsegError`` passes as it is.

    Args:
        path: The file.
        kind: Completes "… or not": "NIfTI".
        advice: What to do.
        raises: The class of the error.
    """
    try:
        yield
    except MedsegError:
        raise
    except FileNotFoundError as error:
        raise raises(f"{path}: there is no such file") from error
    except PermissionError as error:
        raise raises(f"{path}: may not be read (permission denied); change its permissions") from error
    except Exception as error:
        if lacks_memory(error):
            raise raises(f"{path}: asks for more memory than there is; is it damaged?") from error
        reason = printable(without_path(_first_sentence(error), path))
        raise raises(f"{path}: truncated, damaged or not {kind} ({reason}); {advice}") from error


def lacks_memory(error: BaseException) -> bool:
    """Returns whether there was too little memory: PyTorch has errors of its own for that."""
    error = cause_of(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None
    )


def lacks_gpu_memory(error: BaseException) -> bool:
    """Returns whether a GPU had too little memory.

    PyTorch has an error of its own for that. cuDNN and cuBLAS, which allocate by themselves, raise a ``RuntimeError``.
    """
    if type(error).__name__ == "OutOfMemoryError":  # torch's: it need not be imported here
        return True
    return isinstance(error, RuntimeError) and _NO_GPU_MEMORY.search(str(error)) is not None


OF_THE_MACHINE = {
    errno.EACCES, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENAMETOOLONG, errno.ENFILE, errno.ENOMEM, errno.ENOSPC,
    errno.EPERM, errno.EROFS,
}  # fmt: skip
_NO_GPU_MEMORY = re.compile("out of memory|STATUS_ALLOC_FAILED|unable to find an engine", re.IGNORECASE)
_NO_MEMORY = re.compile(f"allocate memory|{_NO_GPU_MEMORY.pattern}", re.IGNORECASE)


def of_the_machine(error: BaseException) -> str:
    """Returns in words what of the machine an error speaks of: its memory, its disk, its permissions; "" for all
    others."""
    if lacks_memory(error):
        return "there is too little memory for this; free some, or see --max-memory and planning.max_patch_voxels"
    if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return ""


def defect(error: BaseException) -> str:
    """Returns what is said of an error that no input should cause: where in medseg it happened, and what to do."""
    error, package = cause_of(error), str(Path(__file__).parent)
    frames = traceback.extract_tb(error.__traceback__)
    frame = next(
        (each for each in reversed(frames) if each.filename.startswith(package)), frames[-1] if frames else None
    )
    where = f", {Path(frame.filename).name}:{frame.lineno}" if frame else ""
    return (
        f"a defect of medseg, not of your data ({type(error).__name__}: {reason_of(error)}{where}); please report it, "
        "with what 'medseg --debug' shows"
    )


def cause_of(error: BaseException) -> BaseException:
    """Returns the error itself; its cause, where it says no more than which step of MONAI's ``Compose`` raised that."""
    while _WRAPPED.match(str(error)) and (cause := error.__cause__ or error.__context__):
        error = cause
    return error


_WRAPPED = re.compile("applying transform ")


def without_path(text: str, path: Path) -> str:
    """Returns what a library says of a file, without the path that the message begins with anyway."""
    return re.sub(rf"""[ :,]*(?:(?:from|of|in|file) )*["'(]?{re.escape(str(path))}["')]?[:,]?""", "", text).strip()


def printable(text: str) -> str:
    """Returns a text of somebody else, short and without characters that a terminal obeys."""
    shortened = text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"
    return "".join(character if character.isprintable() else "�" for character in shortened)


def reason_of(error: BaseException) -> str:
    """Returns the first sentence of an error's text, short and printable; its class where it has none."""
    return printable(_first_sentence(error))


def _first_sentence(error: BaseException) -> str:
    error = cause_of(error)
    lines = str(error).strip().splitlines()
    return lines[0].split(". ")[0].rstrip(".:") if lines else type(error).__name__


@dataclass(frozen=True)
class Problem:
    """Something wrong with one case or file.

    It is shown as one line, written to problems.csv, and never in the way of the rest.
    """

    case_id: str
    path: Path
    message: str
    is_defect: bool = False  # of medseg, and no fault of the file

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(shown(str(self.path))))
        object.__setattr__(self, "message", shown(self.message))

    def __str__(self) -> str:
        return f"{self.case_id}: {self.message}" if self.case_id else self.message


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns ``"; did you mean 'spacing'?"`` when a known word is near, else the list of the known ones."""
    options = sorted(known)
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known are: {', '.join(options)}" if options else ""
