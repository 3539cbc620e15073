"""A page about a mask as a DICOM Encapsulated PDF: picture, measurements, and what made it."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import Dataset, FileDataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from medseg.io.dicom.derived_object import NOT_CLINICAL, DerivedKind, new_object, write_derived
from medseg.io.dicom.source_series import SourceSeries
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.structure_names import dicom_label
from medseg.measures.structures import StructureMeasures, StructureRow
from medseg.version import VERSION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = DerivedKind(EncapsulatedPDFStorage, "page", "DOC", "Page", series_numbers=5000, syntax=ExplicitVRLittleEndian)
A4_INCHES = (8.27, 11.69)
MOST_ROWS = 34  # of the table: what else is there is counted
LONGEST_NAME = 32  # characters
HEADINGS = ("structure", "volume", "longest diameter", "axial", "mean", "deviation")
WIDTHS = (0.31, 0.12, 0.17, 0.19, 0.13, 0.1)
FLAT_HEADINGS = ("structure", "area", "longest diameter", "perimeter", "mean", "deviation")


def write_dicom_pdf(path: Path, segmented: LabelMapVolume) -> list[Path]:
    """Writes one Encapsulated PDF (PS3.3, A.45.1) of a page: the mask over the image in three planes, a table of what
    was measured, the model, the version, the date, and that it is not for clinical use.

    The page names no patient; the file belongs to the patient and the study of its source.

    Args:
        path: The file.
        segmented: The label map with its grid, labels and source.

    Returns:
        The file.

    Raises:
        OutputError: There is no DICOM source, or the file cannot be written.
        SourceError: The source cannot be referred to, or read.
        LabelError: Values are no label's.
    """
    return write_derived(path, segmented, _document)


def _document(segmented: LabelMapVolume, series: SourceSeries) -> FileDataset:
    document = new_object(segmented, series, KIND)
    document.ConversionType, document.BurnedInAnnotation = "WSD", "NO"  # nothing that names a patient
    document.ContentDate, document.ContentTime = document.InstanceCreationDate, document.InstanceCreationTime
    document.AcquisitionDateTime = ""
    document.DocumentTitle = dicom_label(f"Segmentation of {series.name}, {NOT_CLINICAL}")
    document.ConceptNameCodeSequence = []
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.SourceInstanceSequence = [_source(each) for each in series.instances]
    page = _page(
        segmented, series, f"{document.ContentDate[:4]}-{document.ContentDate[4:6]}-{document.ContentDate[6:]}"
    )
    document.EncapsulatedDocument = page + b"\0" * (len(page) % 2)
    document.EncapsulatedDocumentLength = len(page)
    return document


def _source(instance: Dataset) -> Dataset:
    source = Dataset()
    source.ReferencedSOPClassUID = instance.ReferencedSOPClassUID
    source.ReferencedSOPInstanceUID = instance.ReferencedSOPInstanceUID
    return source


def _page(segmented: LabelMapVolume, series: SourceSeries, date: str) -> bytes:
    """Returns the PDF."""
    from matplotlib.figure import Figure  # these take long to import
    from matplotlib.image import imread

    from medseg.pictures.overlay import overlay_figure

    measured = segmented.measures
    figure = Figure(figsize=A4_INCHES, facecolor="white")
    figure.text(0.08, 0.955, f"Segmentation of {dicom_label(series.name)}", size=15, weight="bold", va="top")
    said = f"{segmented.algorithm}, medseg {VERSION}, {date}"
    figure.text(0.08, 0.925, said, size=9, color="0.3", va="top")
    figure.text(
        0.08, 0.905, f"{NOT_CLINICAL.capitalize()}. Made by a program, checked by nobody.", color="#b00", va="top"
    )
    picture = overlay_figure(segmented.image, *segmented.shown)
    stored = io.BytesIO()
    picture.savefig(stored, dpi=150, facecolor=picture.get_facecolor())
    stored.seek(0)
    axes = figure.add_axes((0.08, 0.56, 0.84, 0.32))
    axes.imshow(imread(stored, format="png"))
    axes.set_axis_off()
    _add_table(figure, measured)
    page = io.BytesIO()
    figure.savefig(page, format="pdf", metadata={"Creator": f"medseg {VERSION}", "CreationDate": None})
    return page.getvalue()


def _add_table(figure: "Figure", measured: StructureMeasures) -> None:
    rows = [_cells(row, measured) for row in measured.rows if row.voxels]
    headings = FLAT_HEADINGS if measured.is_flat else HEADINGS
    if not rows:
        figure.text(0.08, 0.52, "No structure was found.", size=10)
        return
    axes = figure.add_axes((0.08, 0.05, 0.84, 0.48))
    axes.set_axis_off()
    table = axes.table(
        [headings, *rows[:MOST_ROWS]], loc="upper left", cellLoc="left", colWidths=WIDTHS, edges="horizontal"
    )
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    absent = [row.name for row in measured.rows if not row.voxels]
    left = [f"{len(rows) - MOST_ROWS} more structures are not listed."] if len(rows) > MOST_ROWS else []
    left += [f"Not found: {', '.join(absent)[:110]}."] if absent else []
    figure.text(0.08, 0.03, " ".join(left), size=8, color="0.3")


def _cells(row: StructureRow, measured: StructureMeasures) -> Sequence[str]:
    values = row.values[0] if len(row.values) == 1 else None
    unit = measured.units[0] if values and measured.units else ""
    in_plane = (
        f"{row.boundary:.1f} mm"
        if measured.is_flat or row.axial_diameter_mm is None or row.axial_width_mm is None
        else f"{row.axial_diameter_mm:.1f} × {row.axial_width_mm:.1f} mm"
    )
    return (
        row.name if len(row.name) <= LONGEST_NAME else f"{row.name[: LONGEST_NAME - 1]}…",
        f"{row.size:.4g} {'mm²' if measured.is_flat else 'ml'}",
        f"{row.longest_diameter_mm:.1f} mm",
        in_plane,
        "" if values is None else f"{values.mean:.4g} {unit}".strip(),
        "" if values is None else f"{values.deviation:.3g}",
    )
