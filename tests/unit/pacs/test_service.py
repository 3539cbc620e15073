"""From C-STORE to a mask in a folder, in one process: what is acknowledged, what is predicted, what is told."""

import ctypes
import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from archives import bright_model, service_of, store, wait_for
from dicom_kinds import KINDS, write_kind
from dicom_kinds import balls as balls_of
from highdicom.seg import segread

from medseg.dataset.cases import Case
from medseg.io.discover import source_of
from medseg.io.mask_formats import format_named
from medseg.pacs import listener, sender
from medseg.pacs.queue import StudyQueue
from medseg.pacs.service import DicomService, running_service
from medseg.pacs.settings import DicomSettings
from medseg.plan import Plan
from medseg.prediction.case_predictor import CasePredictor, PredictionOptions
from medseg.serve.models import ServedModel


@pytest.fixture
def balls(tmp_path: Path, tiny_plan: Plan) -> ServedModel:
    return bright_model(tmp_path, tiny_plan)


def states(service: DicomService) -> dict[str, dict[str, int]]:
    return {name: dict(counts) for name, counts in service.queue.counts().items()}


def is_done(service: DicomService, n: int = 1) -> Callable[[], bool]:
    return lambda: sum(states(service)["study"].get(state, 0) for state in ("done", "left")) == n


