"""medseg beside real archives and senders: Debian's Orthanc and dcmtk; kills at random moments; TLS."""

import multiprocessing
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
from archives import Orthanc, bright_model, free_port, running_orthanc, service_of, store, wait_for
from dicom_kinds import KINDS, Kind, write_kind
from dicomweb_client import DICOMwebClient
from highdicom.seg import segread
from model_records import record_of
from pydicom.uid import generate_uid

import medseg
from medseg.dataset.cases import Case
from medseg.errors import SourceError
from medseg.inferers.model import save_model
from medseg.io.discover import source_of
from medseg.io.mask_formats import format_named
from medseg.networks.registry import build_network
from medseg.pacs.destinations import send_files
from medseg.pacs.peers import Peer
from medseg.plan import Plan
from medseg.prediction.case_predictor import CasePredictor, PredictionOptions
from medseg.serve.models import ServedModel

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("MEDSEG_KILLS", "6"))


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path / "orthanc") as running:
        yield running


@pytest.fixture
def run(tmp_path: Path, tiny_plan: Plan) -> Path:
    """A model on the disk that learnt nothing, but says something."""
    record = record_of(tiny_plan, {"liver": 1}, ("CT",))
    save_model(tmp_path / "run" / "model", record, build_network(1, 2, tiny_plan.architecture).state_dict())
    return tmp_path / "run"


