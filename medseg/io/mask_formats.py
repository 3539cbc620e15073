"""Formats of masks, and of what tells of them, and the one way to write one: none stays that no reader confirmed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import ConfigError, OutputError, did_you_mean
from medseg.files import ensure_folder, remove
from medseg.io.certificates.certificate import Certificate
from medseg.io.dicom_pdf.check import check_dicom_pdf
from medseg.io.dicom_pdf.writer import write_dicom_pdf
from medseg.io.dicom_sc.check import check_dicom_sc
from medseg.io.dicom_sc.writer import write_dicom_sc
from medseg.io.dicom_seg.check import check_dicom_label_map, check_dicom_seg, check_dicom_seg_on_grid
from medseg.io.dicom_seg.writer import (
    LABEL_MAP,
    ON_GRID,
    write_dicom_label_map,
    write_dicom_seg,
    write_dicom_seg_on_grid,
)
from medseg.io.dicom_sr.check import check_dicom_sr
from medseg.io.dicom_sr.writer import write_dicom_sr
from medseg.io.folders import REJECTED
from medseg.io.geojson.check import check_geojson
from medseg.io.geojson.writer import write_geojson
from medseg.io.label_map_volume import LabelMapVolume, SegmentationForm
from medseg.io.nifti.check import check_nifti, check_nifti_per_label
from medseg.io.nifti.writer import write_nifti_mask, write_nifti_per_label
from medseg.io.ome_zarr.check import check_ome_zarr
from medseg.io.ome_zarr.writer import write_ome_zarr
from medseg.io.picture.check import check_picture
from medseg.io.picture.writer import write_picture
from medseg.io.rtstruct.check import check_rtstruct
from medseg.io.rtstruct.writer import write_rtstruct
from medseg.io.seg_nrrd.check import check_seg_nrrd
from medseg.io.seg_nrrd.writer import write_seg_nrrd
from medseg.io.source import ImageSource
from medseg.io.surface.check import check_obj, check_stl
from medseg.io.surface.writer import write_obj, write_stl
from medseg.progress import say


@dataclass(frozen=True)
class Format:
    """One way to write a mask. ``check`` reads what ``write`` wrote, and shares no code with it.

    Attributes:
        name: As ``--format`` has it.
        write: Writes a mask to a path and returns the files.
        check: Reads the mask at a path and says whether it is right.
        suffix: Of a mask that is named after its case, a folder's too.
        endings: What the name of a file has to end with; none for a folder with several files.
        on_dicom: Whether it lies on the slices of a DICOM series.
        is_label_map: Whether it is one image of label values; others consist of named structures.
        is_report: Whether it tells of a mask, and is none.
        needs: Names of formats of which one belongs beside it, since it refers to that.

    Example:
        >>> from medseg.io import Format, format_named
        >>> format_: Format = format_named("dicom-seg")
        >>> format_.path(Path("masks"), "ct").as_posix(), format_.on_dicom
        ('masks/ct.seg.dcm', True)
    """

    name: str
    write: Callable[[Path, LabelMapVolume], list[Path]]
    check: Callable[[Path, LabelMapVolume], Certificate]
    suffix: str
    endings: tuple[str, ...] = ()
    on_dicom: bool = False
    is_label_map: bool = False
    is_report: bool = False
    needs: tuple[str, ...] = ()

    @property
    def is_folder(self) -> bool:
        """Whether a mask in this format is a folder of several files, not one file."""
        return not self.endings

    def path(self, folder: Path, name: str) -> Path:
        """Returns the path of a mask in a folder.

        Args:
            folder: Where it is to lie.
            name: Of its case, without a suffix.
        """
        return folder / f"{name}{self.suffix}"

    def refusal(self, source: ImageSource | None) -> str:
        """Returns why no mask of this image can be written in this format; empty when it can."""
        if not self.on_dicom or (source is not None and source.kind == "dicom"):
            return ""
        given = "no image is given" if source is None else f"{source.path} is none"
        to_do = "choose nifti or seg-nrrd, or give the series (predict the series itself, or export with --like SERIES)"
        return f"{self.name} is written on the slices of a DICOM series, and {given}; {to_do}"


NIFTI = Format("nifti", write_nifti_mask, check_nifti, ".nii.gz", (".nii.gz", ".nii"), is_label_map=True)
PNG = Format("png", write_picture, check_picture, ".png", (".png",), is_label_map=True)
GEOJSON = Format("geojson", write_geojson, check_geojson, ".geojson", (".geojson",))  # of pictures only
TIFF = Format("tiff", write_picture, check_picture, ".tif", (".tif", ".tiff"), is_label_map=True)
# Beside FORMATS, each of which says where any grid lies: axes of OME-Zarr are those of the patient.
OME_ZARR = Format("ome-zarr", write_ome_zarr, check_ome_zarr, ".ome.zarr", (".ome.zarr",), is_label_map=True)

SEGMENTATIONS = ("dicom-seg", LABEL_MAP)

FORMATS = {
    each.name: each
    for each in (
        NIFTI,
        Format("nifti-per-label", write_nifti_per_label, check_nifti_per_label, ""),
        Format("seg-nrrd", write_seg_nrrd, check_seg_nrrd, ".seg.nrrd", (".seg.nrrd",)),
        Format("dicom-seg", write_dicom_seg, check_dicom_seg, ".seg.dcm", (".dcm",), on_dicom=True),
        Format(LABEL_MAP, write_dicom_label_map, check_dicom_label_map, ".map.seg.dcm", (".dcm",), on_dicom=True),
        Format(ON_GRID, write_dicom_seg_on_grid, check_dicom_seg_on_grid, ".grid.seg.dcm", (".dcm",), on_dicom=True),
        Format("rtstruct", write_rtstruct, check_rtstruct, ".rtstruct.dcm", (".dcm",), on_dicom=True),
        Format("stl", write_stl, check_stl, "_stl"),
        Format("obj", write_obj, check_obj, "_obj"),
    )
}

# What tells of a mask, and is none: no reader takes it for one.
REPORTS = {
    name: Format(name, write, check, suffix, (".dcm",), on_dicom=True, is_report=True, needs=needs)
    for name, write, check, suffix, needs in (
        ("dicom-sr", write_dicom_sr, check_dicom_sr, ".sr.dcm", SEGMENTATIONS),
        ("dicom-sc", write_dicom_sc, check_dicom_sc, ".sc.dcm", ()),
        ("dicom-pdf", write_dicom_pdf, check_dicom_pdf, ".pdf.dcm", ()),
    )
}

# What a file is called tells its format; where several fit, the first.
BY_ENDING = {
    ending: each for each in (TIFF, PNG, GEOJSON, OME_ZARR, *reversed(FORMATS.values())) for ending in each.endings
}
SURFACES = (".stl", ".obj")  # of which there are several in a folder


@dataclass(frozen=True)
class Written:
    """A mask on disk, and what its reader says of it.

    Attributes:
        format: How it is written.
        path: The file, or the folder with a file for each structure.
        files: All of its files.
        certificate: The verdict.
    """

    format: Format
    path: Path
    files: tuple[Path, ...]
    certificate: Certificate


def format_named(name: str) -> Format:
    """Returns the format of a name, such as ``"nifti"``, ``"dicom-seg"`` or ``"dicom-sr"``.

    Raises:
        ConfigError: There is none of this name.
    """
    known = {**FORMATS, OME_ZARR.name: OME_ZARR, **REPORTS}
    if name not in known:
        raise ConfigError(f"there is no format '{name}'{did_you_mean(name, known)}")
    return known[name]


def formats_named(names: Sequence[str]) -> list[Format]:
    """Returns the formats of names, each once, and before reports the segmentation that they refer to, where no such
    one is named.

    Raises:
        ConfigError: There is none of a name.
    """
    formats = [format_named(name) for name in dict.fromkeys(names)]
    needed = [each.needs[0] for each in formats if each.needs and not set(each.needs) & set(names)]
    for name in dict.fromkeys(needed):
        say(f"{name} is written too: a report refers to its segments")
    return [*map(format_named, dict.fromkeys(needed)), *formats]


def segmentation_form(names: Sequence[str]) -> SegmentationForm:
    """Returns the form of the DICOM SEG that reports refer to, among formats of one mask.

    Args:
        names: Of the formats.
    """
    return "LABELMAP" if LABEL_MAP in names and "dicom-seg" not in names else "BINARY"


def ending_of(path: Path) -> str:
    """Returns what the name of a mask ends with, ``".nii.gz"``; empty for that of a folder."""
    return next((ending for ending in (*BY_ENDING, *SURFACES) if path.name.lower().endswith(ending)), "")


def format_of(path: Path, name: str | None) -> Format:
    """Returns the format that is named, or the one that the file's name says.

    Args:
        path: Where the mask is to be written.
        name: Of the format; None where the file's name decides.

    Raises:
        ConfigError: There is no format of this name.
        OutputError: The file's name tells no format, or fits another one.
    """
    ending = ending_of(path)
    if name is None and ending not in BY_ENDING:
        raise OutputError(f"{path}: does not say what to write; name it {', '.join(BY_ENDING)}, or give --format")
    chosen = BY_ENDING[ending] if name is None else format_named(name)
    if chosen.is_folder and ending and not path.is_dir():
        raise OutputError(f"{path}: {chosen.name} writes several files; give a folder with -o")
    if not chosen.is_folder and ending not in chosen.endings:
        raise OutputError(f"{path}: a file of {chosen.name} is named {' or '.join(chosen.endings)}")
    return chosen


def usual_format(source: ImageSource) -> Format:
    """Returns the format of an image's masks when nobody says one: that of pictures and OME-Zarr, else NIfTI."""
    if source.kind != "image2d":
        return OME_ZARR if source.kind == "ome_zarr" else NIFTI
    return TIFF if source.path.suffix.lower() in TIFF.endings else PNG


