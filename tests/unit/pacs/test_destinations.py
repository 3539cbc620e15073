"""Files sent to a destination: what it says of each."""

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from dicom_kinds import Kind, write_kind
from pydicom.uid import CTImageStorage
from pynetdicom import AE, evt

from medseg.io.dicom.segmentation_objects import LABEL_MAP_STORAGE
from medseg.pacs.destinations import send_files
from medseg.pacs.peers import Peer


@pytest.fixture
def address() -> Iterator[str]:
    """An archive that stores CT, and nothing else."""
    ae = AE("CT_ONLY")
    ae.add_supported_context(CTImageStorage)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: 0x0000)])
    yield f"CT_ONLY@127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def label_map(folder: Path, like: Path) -> Path:
    header = pydicom.dcmread(like)
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = LABEL_MAP_STORAGE
    header.save_as(folder / "label_map.dcm")
    return folder / "label_map.dcm"


@pytest.mark.parametrize("beside", [True, False], ids=["beside what is taken", "alone"])
def test_what_an_archive_has_no_class_for_is_named(tmp_path: Path, address: str, beside: bool) -> None:
    slices = sorted(write_kind(tmp_path / "ct", Kind(heights=(0.0, 1.0))).iterdir())
    odd = label_map(tmp_path, slices[0])
    answers = send_files(Peer.of(address), [*slices * beside, odd])
    assert [answer.failure for answer in answers[:-1]] == [""] * len(slices) * beside
    assert answers[-1].failure.endswith("accepts no Label Map Segmentation Storage")