def masks(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dcm")) if folder.is_dir() else []


@pytest.mark.slow
def test_a_study_becomes_the_mask_that_predict_writes(tmp_path: Path, balls: ServedModel) -> None:
    """Sent twice, and with an instance more, it is done again only where something changed."""
    files = sorted(write_kind(tmp_path / "ct", KINDS["JPEG 2000"]).iterdir())
    with service_of(tmp_path, [balls], send=[str(tmp_path / "out")]) as service:
        late, *first = files
        assert store(service.listener.port, first) == [0] * len(first)
        wait_for(is_done(service))
        assert len(masks(tmp_path / "out")) == 1
        assert store(service.listener.port, files) == [0] * len(files)
        wait_for(is_done(service))
        assert states(service)["job"] == {"predicted": 2}
        whole = max(masks(tmp_path / "out"), key=os.path.getmtime)
        store(service.listener.port, files)
        wait_for(is_done(service))
        assert states(service)["job"] == {"predicted": 2}  # nothing has changed
    case = Case("same", (source_of(tmp_path / "ct"),))
    folder = tmp_path / "predicted"
    folder.mkdir()
    first_record = balls.loaded().record
    options = PredictionOptions((format_named("dicom-seg"),))
    CasePredictor(balls.loaded(), folder, first_record.inference, options).predict(case)
    of_predict, of_service = segread(folder / "same.seg.dcm"), segread(whole)
    assert np.array_equal(of_predict.pixel_array, of_service.pixel_array)
    assert of_predict.SOPInstanceUID == of_service.SOPInstanceUID
    assert of_service.StudyInstanceUID == pydicom.dcmread(late).StudyInstanceUID


@pytest.mark.slow
def test_what_fits_no_model_is_left_with_the_reason(tmp_path: Path, balls: ServedModel) -> None:
    mr = sorted(write_kind(tmp_path / "mr", KINDS["MR"]).iterdir())
    with service_of(tmp_path, [balls]) as service:
        store(service.listener.port, mr)
        wait_for(is_done(service))
        (entry,) = service.queue.entries()
        assert entry["state"] == "left"
        assert "is MR, the model was trained on CT" in entry["reason"]


@pytest.mark.slow
def test_interleaved_studies(tmp_path: Path, tiny_plan: Plan) -> None:
    kinds = ("deflated", "RLE", "sagittal")
    files = [file for name in kinds for file in sorted(write_kind(tmp_path / "ct" / name, KINDS[name]).iterdir())]
    shuffled = [files[i] for i in np.random.default_rng(0).permutation(len(files))]
    model = bright_model(tmp_path, tiny_plan)
    with service_of(tmp_path, [model], send=[str(tmp_path / "out")], quiet_time=1.5) as service:
        assert set(store(service.listener.port, shuffled)) == {0}
        wait_for(is_done(service, len(kinds)))
        assert states(service)["job"] == {"predicted": len(kinds)}
    assert len(masks(tmp_path / "out")) == len(kinds)
    assert all(0.95 < volume_of(mask) / 2668 < 1.05 for mask in masks(tmp_path / "out"))  # mm³ of both balls


def volume_of(path: Path) -> float:
    segmentation = segread(path)
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    area = float(np.prod(measures.PixelSpacing))
    return float((segmentation.pixel_array > 0).sum() * area * float(measures.get("SpacingBetweenSlices", 2.5)))


@pytest.mark.slow
def test_nothing_that_identifies_a_patient_is_logged(
    tmp_path: Path, balls: ServedModel, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Odd values, of which readers warn, damaged ones, and a failure."""
    tags = {
        "PatientName": "Quux^Jane", "PatientID": "ID-4711", "PatientBirthDate": "1970-odd", "AccessionNumber": "A77123",
        "SeriesDescription": "Abdomen of Jane Quux", "StudyDescription": "Jane",
    }  # fmt: skip
    files = sorted(write_kind(tmp_path / "ct", KINDS["CT"], **tags).iterdir())
    broken = pydicom.dcmread(files[3])
    broken.ImagePositionPatient = [0, 0, 0]
    with service_of(tmp_path, [balls], send=["NOBODY@127.0.0.1:9"], tries=1) as service:
        store(service.listener.port, files)
        store(service.listener.port, [broken])
        wait_for(is_done(service), 90)
        told = json.dumps(service.status())
        uids = [pydicom.dcmread(file).StudyInstanceUID for file in files[:1]]
    log = (tmp_path / "queue" / "log.jsonl").read_text()
    shown = capfd.readouterr().err
    assert json.loads(log.splitlines()[0])["event"] == "started"
    assert "given_up" in log
    for secret in ("Quux", "Jane", "ID-4711", "1970-odd", "A77123", *uids):
        for text in (told, log, shown):
            assert secret.lower() not in text.lower(), secret


@pytest.mark.slow
def test_a_full_disk_is_told_to_the_sender(tmp_path: Path, balls: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(write_kind(tmp_path / "ct", KINDS["CT"]).iterdir())
    with service_of(tmp_path, [balls], quiet_time=0.2, least_free=1000) as service:
        monkeypatch.setattr(sender, "free_space", lambda folder: 999)
        assert store(service.listener.port, files[:2]) == [0xA700, 0xA700]
        monkeypatch.setattr(sender, "free_space", lambda folder: 1001)
        original = listener.ReceivedFile.write

        def full(file: listener.ReceivedFile, content: bytes) -> int:
            file.failure = "No space left on device"
            return original(file, content)

        monkeypatch.setattr(listener.ReceivedFile, "write", full)
        assert store(service.listener.port, files[:1]) == [0xA700]
        monkeypatch.setattr(listener.ReceivedFile, "write", original)
        assert store(service.listener.port, files) == [0] * len(files)
        wait_for(is_done(service))
        assert not list((tmp_path / "queue" / "receiving").iterdir())


@pytest.mark.slow
def test_larger_instances_and_odd_ones_are_refused(tmp_path: Path, balls: ServedModel) -> None:
    file = pydicom.dcmread(next(iter(sorted(write_kind(tmp_path / "ct", KINDS["CT"]).iterdir()))))
    nameless = pydicom.dcmread(next(iter(sorted((tmp_path / "ct").iterdir()))))
    with pydicom.config.disable_value_validation():
        nameless.StudyInstanceUID = "../../etc"
    with service_of(tmp_path, [balls], max_instance="1KB") as service:
        assert store(service.listener.port, [file]) == [0xA700]
    with service_of(tmp_path, [balls]) as service:
        assert store(service.listener.port, [nameless]) == [0xC000]
        assert not list((tmp_path / "queue" / "studies").iterdir())


@pytest.mark.slow
def test_finished_studies_make_room(tmp_path: Path, balls: ServedModel) -> None:
    first = sorted(write_kind(tmp_path / "a", KINDS["CT"]).iterdir())
    second = sorted(write_kind(tmp_path / "b", KINDS["CT"]).iterdir())
    size = sum(file.stat().st_size for file in first)
    with service_of(tmp_path, [balls], max_disk=int(1.5 * size)) as service:
        store(service.listener.port, first)
        wait_for(is_done(service))
        assert set(store(service.listener.port, second)) == {0}
        wait_for(is_done(service))
        assert len(list((tmp_path / "queue" / "studies").iterdir())) == 1
        service.sender.settings = service.settings.model_copy(update={"keep": 0.0})
        service.sender.remove_old()
        assert states(service) == {"study": {}, "job": {}, "delivery": {}}
        assert not list((tmp_path / "queue" / "results").iterdir())


def test_only_callers_may_send(tmp_path: Path, balls: ServedModel) -> None:
    files = sorted(write_kind(tmp_path / "ct", KINDS["CT"]).iterdir())[:1]
    with service_of(tmp_path, [balls], callers=["CT1@127.0.0.0/8", "CT2@10.0.0.1"]) as service:
        assert store(service.listener.port, files, "CT1") == [0]
        assert store(service.listener.port, files, "CT2") == []
        assert store(service.listener.port, files, "CT3") == []
    with service_of(tmp_path, [balls], ae_title="OTHER", any_called_title=False) as service:
        assert store(service.listener.port, files, "CT1") == []  # it calls MEDSEG


@pytest.mark.slow
def test_what_was_under_way_goes_on(tmp_path: Path, balls: ServedModel) -> None:
    """A queue as a kill leaves it: a job begun, an instance without a row, a study whose folder is gone."""
    files = sorted(write_kind(tmp_path / "ct", KINDS["CT"]).iterdir())
    with service_of(tmp_path, [balls], quiet_time=100) as service:
        store(service.listener.port, files)
    queue = StudyQueue(tmp_path / "queue")
    (study,) = (tmp_path / "queue" / "studies").iterdir()
    (series,) = study.iterdir()
    queue.received._tables.rows("DELETE FROM instance WHERE instance=?", (sorted(series.iterdir())[0].stem,))
    queue.close()
    gone = tmp_path / "queue" / "studies" / "gone"
    with service_of(tmp_path, [balls], send=[str(tmp_path / "out")]) as service:
        wait_for(is_done(service))
        assert service.queue.entries()[0]["instances"] == len(files)
    assert len(masks(tmp_path / "out")) == 1
    shutil.rmtree(study)
    with service_of(tmp_path, [balls]) as service:
        assert states(service) == {"study": {}, "job": {}, "delivery": {}}
    assert not gone.exists()


class Crashing(torch.nn.Module):
    """A network that ends the process on images that are brighter than 2000, as a faulty library does."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.max() > 2000:
            ctypes.string_at(0)
        return torch.cat([500 - image, image - 500], 1)


def _crash(folder: Path, model: ServedModel) -> None:
    """The service in a process of its own, as the command runs it, until all is done."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    content = {"port": 0, "queue": folder / "queue", "quiet_time": 0.1, "least_free": 1}
    with running_service({"balls": model}, DicomSettings(**content), by_signals=True) as service:
        wait_for(is_done(service, 2))


@pytest.mark.slow
def test_a_study_that_crashes_the_process_is_left_at_last(tmp_path: Path, balls: ServedModel) -> None:
    """And the other study is predicted. Kills from outside do not count as crashes."""
    balls._loaded = dataclasses.replace(balls.loaded(), network=Crashing())  # type: ignore[type-var]
    with service_of(tmp_path, [balls], quiet_time=100) as service:
        for name, times in (("good", 1), ("bad", 3)):
            files = write_kind(tmp_path / name, KINDS["CT"], lambda lps, times=times: times * balls_of(lps)).iterdir()
            assert set(store(service.listener.port, sorted(files))) == {0}
    ends = []
    for _ in range(5):
        process = multiprocessing.get_context("fork").Process(target=_crash, args=(tmp_path, balls))
        process.start()
        process.join(60)
        ends.append(process.exitcode)
    assert ends == [-signal.SIGSEGV] * 3 + [0] * 2
    assert "ctypes" in (tmp_path / "queue" / "crash.last.log").read_text()
    queue = StudyQueue(tmp_path / "queue")
    assert queue.counts()["job"] == {"predicted": 1, "failed": 1}
    told = "".join(job["reason"] for study in queue.entries() for job in study["jobs"])
    assert told == "medseg crashed 3 times over it; send the study again to try again"
    queue.close()


@pytest.mark.slow
def test_results_are_sent_again_until_they_are_taken(tmp_path: Path, balls: ServedModel) -> None:
    from archives import free_port

    port = free_port()
    files = sorted(write_kind(tmp_path / "ct", KINDS["CT"]).iterdir())
    there = tmp_path / "there"
    there.mkdir()
    with (
        service_of(there, [], port=port, quiet_time=100) as archive,
        service_of(tmp_path, [balls], send=[f"MEDSEG@127.0.0.1:{port}"], longest_wait=0.3) as service,
    ):
        archive.listener.stop()
        store(service.listener.port, files)
        wait_for(lambda: any(sent["tries"] for sent in sendings(service)))
        archive.listener.start()
        wait_for(is_done(service))
        assert [sent["state"] for sent in sendings(service)] == ["sent"]
        assert sum(n for *_, n in archive.queue.received.receiving()) == 1


def sendings(service: DicomService) -> list[dict[str, object]]:
    return [sent for study in service.queue.entries() for job in study["jobs"] for sent in job["sent"]]
