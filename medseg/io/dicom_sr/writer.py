"""What was measured of a mask as a DICOM structured report, TID 1500, through highdicom."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import Dataset

from medseg.io.dicom.derived_object import NOT_CLINICAL, concept, series_description, write_derived
from medseg.io.dicom.segmentation_objects import LABEL_MAP_STORAGE
from medseg.io.dicom.source_series import CHARACTER_SET, SourceSeries, derived_uid, mask_digest
from medseg.io.dicom_seg.writer import segmentation_uids
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.structure_names import dicom_label, storable_text
from medseg.measures.structures import MM3_IN_ML, StructureRow
from medseg.structures import Region
from medseg.terminology import CATEGORIES, SIDES, Code
from medseg.version import VERSION

if TYPE_CHECKING:  # takes long to import, and few masks are written as DICOM
    from highdicom.sr import (
        Comprehensive3DSR,
        Measurement,
        ObserverContext,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )

SERIES_NUMBERS = 3000  # a report's series has this number and that of its source

SEGMENTATION_STORAGE = {"BINARY": "1.2.840.10008.5.1.4.1.1.66.4", "LABELMAP": LABEL_MAP_STORAGE}

# DICOM PS3.16, CID 7469 and 7470
VOLUME = Code(scheme="SCT", value="118565006", meaning="Volume")
AREA = Code(scheme="SCT", value="42798000", meaning="Area")
DIAMETER = Code(scheme="SCT", value="81827009", meaning="Diameter")
LONG_AXIS = Code(scheme="SCT", value="103339001", meaning="Long axis")
SHORT_AXIS = Code(scheme="SCT", value="103340004", meaning="Short axis")

# CID 7464
DERIVATIONS = {
    "mean": Code(scheme="SCT", value="373098007", meaning="Mean"),
    "deviation": Code(scheme="SCT", value="386136009", meaning="Standard Deviation"),
    "minimum": Code(scheme="SCT", value="255605001", meaning="Minimum"),
    "median": Code(scheme="SCT", value="373099004", meaning="Median"),
    "maximum": Code(scheme="SCT", value="56851009", meaning="Maximum"),
}

MM = Code(scheme="UCUM", value="mm", meaning="millimeter")
MM2 = Code(scheme="UCUM", value="mm2", meaning="square millimeter")
MM3 = Code(scheme="UCUM", value="mm3", meaning="cubic millimeter")

# CID 7180: what values are, and their unit, by Modality; of PET where Units is BQML.
INTENSITIES = {
    "CT": (
        Code(scheme="DCM", value="112031", meaning="Attenuation Coefficient"),
        Code(scheme="UCUM", value="[hnsf'U]", meaning="Hounsfield unit"),
    ),
    "MR": (
        Code(scheme="DCM", value="110852", meaning="MR signal intensity"),
        Code(scheme="UCUM", value="1", meaning="no units"),
    ),
    "PT": (
        Code(scheme="DCM", value="110821", meaning="Nuclear Medicine Tomographic Activity"),
        Code(scheme="UCUM", value="Bq/ml", meaning="Becquerels/milliliter"),
    ),
}


def write_dicom_sr(path: Path, segmented: LabelMapVolume) -> list[Path]:
    """Writes one Comprehensive 3D SR (PS3.3, A.35.13) by the template TID 1500 (PS3.16), with a group for each label
    and region (TID 1411).

    Each has its code, the segment that it is about, its volume (in an image of one slice its area), its longest
    diameter, long and short axis in an axial slice, and what the values of CT, MR, and PET in Bq/ml are in it. The
    segment is that of the DICOM SEG of the same mask, whose UIDs follow from it: ``segmented.segmentation`` says of
    which form. The report is preliminary, and nobody has verified it. A structure that is nowhere has a volume of 0.

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
    return write_derived(path, segmented, _report)


