"""DICOM Encapsulated PDFs read back through pydicom: whose they are, and that the document is whole."""

from collections.abc import Iterator
from pathlib import Path

import pydicom
from pydicom import Dataset, config, dcmread

from medseg.io.certificates.certificate import Certificate
from medseg.io.certificates.dicom import slices_of_source
from medseg.io.label_map_volume import LabelMapVolume
from medseg.volume import GRID_TOLERANCE


def check_dicom_pdf(path: Path, segmented: LabelMapVolume) -> Certificate:
    """Reads an Encapsulated PDF back: it is a whole PDF of one page, about all images of the source.

    Args:
        path: The file.
        segmented: What it is about.

    Raises:
        ValueError: The source does not say where it lies.
    """
    with config.disable_value_validation():
        remarks = list(_wrong(dcmread(path), segmented))
    tolerance = GRID_TOLERANCE * min(segmented.geometry.spacing)
    return Certificate(f"pydicom {pydicom.__version__}", 0, 0, 0.0, tolerance, remark="; ".join(remarks))


def _wrong(document: Dataset, segmented: LabelMapVolume) -> Iterator[str]:
    length = int(document.EncapsulatedDocumentLength)
    content = bytes(document.EncapsulatedDocument)[:length]
    if not content.startswith(b"%PDF-") or not content.rstrip().endswith(b"%%EOF"):
        yield "its document is no whole PDF"
    if content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") != 1:
        yield "its document has not one page"
    named = {str(each.ReferencedSOPInstanceUID) for each in document.SourceInstanceSequence}
    if {slice_.uid for slice_ in slices_of_source(segmented).slices} - named:
        yield "it does not name all images of the source"
