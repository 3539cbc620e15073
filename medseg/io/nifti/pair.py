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
    """Reads the header of a pair of ``.hdr`` and ``.img``; the voxels are not read yet.

    Returns:
        nibabel's image; those of NIfTI are ``AnalyzeImage`` too.

    Raises:
        SourceError: There are no voxels beside the header. What nibabel raises for damaged files comes as it is.
    """
    with nibabel.openers.ImageOpener(str(header)) as stream:
        start = stream.read(KINDS[1].header_class.template_dtype.itemsize)
    kind = next((kind for kind in KINDS if kind.header_class.may_contain_header(start)), None)
    if kind is None:
        raise SourceError(f"{header}: is no header of Analyze or NIfTI; convert the image to .nii.gz")
    files = dict(kind.filespec_to_file_map(str(header.with_name(f"{_stem(header)}.hdr"))))
    files |= {"header": FileHolder(str(header)), "image": FileHolder(str(voxel_file(header)))}
    image: AnalyzeImage = kind.from_file_map(files)
    return image


def voxel_file(path: Path) -> Path:
    """Returns the file with the voxels that belong to a header; any other file is its own.

    Raises:
        SourceError: It is not there.
    """
    if not is_pair(path):
        return path
    beside = voxels_beside(path)
    if beside is None:
        raise SourceError(f"{path}: has no voxels beside it ({_stem(path)}.img or .img.gz); copy both files")
    return beside


def voxels_beside(header: Path) -> Path | None:
    """Returns ``scan.img`` or ``scan.img.gz`` beside ``scan.hdr``; None where there is none."""
    return _beside(header, VOXEL_SUFFIXES)


def header_file(path: Path) -> Path | None:
    """Returns the header that belongs to ``scan.img``; None for any other file."""
    return _beside(path, PAIR_SUFFIXES) if path.name.lower().endswith(VOXEL_SUFFIXES) else None


def is_pair_header(path: Path) -> bool:
    """Says whether it is a header of Analyze or NIfTI by its content: other programs have headers called .hdr."""
    return is_pair(path) and content_suffix(path) == ".hdr"


def nifti_header(image: AnalyzeImage) -> nibabel.Nifti1Header | None:
    """Returns the header of a NIfTI image; None for Analyze, whose header does not say how voxels are turned."""
    return image.header if isinstance(image, nibabel.Nifti1Pair) else None


def _beside(path: Path, suffixes: tuple[str, ...]) -> Path | None:
    named = (path.with_name(_stem(path) + suffix) for name in suffixes for suffix in (name, name.upper()))
    return next((file for file in named if file.is_file()), None)


def _stem(path: Path) -> str:
    suffix = next(s for s in (*PAIR_SUFFIXES, *VOXEL_SUFFIXES) if path.name.lower().endswith(s))
    return path.name[: -len(suffix)]