def _report(segmented: LabelMapVolume, series: SourceSeries) -> "Comprehensive3DSR":
    from highdicom.sr import Comprehensive3DSR, MeasurementReport, ObservationContext
    from pydicom.sr.codedict import codes

    content = mask_digest(segmented, series)
    form = segmented.segmentation
    uid, series_uid = segmentation_uids(segmented, series, form)
    segmentation = _evidence(series, series_uid, SEGMENTATION_STORAGE[form], uid)
    images = [
        _evidence(series, series.uid, each.ReferencedSOPClassUID, each.ReferencedSOPInstanceUID)
        for each in series.instances
    ]
    measured = segmented.measures.rows
    groups = [
        _group(number, structure, row, segmentation, segmented, series)
        for number, (structure, row) in enumerate(zip(segmented.labels.structures, measured, strict=True), start=1)
    ]
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(segmented)),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=groups,
    )
    document = Comprehensive3DSR(
        evidence=[segmentation, *images],
        content=report[0],
        series_instance_uid=derived_uid(content, form, "report series"),
        series_number=SERIES_NUMBERS + series.number,
        sop_instance_uid=derived_uid(content, form, "report"),
        instance_number=1,
        manufacturer="medseg",
        is_complete=True,
        is_final=False,
        specific_character_set=CHARACTER_SET,
    )
    document.SeriesDescription = series_description("Measurements", series)
    document.ManufacturerModelName, document.SoftwareVersions = dicom_label(segmented.algorithm), VERSION
    return document


def _observer(segmented: LabelMapVolume) -> "ObserverContext":
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext
    from pydicom.sr.codedict import codes

    device = DeviceObserverIdentifyingAttributes(
        uid=derived_uid("medseg", VERSION, segmented.algorithm),
        name=f"medseg {VERSION} ({NOT_CLINICAL})",
        manufacturer_name="medseg",
        model_name=dicom_label(segmented.algorithm),
    )
    return ObserverContext(observer_type=codes.cid270.Device, observer_identifying_attributes=device)


def _evidence(series: SourceSeries, series_uid: str, class_uid: str, uid: str) -> Dataset:
    """Returns what a report takes of an object that it refers to."""
    evidence = Dataset()
    evidence.update(series.patient_and_study)
    evidence.SeriesInstanceUID, evidence.SOPClassUID, evidence.SOPInstanceUID = series_uid, class_uid, uid
    return evidence


def _group(
    number: int,
    structure: Region,
    row: StructureRow,
    segmentation: Dataset,
    segmented: LabelMapVolume,
    series: SourceSeries,
) -> "VolumetricROIMeasurementsAndQualitativeEvaluations":
    from highdicom.sr import (
        AlgorithmIdentification,
        FindingSite,
        ReferencedSegment,
        SourceSeriesForSegmentation,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )

    coding = structure.coding
    sites = []
    if coding.category == CATEGORIES["anatomical"]:
        side = coding.modifier if coding.modifier in SIDES.values() else None
        place = None if coding.modifier is None or side is not None else concept(coding.modifier)
        sites = [FindingSite(concept(coding.type), None if side is None else concept(side), place)]
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=derived_uid(mask_digest(segmented, series), "segment", str(number)),
            identifier=storable_text(structure.name).strip() or "unnamed",
        ),
        referenced_segment=ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=number,
            source_series=SourceSeriesForSegmentation(series.uid),
        ),
        finding_category=concept(coding.category),
        finding_type=concept(coding.type),
        finding_sites=sites or None,
        algorithm_id=AlgorithmIdentification(name=dicom_label(segmented.algorithm), version=VERSION),
        measurements=list(_measurements(row, series, segmented.measures.is_flat)),
    )


def _measurements(row: StructureRow, series: SourceSeries, is_flat: bool) -> Iterator["Measurement"]:
    if is_flat:
        yield _measurement(AREA, row.size, MM2)
    else:
        yield _measurement(VOLUME, row.size * MM3_IN_ML, MM3)
    if not row.voxels:
        return
    yield _measurement(DIAMETER, row.longest_diameter_mm, MM, DERIVATIONS["maximum"])
    for name, length in ((LONG_AXIS, row.axial_diameter_mm), (SHORT_AXIS, row.axial_width_mm)):
        if length is not None:
            yield _measurement(name, length, MM)
    modality = str(series.header.get("Modality") or "")
    is_known = modality in INTENSITIES and (modality != "PT" or series.header.get("Units") == "BQML")
    if is_known and len(row.values) == 1:
        name, unit = INTENSITIES[modality]
        for what, derivation in DERIVATIONS.items():
            yield _measurement(name, getattr(row.values[0], what), unit, derivation)


def _measurement(name: Code, value: float, unit: Code, derivation: Code | None = None) -> "Measurement":
    """Returns a value as highdicom has it, with as many digits as DICOM's 16 characters hold (DS)."""
    from highdicom.sr import Measurement

    digits, how = float(f"{value:.9g}"), None if derivation is None else concept(derivation)
    return Measurement(concept(name), digits, concept(unit), derivation=how)