@contextmanager
def serving(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Runs ``medseg serve`` in a process of its own."""
    command = [sys.executable, "-m", "medseg", "serve", *map(str, arguments), "--port", "0", "--device", "cpu"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    try:
        for line in server.stderr or ():
            said.append(line)
            if re.search(r"https?://\S+/", line):
                break
        else:
            pytest.fail("".join(said))
        threading.Thread(target=(server.stderr or sys.stderr).read, daemon=True).start()
        yield server
    finally:
        server.kill()
        server.wait()


def test_dcmsend_to_orthanc_as_predict_says(tmp_path: Path, orthanc: Orthanc, run: Path) -> None:
    """And a second SIGTERM is not needed: the first one finishes what is under way."""
    if shutil.which("dcmsend") is None:
        pytest.skip("needs Debian's dcmtk")
    study = write_kind(tmp_path / "study", KINDS["oblique"])
    port = free_port()
    options = (
        "--dicom", port, "--model", f"liver={run}", "--send", orthanc.destination, "--send", orthanc.web,
        "--queue", tmp_path / "queue", "--quiet-time", "1s", "--format", "dicom-seg", "--format", "rtstruct",
    )  # fmt: skip
    with serving(*options) as server:
        subprocess.run(["echoscu", "-aec", "MEDSEG", "127.0.0.1", str(port)], check=True)
        subprocess.run(["dcmsend", "--scan-directories", "127.0.0.1", str(port), str(study)], check=True)
        wait_for(lambda: len(orthanc.instances(Modality="SEG")) and len(orthanc.instances(Modality="RTSTRUCT")), 120)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    assert len(orthanc.instances()) == 2  # by C-STORE and by STOW-RS, once each
    uid = str(pydicom.dcmread(next(study.iterdir())).StudyInstanceUID)
    client = DICOMwebClient(orthanc.web)
    found = {each.Modality: each for each in client.retrieve_study(uid)}
    found["SEG"].save_as(tmp_path / "found.dcm", enforce_file_format=True)
    medseg.predict(run, study, tmp_path / "masks", formats=["dicom-seg"], device="cpu")
    (predicted,) = (tmp_path / "masks").glob("*.seg.dcm")
    of_predict, of_archive = segread(predicted), segread(tmp_path / "found.dcm")
    assert np.array_equal(of_predict.pixel_array, of_archive.pixel_array)
    assert of_archive.pixel_array.any()
    assert (
        found["SEG"].ReferencedSeriesSequence[0].SeriesInstanceUID
        == pydicom.dcmread(next(study.iterdir())).SeriesInstanceUID
    )


def test_fetch_from_orthanc(tmp_path: Path, tiny_plan: Plan) -> None:
    """By QIDO and WADO, C-GET and C-MOVE: the same objects, and nothing twice."""
    port = free_port()
    with running_orthanc(tmp_path / "orthanc", {"me": ("MEDSEG", port)}) as orthanc:
        files = [
            file for name in ("CT", "JPEG 2000", "enhanced")
            for file in write_kind(tmp_path / name, KINDS[name], StudyInstanceUID="1.2.3", PatientID="P1").iterdir()
        ]  # fmt: skip
        assert set(store(orthanc.dicom_port, files)) == {0}
        ways = {
            "web": (f"dicomweb+{orthanc.web}/studies/1.2.3", {}),
            "query": (f"dicomweb+{orthanc.web}?PatientID=P1", {}),
            "get": (f"dicom://ORTHANC@127.0.0.1:{orthanc.dicom_port}/studies/1.2.3", {}),
            "move": (f"dicom://ORTHANC@127.0.0.1:{orthanc.dicom_port}?PatientID=P1", {"move_port": port}),
        }
        for name, (address, more) in ways.items():
            fetched = medseg.fetch(address, tmp_path / "fetched" / name, **more)  # type: ignore[arg-type]
            assert (fetched.n_new, fetched.problems) == (len(files), ()), name
            there = sorted((tmp_path / "fetched" / name).rglob("*.dcm"))
            some = there[0]
            some.unlink()
            assert medseg.fetch(address, tmp_path / "fetched" / name, **more).n_new == 1  # type: ignore[arg-type]
            uids = {pydicom.dcmread(file).SOPInstanceUID: pydicom.dcmread(file).PixelData for file in files}
            assert {pydicom.dcmread(f).SOPInstanceUID: pydicom.dcmread(f).PixelData for f in there} == uids, name
        with pytest.raises(SourceError, match="no such study"):
            medseg.fetch(f"dicom://ORTHANC@127.0.0.1:{orthanc.dicom_port}?PatientID=nobody", tmp_path / "none")


def test_a_study_is_complete_when_the_archive_says_so(tmp_path: Path, orthanc: Orthanc, tiny_plan: Plan) -> None:
    files = sorted(write_kind(tmp_path / "ct", KINDS["CT"]).iterdir())
    store(orthanc.dicom_port, files)
    model = bright_model(tmp_path, tiny_plan)
    for number, counted_at in enumerate((orthanc.web, orthanc.destination)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with service_of(folder, [model], quiet_time=3600, count_at=counted_at) as service:
            store(service.listener.port, files[:-1])
            time.sleep(1)
            assert service.queue.counts()["job"] == {}
            service.worker.count_of._asked.clear()  # type: ignore[union-attr]
            store(service.listener.port, files[-1:])
            wait_for(lambda service=service: service.queue.counts()["job"] == {"predicted": 1})


def test_kinds_through_the_listener_are_as_predict_says(tmp_path: Path, real_data: Path, tiny_plan: Plan) -> None:
    """A Siemens mosaic among them. Each is sent twice, and is done once."""
    kinds = ("big-endian", "tilted by 20°", "enhanced", "missing slice")
    folders = [write_kind(tmp_path / name, KINDS[name]) for name in kinds]
    folders.append(tmp_path / "mosaic")
    folders[-1].mkdir()
    shutil.copy(real_data / "dicom_reference" / "transfer_syntaxes" / "In" / "1.dcm", folders[-1])
    models = [bright_model(tmp_path, tiny_plan), bright_model(tmp_path, tiny_plan, "fmri", ("MR",))]
    with service_of(tmp_path, models, send=[str(tmp_path / "out")], quiet_time=1.5) as service:
        for folder in (*folders, *folders):
            assert set(store(service.listener.port, sorted(folder.iterdir()))) == {0}
        wait_for(lambda: service.queue.counts()["study"] == {"done": len(folders)}, 120)
        assert service.queue.counts()["job"] == {"predicted": len(folders)}
    out = {segread(file).SOPInstanceUID: segread(file) for file in (tmp_path / "out").iterdir()}
    assert len(out) == len(folders)
    for folder in folders:
        model = models[folder.name == "mosaic"].loaded()
        predictor = CasePredictor(
            model, tmp_path, model.record.inference, PredictionOptions((format_named("dicom-seg"),))
        )
        (mask,) = predictor.predict(Case(folder.name, (source_of(folder),))).masks
        of_predict = segread(mask.path)
        assert of_predict.pixel_array.any()
        assert np.array_equal(of_predict.pixel_array, out[of_predict.SOPInstanceUID].pixel_array)


def test_a_slice_that_comes_late_replaces_the_result(tmp_path: Path, orthanc: Orthanc, tiny_plan: Plan) -> None:
    """And one that comes before the quiet time is over begins that anew."""
    files = sorted(write_kind(tmp_path / "ct", KINDS["CT"]).iterdir())
    model = bright_model(tmp_path, tiny_plan)
    send = [orthanc.destination, orthanc.web]
    with service_of(tmp_path, [model], send=send, quiet_time=2) as service:
        for part in (files[:7], files[7:13], files[13:19]):
            store(service.listener.port, part)
            time.sleep(1)
        wait_for(lambda: service.queue.counts()["study"] == {"done": 1})
        assert service.queue.counts()["job"] == {"predicted": 1}
        first = orthanc.only_segmentation(tmp_path)
        store(service.listener.port, files[19:])
        wait_for(lambda: service.queue.counts()["study"] == {"done": 1})
        assert service.queue.counts()["job"] == {"predicted": 2}
        last = orthanc.only_segmentation(tmp_path)
    assert first.SOPInstanceUID == last.SOPInstanceUID
    assert [len(each.ReferencedSeriesSequence[0].ReferencedInstanceSequence) for each in (first, last)] == [19, 20]


def test_storage_commitment_for_orthanc(tmp_path: Path) -> None:
    """Orthanc asks whether what it sent is kept, and whether something is that it never sent."""
    port = free_port()
    with running_orthanc(tmp_path / "orthanc", {"medseg": ("MEDSEG", port)}) as orthanc:
        files = sorted(write_kind(tmp_path / "ct", KINDS["CT"]).iterdir())[:3]
        store(orthanc.dicom_port, files)
        known = [pydicom.dcmread(file) for file in files]
        with service_of(tmp_path, [], port=port, commitments=[orthanc.destination], quiet_time=100) as service:
            (study,) = orthanc.http.get("/studies").json()
            asked = {"Resources": [study], "StorageCommitment": True}
            sent = orthanc.http.post("/modalities/medseg/store", json=asked).json()
            transactions = {"Success": sent["StorageCommitmentTransactionUID"]}
            unknown = [
                {"SOPClassUID": known[0].SOPClassUID, "SOPInstanceUID": uid}
                for uid in ("1.2.3", known[0].SOPInstanceUID)
            ]
            asked = {"DicomInstances": unknown}
            transactions["Failure"] = orthanc.http.post("/modalities/medseg/storage-commitment", json=asked).json()[
                "ID"
            ]
            for status, transaction in transactions.items():
                wait_for(
                    lambda t=transaction: orthanc.http.get(f"/storage-commitment/{t}").json()["Status"] != "Pending"
                )
                told = orthanc.http.get(f"/storage-commitment/{transaction}").json()
                assert told["Status"] == status
                assert [each["SOPInstanceUID"] for each in told["Failures"]] == ["1.2.3"] * (status == "Failure")
            wait_for(lambda: service.queue.commitments.next_due() is None)


def test_a_wrong_title_is_rejected(tmp_path: Path) -> None:
    """By dcmtk's sender, or pynetdicom's of the same name, which say so; and the queue has nothing."""
    if shutil.which("storescu") is None:
        pytest.skip("needs Debian's dcmtk")
    file = next(write_kind(tmp_path / "ct", KINDS["CT"]).iterdir())
    with service_of(tmp_path, [], any_called_title=False, callers=["CT1"], quiet_time=100) as service:

        def sent(called: str, calling: str) -> subprocess.CompletedProcess[str]:
            command = ["storescu", "-aec", called, "-aet", calling, "127.0.0.1", str(service.listener.port), str(file)]
            return subprocess.run(command, capture_output=True, text=True, check=False)

        for called, calling in (("OTHER", "CT1"), ("MEDSEG", "CT2")):
            answer = sent(called, calling)
            assert answer.returncode != 0 and re.search("AE Title Not Recogni[sz]ed", answer.stderr, re.IGNORECASE)
        assert service.queue.received.receiving() == []
        assert sent("MEDSEG", "CT1").returncode == 0
        assert [n for *_, n in service.queue.received.receiving()] == [1]


def test_interleaved_series_of_a_thousand_slices(tmp_path: Path, tiny_plan: Plan) -> None:
    """From two associations at once, one of them of another study; a mosaic would be one file."""
    long = Kind(heights=tuple(0.5 * i for i in range(1000)))
    series = [sorted(write_kind(tmp_path / name, kind).iterdir()) for name, kind in (("a", long), ("b", KINDS["CT"]))]
    model = bright_model(tmp_path, tiny_plan)
    with service_of(tmp_path, [model], send=[str(tmp_path / "out")], quiet_time=2) as service:
        statuses: list[int] = []
        senders = [
            threading.Thread(target=lambda files=files: statuses.extend(store(service.listener.port, files)))
            for files in (series[0][:600], series[1], series[0][500:])
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        assert Counter(statuses) == {0: 1120}
        wait_for(lambda: service.queue.counts()["study"] == {"done": 2}, 300)
    assert len(list((tmp_path / "out").iterdir())) == 2


def _serve(folder: Path, model: ServedModel, port: int) -> None:
    with service_of(folder, [model], port=port, send=[str(folder / "out")], quiet_time=1):
        signal.pause()


class Killed:
    """A service in a process of its own, which is killed at random moments, and started again."""

    def __init__(self, folder: Path, model: ServedModel, port: int) -> None:
        self.arguments = (folder, model, port)
        self.kills = 0
        self.chance = random.Random(0)
        self.process = self._started()
        self.thread = threading.Thread(target=self._kill, daemon=True)
        self.thread.start()

    def _started(self) -> multiprocessing.process.BaseProcess:
        process = multiprocessing.get_context("fork").Process(target=_serve, args=self.arguments)
        process.start()
        return process

    def _kill(self) -> None:
        while self.kills < KILLS:
            time.sleep(self.chance.uniform(0.1, 5))
            os.kill(self.process.pid or 0, signal.SIGKILL)
            self.process.join()
            self.kills += 1
            self.process = self._started()

    def end(self) -> None:
        self.thread.join()
        os.kill(self.process.pid or 0, signal.SIGKILL)
        self.process.join()


def test_kills_at_random_moments_lose_nothing(tmp_path: Path, tiny_plan: Plan) -> None:
    """While instances come, and while cases are predicted and sent: all that was acknowledged is there once."""
    n_studies, port = max(3, KILLS // 3), free_port()
    killed = Killed(tmp_path, bright_model(tmp_path, tiny_plan), port)
    acknowledged: set[str] = set()
    for number in range(n_studies):
        files = sorted(write_kind(tmp_path / f"study{number}", KINDS["CT"]).iterdir())
        lacking = files
        until = time.monotonic() + 300
        while lacking:  # as senders do, which send again what was not acknowledged
            answers = _answered(port, lacking)
            acknowledged |= answers
            lacking = [file for file in lacking if str(pydicom.dcmread(file).SOPInstanceUID) not in answers]
            assert time.monotonic() < until
    killed.thread.join()
    try:
        wait_for(lambda: queue_states(tmp_path / "queue", "study") == {"done": n_studies}, 600)
    finally:
        killed.end()
    assert killed.kills == KILLS
    kept = {str(pydicom.dcmread(file).SOPInstanceUID) for file in (tmp_path / "queue" / "studies").rglob("*.dcm")}
    assert acknowledged == kept
    assert len(kept) == 20 * n_studies
    # A study that was quiet while its sender waited for the next start was predicted as it was, too; the result of the
    # whole study has taken its place.
    states = queue_states(tmp_path / "queue", "job")
    assert set(states) == {"predicted"}
    assert states["predicted"] >= n_studies
    assert queue_states(tmp_path / "queue", "delivery").get("sent", 0) >= n_studies
    results = [pydicom.dcmread(file) for file in sent_to(tmp_path / "out")]
    assert len(results) == n_studies  # each once
    assert all(len(each.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 20 for each in results)


def queue_states(folder: Path, table: str) -> dict[str, int]:
    """How many rows of a table are in each state, while a service has the queue."""
    with closing(sqlite3.connect(f"file:{folder / 'queue.sqlite'}?mode=ro", uri=True)) as database:
        return dict(database.execute(f"SELECT state, count(*) FROM {table} GROUP BY state").fetchall())


def sent_to(folder: Path) -> list[Path]:
    """The results in a folder; a kill may leave temporary files, which are hidden."""
    return [file for file in folder.glob("*.dcm") if not file.name.startswith(".")]


def _answered(port: int, files: Sequence[Path]) -> set[str]:
    """Returns the UIDs of the instances that were acknowledged."""
    try:
        statuses = store(port, files, patience=3)
    except (RuntimeError, ValueError, OSError):
        return set()
    return {str(pydicom.dcmread(file).SOPInstanceUID) for file, each in zip(files, statuses, strict=False) if each == 0}


def test_many_studies_in_a_row(tmp_path: Path, tiny_plan: Plan) -> None:
    n = int(os.environ.get("MEDSEG_STUDIES", "8"))
    files = sorted(write_kind(tmp_path / "ct", Kind(heights=(0.0, 2.0, 4.0, 6.0))).iterdir())
    datasets = [pydicom.dcmread(file) for file in files]
    model = bright_model(tmp_path, tiny_plan)
    with service_of(tmp_path, [model], send=[str(tmp_path / "out")]) as service:
        for _ in range(n):
            study, series = generate_uid(), generate_uid()
            for dataset in datasets:
                dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
                dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            assert store(service.listener.port, datasets) == [0] * len(datasets)
        wait_for(lambda: service.queue.counts()["study"] == {"done": n}, 600)
    assert len(list((tmp_path / "out").iterdir())) == n


def test_tls_both_ways(tmp_path: Path, tiny_plan: Plan) -> None:
    """Callers without a certificate of the authority are not let in."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", tmp_path / "key.pem",
         "-out", tmp_path / "cert.pem", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    own = {"certificate": tmp_path / "cert.pem", "key": tmp_path / "key.pem"}
    (file, *_) = sorted(write_kind(tmp_path / "ct", KINDS["CT"]).iterdir())
    files = {name: str(path) for name, path in own.items()}
    with service_of(tmp_path, [], client_ca=str(own["certificate"]), **files) as service:
        port = service.listener.port
        known = Peer.of(f"tls:MEDSEG@localhost:{port}", ca=own["certificate"], **own)
        assert send_files(known, [file])[0].failure == ""
        assert send_files(Peer.of(f"tls:MEDSEG@localhost:{port}", ca=own["certificate"]), [file])[0].failure
        distrusting = Peer.of(f"tls:MEDSEG@localhost:{port}", **own)
        assert send_files(distrusting, [file])[0].failure
        assert send_files(Peer.of(f"MEDSEG@127.0.0.1:{port}"), [file])[0].failure
        assert [n for *_, n in service.queue.received.receiving()] in ([1], [])
