"""Services and archives for tests of what happens beside a PACS: medseg's own, and Debian's Orthanc."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
import torch
from model_records import record_of
from pydicom import Dataset
from pynetdicom import AE, build_context
from serving import served

from medseg.device import choose_device
from medseg.inferers.model import Model
from medseg.pacs.service import DicomService, running_service
from medseg.pacs.settings import DicomSettings, changed_settings
from medseg.plan import Plan
from medseg.serve.models import ServedModel

DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


class Bright500(torch.nn.Module):
    """A network of one label: what is brighter than 500."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([500 - image, image - 500], 1)


def bright_model(folder: Path, plan: Plan, name: str = "balls", channels: Sequence[str] = ("CT",)) -> ServedModel:
    """A model that finds the balls of ``dicom_kinds``, on the grid of the source."""
    grid = plan.grid.model_copy(update={"orientation": "stored", "own_spacing": (0, 1, 2), "crop_to_nonzero": False})
    record = record_of(plan.model_copy(update={"grid": grid}), {"ball": 1}, channels)
    return served(Model(folder / name, record, Bright500(), choose_device("cpu")), name, folder)


@contextmanager
def service_of(folder: Path, models: Sequence[ServedModel], **settings: Any) -> Iterator[DicomService]:
    """A service at a free port of this machine, with a queue in a folder."""
    usual = {"port": 0, "queue": folder / "queue", "quiet_time": 0.3, "least_free": 1, "first_wait": 0.2}
    known = changed_settings(DicomSettings(), {**usual, **settings}).checked(tuple(each.name for each in models), True)
    with running_service({each.name: each for each in models}, known) as service:
        yield service


def store(port: int, files: Sequence[Path | Dataset], title: str = "SENDER", patience: float = 60) -> list[int]:
    """Sends files by C-STORE, and returns the status of each; none where the association is refused.

    ``patience``: seconds that an answer may take.
    """
    datasets = [each if isinstance(each, Dataset) else pydicom.dcmread(each) for each in files]
    asked = {(each.SOPClassUID, each.file_meta.TransferSyntaxUID) for each in datasets}
    ae = AE(ae_title=title)
    ae.dimse_timeout = patience
    association = ae.associate("127.0.0.1", port, [build_context(*each) for each in asked], ae_title="MEDSEG")
    if not association.is_established:
        return []
    statuses = [association.send_c_store(each) for each in datasets]
    association.release()
    return [int(each.Status) if "Status" in each else -1 for each in statuses]


def wait_for(done: Callable[[], object], seconds: float = 60) -> None:
    """Waits until something is so."""
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


class Orthanc:
    """An Orthanc that runs: its ports, and what it holds."""

    def __init__(self, port: int, dicom_port: int) -> None:
        self.port, self.dicom_port = port, dicom_port
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)

    @property
    def destination(self) -> str:
        return f"ORTHANC@127.0.0.1:{self.dicom_port}"

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def instances(self, **query: str) -> list[dict[str, Any]]:
        asked = {"Level": "Instance", "Query": query, "Expand": True}
        return list(self.http.post("/tools/find", json=asked).json())

    def only_segmentation(self, folder: Path) -> Dataset:
        """Returns the one SEG that it has."""
        (instance,) = [each["ID"] for each in self.instances(Modality="SEG")]
        path = folder / f"{instance}.dcm"
        path.write_bytes(self.http.get(f"/instances/{instance}/file").content)
        return pydicom.dcmread(path)


@contextmanager
def running_orthanc(folder: Path, modalities: dict[str, tuple[str, int]] | None = None) -> Iterator[Orthanc]:
    """Runs Orthanc with its storage in a folder; skips the test where there is none."""
    program = shutil.which("Orthanc")
    if program is None or not DICOMWEB_PLUGIN.exists():
        pytest.skip("needs Debian's orthanc and orthanc-dicomweb")
    folder.mkdir(parents=True)
    port, dicom_port = free_port(), free_port()
    known = {name: [title, "127.0.0.1", there] for name, (title, there) in (modalities or {}).items()}
    content = {
        "Name": "archive", "HttpPort": port, "DicomPort": dicom_port, "DicomAet": "ORTHANC", "StableAge": 1,
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "AuthenticationEnabled": False,
        "DicomModalities": known, "Plugins": [str(DICOMWEB_PLUGIN)], "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True, "DicomAlwaysAllowMove": True,
        "DicomCheckCalledAet": False, "OverwriteInstances": True,
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(content))
    process = subprocess.Popen([program, str(folder / "orthanc.json")], stderr=(folder / "log").open("w"))
    orthanc = Orthanc(port, dicom_port)

    def answers() -> bool:
        try:
            return orthanc.http.get("/system").status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_for(answers, 30)
        yield orthanc
    finally:
        process.terminate()
        process.wait()
