"""statistics/CASE.json and statistics.csv: what was measured of the structures of predicted cases."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medseg.dataset.cases import Case
from medseg.dataset.reading import read_images
from medseg.io.label_map_volume import LabelMapVolume
from medseg.measures.structures import StructureMeasures, measure_structures
from medseg.records import PathInside, Record, read_record, write_record
from medseg.table import write_table
from medseg.version import VERSION
from medseg.volume import GRID_TOLERANCE

STATISTICS = "statistics"  # the folder beside predictions.json, and the name of the table
ADVICE = "run 'medseg predict --statistics --overwrite' again"

UNITS = {"CT": "HU"}  # of the values of a channel with this modality, or this name


class CaseStatistics(Record):
    """What was measured of the structures of one case.

    Attributes:
        case_id: Its name.
        model: The name of the model that drew them.
        medseg: The version that measured.
        measures: Volumes, surfaces, diameters and values.
    """

    case_id: PathInside
    model: str
    medseg: str = VERSION
    measures: StructureMeasures


def measured_case(segmented: LabelMapVolume, case: Case, channels: Sequence[str]) -> StructureMeasures:
    """Measures the structures of a case, and the values of all of its channels in them.

    Args:
        segmented: Its label map; the image of a case with one is read once, for DICOM's reports too.
        case: Its images, which are read again: their own values are measured.
        channels: As the model names them.

    Raises:
        SourceError: An image cannot be read.
    """
    there = [channel for i, channel in enumerate(channels) if i not in case.missing]
    image = segmented.image if len(case.images) == 1 else read_images(case, GRID_TOLERANCE, registered=True)
    names = there if len(there) == len(image.array) else [f"channel_{i}" for i in range(len(image.array))]
    modalities = [source.modality for source in case.images] * (len(image.array) // len(case.images))
    units = [UNITS.get(modality or name, "") for modality, name in zip(modalities, names, strict=True)]
    return measure_structures(segmented.label_map, segmented.labels, image.geometry, image, names, units)


def write_case_statistics(folder: Path, statistics: CaseStatistics) -> Path:
    """Writes ``statistics/CASE.json`` into a folder of masks.

    Raises:
        OutputError: It cannot be written.
    """
    return write_record(folder / STATISTICS / f"{statistics.case_id}.json", statistics)


def write_statistics_table(folder: Path, case_ids: Sequence[str]) -> Path:
    """Writes ``statistics.csv``, a row a case and structure, of the JSON files that lie in a folder of masks.

    Args:
        folder: Of the masks.
        case_ids: Of the cases, in this order.

    Raises:
        SourceError: The file of a case is damaged.
        OutputError: The table cannot be written.
    """
    columns: dict[str, None] = {"case": None}
    rows: list[dict[str, Any]] = []
    for case_id in case_ids:
        measures = read_record(folder / STATISTICS / f"{case_id}.json", CaseStatistics, ADVICE).measures
        columns |= dict.fromkeys(measures.columns)
        rows += [{"case": case_id, **cells} for cells in measures.cells()]
    return write_table(folder / f"{STATISTICS}.csv", list(columns), rows)
