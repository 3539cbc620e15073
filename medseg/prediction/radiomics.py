"""radiomics/CASE.csv and radiomics.csv: radiomics features of the structures of predicted cases, by MIRP."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from medseg.errors import reason_of
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.nifti.writer import write_nifti
from medseg.progress import warn
from medseg.structures import Region
from medseg.table import read_table, write_table

RADIOMICS = "radiomics"  # the folder beside predictions.json, and the name of the table
ADVICE = "run 'medseg predict --radiomics --overwrite' again"

# How grey levels are made for textures: bins of 25 HU in CT, else 32 bins between the extremes of the structure.
BIN_WIDTH_HU = 25.0
N_BINS = 32
MODALITIES = {"CT": "ct", "MR": "mr", "PT": "pet"}  # DICOM's, and MIRP's; of others it assumes nothing
NO_FEATURES = ("sample_name", "image_")  # what columns of MIRP begin with that tell of files and settings

Features = dict[str, Any]


def case_radiomics(segmented: LabelMapVolume, channel: str) -> list[Features]:
    """Returns a row for each structure that is there: its name, and its features as MIRP calls them.

    Those are the features of the Image Biomarker Standardisation Initiative: shape, intensity, textures. The image is
    neither resampled nor filtered; of several channels the first is taken.

    Args:
        segmented: The label map with its image.
        channel: Name of its first channel, which tells the modality where the image does not.

    Raises:
        SourceError: The image cannot be read.

    Source: Zwanenburg et al. 2020, The Image Biomarker Standardization Initiative, Radiology; Zwanenburg and Löck 2024,
        MIRP, Journal of Open Source Software.
    """
    modality = (segmented.source.modality if segmented.source is not None else "") or channel.upper()
    rows = []
    with TemporaryDirectory() as folder:
        image = Path(folder) / "image.nii.gz"
        write_nifti(image, segmented.image.array[0], segmented.image.geometry)
        for structure in segmented.labels.structures:
            mask = segmented.mask(structure)
            if mask.any():
                path = Path(folder) / "mask.nii.gz"
                write_nifti(path, mask.astype(np.uint8), segmented.image.geometry)
                rows.append({"structure": structure.name, **_features(image, path, structure, modality)})
    return rows


def _features(image: Path, mask: Path, structure: Region, modality: str) -> Features:
    from mirp import extract_features

    how: Features = {"base_discretisation_method": "fixed_bin_number", "base_discretisation_n_bins": N_BINS}
    if modality == "CT":
        how = {"base_discretisation_method": "fixed_bin_size", "base_discretisation_bin_width": BIN_WIDTH_HU}
    if modality in MODALITIES:
        how["image_modality"] = MODALITIES[modality]
    try:
        with _log_of_its_own():
            (table,) = extract_features(
                image=str(image),
                mask=str(mask),
                write_features=False,
                export_features=True,
                **how,
            )
    except Exception as error:  # MIRP raises many kinds on structures that are too small
        warn(f"{structure.name}: MIRP computes no radiomics features of it ({reason_of(error)})")
        return {}
    found = table.iloc[0].to_dict()
    return {name: value for name, value in found.items() if not name.startswith(NO_FEATURES) and value == value}


@contextmanager
def _log_of_its_own() -> Iterator[None]:
    """Keeps MIRP from writing its log to where medseg prints: it does so where the root logger has no handler."""
    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)
    try:
        yield
    finally:
        root.removeHandler(silent)


def write_case_radiomics(folder: Path, case_id: str, rows: Sequence[Features]) -> Path:
    """Writes ``radiomics/CASE.csv`` into a folder of masks.

    Raises:
        OutputError: It cannot be written.
    """
    columns = dict.fromkeys(["structure", *(name for row in rows for name in row)])
    return write_table(folder / RADIOMICS / f"{case_id}.csv", list(columns), rows)


def write_radiomics_table(folder: Path, case_ids: Sequence[str]) -> Path:
    """Writes ``radiomics.csv``, a row a case and structure, of the tables that lie in a folder of masks.

    Args:
        folder: Of the masks.
        case_ids: Of the cases, in this order.

    Raises:
        SourceError: The table of a case is damaged.
        OutputError: The table cannot be written.
    """
    rows = [
        {"case": case_id, **row}
        for case_id in case_ids
        for row in read_table(folder / RADIOMICS / f"{case_id}.csv", ADVICE)
    ]
    columns = dict.fromkeys(["case", "structure", *(name for row in rows for name in row)])
    return write_table(folder / f"{RADIOMICS}.csv", list(columns), rows)
