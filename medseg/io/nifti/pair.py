"""NIfTI and Analyze 7.5 in two files: ``scan.hdr`` has the header, ``scan.img`` or ``scan.img.gz`` the voxels."""

from pathlib import Path

import nibabel
from nibabel.analyze import AnalyzeImage
from nibabel.fileholders import FileHolder

from medseg.errors import SourceError
from medseg.io.file_signature import content_suffix
from medseg.io.folders import PAIR_SUFFIXES, VOXEL_SUFFIXES, is_pair

# In the order in which nibabel looks: what SPM writes is Analyze with an origin, or with an affine in a .mat beside it.
KINDS = (
    nibabel.Nifti1Pair,
    nibabel.Nifti2Pair,
    nibabel.Spm2AnalyzeImage,
    nibabel.Spm99AnalyzeImage,
    AnalyzeImage,
)


def open_pair(header: Path) -> AnalyzeImage:
    """The header, read; the voxels, not yet. nibabel's NIfTI images are ``AnalyzeImage`` too. Raises ``SourceError``
    where there are no voxels beside it, and what nibabel raises for damaged files."""
    with nibabel.openers.ImageOpener(header) as stream:
        start = stream.read(KINDS[1].header_class.template_dtype.itemsize)
    kind = next((kind for kind in KINDS if kind.header_class.may_contain_header(start)), None)
    if kind is None:
        raise SourceError(f"{header}: is no header of Analyze or NIfTI; convert the image to .nii.gz")
    files = kind.filespec_to_file_map(str(header.with_name(f"{_stem(header)}.hdr")))
    files |= {"header": FileHolder(str(header)), "image": FileHolder(str(voxel_file(header)))}
    return kind.from_file_map(files)


def voxel_file(path: Path) -> Path:
    """The file with the voxels that belong to a header; any other file is its own. Raises ``SourceError`` where it is
    not there."""
    if not is_pair(path):
        return path
    beside = voxels_beside(path)
    if beside is None:
        raise SourceError(f"{path}: has no voxels beside it ({_stem(path)}.img or .img.gz); copy both files")
    return beside


def voxels_beside(header: Path) -> Path | None:
    """``scan.img`` or ``scan.img.gz`` beside ``scan.hdr``; None where there is none."""
    return _beside(header, VOXEL_SUFFIXES)


def header_file(path: Path) -> Path | None:
    """The header that belongs to ``scan.img``; None for any other file."""
    return _beside(path, PAIR_SUFFIXES) if path.name.lower().endswith(VOXEL_SUFFIXES) else None


def is_pair_header(path: Path) -> bool:
    """Whether it is a header of Analyze or NIfTI, not just of that name: other programs have headers called .hdr."""
    return is_pair(path) and content_suffix(path) == ".hdr"


def is_analyze(image: AnalyzeImage) -> bool:
    """Whether the header is older than NIfTI, and does not say how voxels are turned."""
    return not isinstance(image, nibabel.Nifti1Pair)


def _beside(path: Path, suffixes: tuple[str, ...]) -> Path | None:
    named = (path.with_name(_stem(path) + suffix) for name in suffixes for suffix in (name, name.upper()))
    return next((file for file in named if file.is_file()), None)


def _stem(path: Path) -> str:
    suffix = next(s for s in (*PAIR_SUFFIXES, *VOXEL_SUFFIXES) if path.name.lower().endswith(s))
    return path.name[: -len(suffix)]