def write_mask(format_: Format, path: Path, segmented: LabelMapVolume) -> Written:
    """Writes a mask and has it confirmed by a reader that shares no code with the writer.

    A mask that does not lie right is kept aside, under a name that no reader takes for a mask (``….rejected``).

    Args:
        format_: One of ``FORMATS`` or ``REPORTS``, or what ``usual_format`` gives.
        path: The file; or the folder, for formats of several files.
        segmented: The label map with its grid, labels and source.

    Returns:
        The mask's files and certificate.

    Raises:
        OutputError: It cannot be written in this format, or is not what was to be written.
        LabelError: Values are no label's.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from medseg.io import Geometry, LabelMapVolume, Written, format_named, write_mask
        >>> from medseg.labels import Labels
        >>> grid = Geometry((4, 5, 6), np.diag([-1.0, -1.0, 2.5, 1.0]))
        >>> label_map = np.zeros(grid.shape, np.uint8)
        >>> label_map[1:3, 1:3, 1:3] = 1
        >>> segmented = LabelMapVolume(label_map, grid, Labels.from_names({"liver": 1}))
        >>> written: Written = write_mask(format_named("nifti"), Path("ct.nii.gz"), segmented)
        >>> written.certificate.fault
        ''
    """
    if refusal := format_.refusal(segmented.source):
        raise OutputError(f"{path}: {refusal}")
    if format_.is_folder and not segmented.labels.structures:
        raise OutputError(f"{path}: {format_.name} has a file for each structure, and there is none")
    files = format_.write(path, segmented)
    try:
        certificate, fault, cause = _judged(format_, path, segmented)
    except BaseException:  # an interruption: nobody knows what it is
        _delete(files, path)
        raise
    if certificate is None or fault:
        aside = _kept_aside(files, path)
        raise OutputError(
            f"{path}: is not what was to be written ({fault}); it is kept aside as {aside.name}; choose another format"
        ) from cause
    return Written(format_, path, tuple(files), certificate)


def _judged(format_: Format, path: Path, segmented: LabelMapVolume) -> tuple[Certificate | None, str, Exception | None]:
    """Returns what the reader says, what is wrong with the mask, and why the reader cannot read it, where it cannot."""
    try:
        certificate = format_.check(path, segmented)
        if segmented.slices is not None:
            certificate = certificate.moved(segmented.slices.off_mm(segmented.geometry))
    except Exception as error:  # each reader raises its own kinds
        return None, f"it cannot be read back ({type(error).__name__}: {error})", error
    return certificate, f"{certificate.reader} reads it, and {certificate.fault}" if certificate.fault else "", None


def _kept_aside(files: Sequence[Path], path: Path) -> Path:
    """Renames a mask to ``case.nii.gz.rejected``, or moves its files into a folder of that name."""
    aside = path.with_name(path.name + REJECTED)
    if path not in files:
        ensure_folder(aside)
    for file in files:
        file.replace(aside if file == path else aside / file.name)
    _delete((), path)
    return aside


def _delete(files: Sequence[Path], path: Path) -> None:
    for file in files:
        remove(file)
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
