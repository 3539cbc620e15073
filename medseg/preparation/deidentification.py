"""Copies of DICOM files without what tells whose they are, and the key that alone leads back."""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field
from pydicom import Dataset, config, dcmread

from medseg.errors import ConfigError, MedsegError, Problem, SourceError, reading
from medseg.extras import check_installed
from medseg.files import written_whole
from medseg.io.archives import contents, is_archive, unpacked
from medseg.io.dicom.files import read_headers
from medseg.io.dicom.header import FileHeader
from medseg.progress import counted, say, warn
from medseg.records import Record, read_record, write_record

ADVICE = "give the key file of the first call, or a new name"
SECRET_BYTES = 32
BURNED_IN = "with text in its pixels, by its header"


class DeidentificationKey(Record):
    """The key by which names and UIDs were replaced. Who has it can tell whose data they are: keep it apart.

    Attributes:
        secret: New UIDs are made with it, in hexadecimal; the same UID gets the same new one.
        patients: The new PatientID by the older one.
        studies: The new StudyInstanceUID by the older one.
    """

    secret: str = Field(pattern="^[0-9a-f]{64}$")
    patients: dict[str, str] = Field(default_factory=dict)
    studies: dict[str, str] = Field(default_factory=dict)

    def new_uid(self, uid: str) -> str:
        """Returns the UID that takes the place of another (PS3.5, B.2: of a UUID, here of version 8)."""
        digest = bytearray(hmac.digest(bytes.fromhex(self.secret), uid.encode(), hashlib.sha256)[:16])
        digest[6], digest[8] = digest[6] & 0x0F | 0x80, digest[8] & 0x3F | 0x80
        return f"2.25.{int.from_bytes(bytes(digest))}"

    def new_patient(self, patient: str) -> str:
        """Returns the new PatientID of a patient: numbers tell nothing, and keep cases of one together."""
        return self.patients.setdefault(patient, f"P{len(self.patients) + 1:04d}")


def read_or_begin_key(path: Path, output: Path) -> DeidentificationKey:
    """Returns the key of a file, or a new one where there is no such file.

    Args:
        path: The file.
        output: The folder of the data, which it may not lie in.

    Raises:
        ConfigError: It lies with the data, or is no key.
    """
    if path.resolve().is_relative_to(output.resolve()):
        raise ConfigError(f"{path}: the key would lie with the data, and tell whose they are; put it elsewhere")
    if path.exists():
        return read_record(path, DeidentificationKey, ADVICE, ConfigError)
    return DeidentificationKey(secret=secrets.token_hex(SECRET_BYTES))


def write_key(path: Path, key: DeidentificationKey) -> Path:
    """Writes a key into a file that only its owner can read, and returns the path.

    Raises:
        OutputError: It cannot be written.
    """
    before = os.umask(0o077)
    try:
        return write_record(path, key)
    finally:
        os.umask(before)


def deidentified_copy(source: Path, folder: Path, key_file: Path) -> list[Problem]:
    """Copies all DICOM files of a source into a folder, without what tells whose they are.

    Files are named by their new UIDs, ``PATIENT/STUDY/MODALITY_SERIES/INSTANCE.dcm``. What cannot be made safe is left
    out.

    Args:
        source: A folder, an archive, or a file.
        folder: Where the copies go.
        key_file: Of the key: read where it is there, written at the end.

    Returns:
        What was left out: no DICOM, damaged, or with text burned into its pixels.

    Raises:
        ConfigError: The key cannot be used, or dicom-anonymizer is not installed.
        SourceError: There is no DICOM file.
    """
    check_installed("--deidentify", "deidentify")
    key = read_or_begin_key(key_file, folder.parent)
    files = _files(source)
    headers, problems = read_headers(files)
    if not headers:
        raise SourceError(f"{source}: holds no DICOM file; only DICOM can be de-identified")
    damaged = {problem.path for problem in problems}
    known = {header.path for header in headers} | damaged
    left_out = {"no DICOM": [file for file in files if file not in known], "damaged": sorted(damaged), BURNED_IN: []}
    write_key(key_file, key)  # before any data: that it can be written
    n_written = 0
    try:
        for header in headers:
            try:
                kind = _copied(header, folder, key)
            except MedsegError as error:
                warn(f"{error}; left out")
                kind = "damaged"
            if kind:
                left_out[kind].append(header.path)
            else:
                n_written += 1
    finally:
        write_key(key_file, key)
    if not n_written:
        raise SourceError(f"{source}: no DICOM file could be de-identified, see above")
    say(f"{counted(n_written, 'DICOM file')} of {counted(len(key.patients), 'patient')} de-identified; key: {key_file}")
    return [_problem(kind, paths, folder) for kind, paths in left_out.items() if paths]


def _problem(kind: str, paths: Sequence[Path], folder: Path) -> Problem:
    """Tells the user which files are left out; the problem, which lies with the data, does not name them."""
    for path in paths:
        warn(f"{path}: {kind}; left out")
    return Problem("", folder, f"{counted(len(paths), 'file')} of the source left out: {kind}")


def _files(source: Path) -> Sequence[Path]:
    if source.is_file() and not is_archive(source):
        return [source]
    files, _, _ = contents(unpacked(source) if source.is_file() else source)
    return files


def _copied(header: FileHeader, folder: Path, key: DeidentificationKey) -> str:
    """Writes the copy of a file, or returns why it is left out."""
    from medseg.io.dicom.basic_profile import deidentify

    with config.disable_value_validation():
        if header.text("BurnedInAnnotation").upper() == "YES":
            return BURNED_IN
        with reading(header.path, "DICOM"):
            dataset = dcmread(header.path, force=True)
            _check(header, dataset)
            study = str(dataset.StudyInstanceUID)
            patient = key.new_patient(str(dataset.get("PatientID") or "") or study)
            deidentify(dataset, patient, key.new_uid)
            key.studies.setdefault(study, key.new_uid(study))
            modality = re.sub(r"\W", "", str(dataset.get("Modality") or "")) or "OT"
            place = folder / patient / str(dataset.StudyInstanceUID) / f"{modality}_{dataset.SeriesInstanceUID}"
            with written_whole(place / f"{dataset.SOPInstanceUID}.dcm") as temporary:
                dataset.save_as(temporary, enforce_file_format=True)
    return ""


def _check(header: FileHeader, dataset: Dataset) -> None:
    """Checks that an object has the UIDs by which its copy is named.

    Raises:
        SourceError: One is missing.
    """
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if not dataset.get(keyword):
            raise SourceError(f"{header.path}: has no {keyword}")
