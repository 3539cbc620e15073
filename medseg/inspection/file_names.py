"""Files whose names hide what they are."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from medseg.inspection.finding import Finding
from medseg.inspection.repair import Recompress, Rename
from medseg.io.file_signature import content_suffix
from medseg.io.folders import ITK_SUFFIXES, NIFTI_SUFFIXES, PICTURE_SUFFIXES, is_itk, is_nifti, is_picture
from medseg.progress import listed

# Formats that hold images and that medseg does not read, by suffix.
FOREIGN = {
    ".mgz": "FreeSurfer", ".mgh": "FreeSurfer", ".mnc": "MINC",
    ".par": "Philips PAR/REC", ".npy": "NumPy", ".npz": "NumPy", ".h5": "HDF5", ".hdf5": "HDF5", ".mat": "Matlab",
    ".vti": "VTK", ".vtk": "VTK", ".czi": "Zeiss", ".lif": "Leica", ".nd2": "Nikon", ".svs": "Aperio",
}  # fmt: skip
VOLUMES = (*NIFTI_SUFFIXES, ".nrrd", ".mha")
SAME = {".jpeg": ".jpg", ".tiff": ".tif", ".nhdr": ".nrrd", ".mhd": ".mha"}


def misnamed(files: Iterable[Path]) -> Iterator[Finding]:
    """Yields files with the suffix of another format than theirs, or with one that hides that they are images."""
    for path in files:
        named, content = _named(path), content_suffix(path)
        if content in ("", ".hdr", SAME.get(named, named)):
            continue
        if named in NIFTI_SUFFIXES and content in NIFTI_SUFFIXES:
            what = "is gzipped, though named .nii" if named == ".nii" else "is not gzipped, though named .nii.gz"
            to_do = "rename it, or let --fix store it as its name says"
            yield Finding("problem", "wrong-suffix", path, what, to_do, repair=Recompress())
        elif is_picture(path) and content not in (*VOLUMES, ".dcm"):
            yield _other_picture(path, named, content)
        elif is_nifti(path) or is_itk(path) or is_picture(path) or content in VOLUMES:
            yield _hidden(path, named, content)


def foreign(files: Iterable[Path]) -> Iterator[Finding]:
    """Yields images in formats that are not read, one finding a format."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        if path.suffix.lower() in FOREIGN:
            found[FOREIGN[path.suffix.lower()]].append(path)
    for name, paths in found.items():
        what = f"{name} files are not read ({listed((path.name for path in paths), 1)})"
        yield Finding("warning", "foreign-format", paths[0], what, "convert what holds images to .nii.gz")


def _named(path: Path) -> str:
    return next((suffix for suffix in NIFTI_SUFFIXES if path.name.lower().endswith(suffix)), path.suffix.lower())


def _other_picture(path: Path, named: str, content: str) -> Finding:
    what = f"holds {content[1:].upper()}, though named {named}"
    if content == ".jpg":
        return Finding("warning", "wrong-suffix", path, f"{what}; JPEG blurs the values of masks", "save masks as PNG")
    return Finding("warning", "wrong-suffix", path, what, f"name it {content}", repair=_rename(path, named, content))


def _hidden(path: Path, named: str, content: str) -> Finding:
    kind = "DICOM" if content == ".dcm" else "NIfTI" if content in NIFTI_SUFFIXES else content[1:].upper()
    what = f"holds {kind}, which its name hides"
    to_do = f"give it the suffix {content}"
    return Finding("problem", "wrong-suffix", path, what, to_do, repair=_rename(path, named, content))


def _rename(path: Path, named: str, content: str) -> Rename | None:
    """Returns the repair of a name; None where another file has the name already.

    What is no suffix of images, as in ``patient.7``, is kept.
    """
    is_suffix = named in (*NIFTI_SUFFIXES, *ITK_SUFFIXES, *PICTURE_SUFFIXES, ".gz")
    rename = Rename(path.name[len(path.name) - len(named) :] if is_suffix else "", content)
    return None if rename.target(path).exists() else rename
