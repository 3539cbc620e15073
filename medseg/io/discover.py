"""Which images a folder holds."""

from pathlib import Path

from medseg.errors import SourceError
from medseg.io.dicom import find_series, series_among
from medseg.io.folders import files_under, is_nifti, is_picture
from medseg.io.source import Found, ImageSource


def image_sources(path: Path) -> Found:
    """Every NIfTI file, DICOM series and 2D image under a folder, or the one that ``path`` names; nothing
    is read but DICOM headers. Raises ``SourceError`` when there is no such file or folder."""
    if not path.exists():
        raise SourceError(f"{path}: there is no such file or folder")
    if path.is_file():
        return Found((_file_source(path),)) if is_nifti(path) or is_picture(path) else find_series(path)
    files = files_under(path)
    series = series_among(files)
    single = [_file_source(file) for file in files if is_nifti(file) or is_picture(file)]
    sources = sorted([*single, *series.sources], key=lambda source: (source.path, source.files))
    return Found(tuple(sources), series.problems, series.notes)


def source_of(path: Path) -> ImageSource:
    """The one image at ``path``: a NIfTI file, a picture, a folder with one DICOM series (or one other
    image), or a file of a DICOM series, which stands for the whole series in its folder.

    Raises ``SourceError`` when there is none, or more than one.
    """
    sources, problems, notes, _ = image_sources(path)
    series = [source for source in sources if source.kind == "dicom"]
    candidates = series or sources
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        listed = "; ".join(_described(source, path) for source in candidates[:6])
        more = f"; and {len(candidates) - 6} more" if len(candidates) > 6 else ""
        raise SourceError(f"{path}: holds {len(candidates)} images, name one of them: {listed}{more}")
    reasons = [problem.message for problem in problems] + list(notes)
    because = reasons[0] if reasons else "no NIfTI file (.nii, .nii.gz), DICOM series, PNG, JPEG or TIFF"
    raise SourceError(f"{path}: no image found ({because})")


def _file_source(path: Path) -> ImageSource:
    return ImageSource(kind="nifti" if is_nifti(path) else "image2d", path=path, files=(path,))


def _described(source: ImageSource, below: Path) -> str:
    path = source.path.relative_to(below) if source.path.is_relative_to(below) else source.path
    if source.kind != "dicom":
        return str(path)
    slices = f"{len(source.files)} slices, such as {source.files[0].name}"
    return f"{path} ({source.modality} '{source.description}', {slices})"
