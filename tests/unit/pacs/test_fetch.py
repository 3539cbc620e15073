"""Studies from an archive: addresses, answers of servers that are odd or hostile, what is there already."""

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from dicom_kinds import Kind, write_kind
from serving import on_a_port
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import medseg
from medseg.errors import ConfigError, SourceError
from medseg.pacs import remote
from medseg.pacs.dicomweb import _first_part
from medseg.pacs.remote import RemoteSource, is_remote

BELOW = "/studies/{study}/series/{series}/instances"


class Archive:
    """DICOMweb of one study, whose answers a test may change."""

    def __init__(self, files: list[Path]) -> None:
        self.files = {str(pydicom.dcmread(file).SOPInstanceUID): file for file in files}
        first = pydicom.dcmread(files[0])
        self.study, self.series = str(first.StudyInstanceUID), str(first.SeriesInstanceUID)
        self.asked: list[str] = []
        self.changed: dict[str, bytes] = {}
        self.token = ""
        self.app = Starlette(
            routes=[
                Route("/dicom-web/studies", self.studies),
                Route("/dicom-web/studies/{study}/series", self.of_study),
                Route("/dicom-web" + BELOW, self.instances),
                Route("/dicom-web" + BELOW + "/{instance}", self.instance),
            ]
        )

    def studies(self, request: Request) -> Response:
        if self.token and request.headers.get("authorization") != self.token:
            return Response(status_code=401)
        given = request.query_params
        uids = [self.study] if given.get("StudyInstanceUID", self.study) == self.study else []
        return self.found("0020000D", uids if given.get("PatientID", "P") == "P" else [])

    def of_study(self, request: Request) -> Response:
        return self.found("0020000E", [self.series])

    def instances(self, request: Request) -> Response:  # without pages: all, whatever the offset
        return self.found("00080018", [*self.files, "../../evil"])

    def instance(self, request: Request) -> Response:
        uid = request.path_params["instance"]
        self.asked.append(uid)
        content = self.changed.get(uid, self.files[uid].read_bytes())
        body = b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--xx--"
        return Response(body, media_type='multipart/related; type="application/dicom"; boundary=xx')

    @staticmethod
    def found(tag: str, uids: list[str]) -> Response:
        return JSONResponse([{tag: {"vr": "UI", "Value": [uid]}} for uid in uids])


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(sorted(write_kind(tmp_path / "there", Kind(heights=(0.0, 1.0, 2.0))).iterdir()))


@pytest.fixture
def address(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(remote, "SECONDS_BETWEEN_TRIES", 0.0)
    with on_a_port(archive.app) as url:
        yield f"dicomweb+{url}/dicom-web"


def test_fetched_as_it_is_stored_and_only_once(archive: Archive, address: str, tmp_path: Path) -> None:
    whole = medseg.fetch(f"{address}/studies/{archive.study}", tmp_path / "a")
    assert (whole.n_instances, whole.n_new, whole.problems) == (3, 3, ())
    for uid, file in archive.files.items():
        assert (tmp_path / "a" / archive.study / archive.series / f"{uid}.dcm").read_bytes() == file.read_bytes()
    (tmp_path / "a" / archive.study / archive.series / f"{archive.asked[0]}.dcm").unlink()
    again = medseg.fetch(f"{address}?PatientID=P", tmp_path / "a")
    assert (again.n_instances, again.n_new, len(archive.asked)) == (3, 1, 4)
    with pytest.raises(SourceError, match="no such study"):
        medseg.fetch(f"{address}?PatientID=Q", tmp_path / "a")


@pytest.mark.parametrize("content", [b"<html>an error page</html>", b""])
def test_other_answers_are_no_instances(archive: Archive, address: str, tmp_path: Path, content: bytes) -> None:
    odd = sorted(archive.files)[1]
    archive.changed[odd] = content or archive.files[sorted(archive.files)[0]].read_bytes()
    result = medseg.fetch(f"{address}/studies/{archive.study}", tmp_path / "a")
    assert result.n_instances == 2
    assert "could not be fetched" in result.problems[0].message
    assert {file.stem for file in (tmp_path / "a").rglob("*")} >= set(archive.files) - {odd}
    assert not list((tmp_path / "a").rglob(f"*{odd}*"))
    with pytest.raises(SourceError, match="not there whole"):
        medseg.preprocess(f"{address}/studies/{archive.study}", tmp_path / "prepared")


def test_tokens(archive: Archive, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.token = "Bearer s3cret"
    with pytest.raises(SourceError, match="give a token"):
        medseg.fetch(f"{address}/studies/{archive.study}", tmp_path / "a")
    (tmp_path / "token").write_text("s3cret\n")
    monkeypatch.setenv("MEDSEG_DICOMWEB_TOKEN_FILE", str(tmp_path / "token"))
    assert medseg.fetch(f"{address}/studies/{archive.study}", tmp_path / "a").n_new == 3
    (tmp_path / "token").write_text("ann:pass")
    archive.token = "Basic YW5uOnBhc3M="
    assert medseg.fetch(f"{address}/studies/{archive.study}", tmp_path / "b").n_new == 3


def test_preprocess_takes_an_address(archive: Archive, address: str, tmp_path: Path) -> None:
    result = medseg.preprocess(Path(f"{address}/studies/{archive.study}"), tmp_path / "prepared")
    assert len(result.record.cases) == 1


def test_addresses() -> None:
    assert is_remote(Path("dicomweb+https://host/a/studies/1.2"))
    assert not any(map(is_remote, ("C:/data", "dicom", Path("dicom"), "dicom/studies/1.2", "dicom:")))
    assert RemoteSource.of("dicomweb+https:/host/a/studies/1.2").peer.address == "https://host/a"
    source = RemoteSource.of("dicom+tls://PACS@host:104/studies/1.2/series/3.4")
    assert (source.peer.in_tls, source.peer.title, source.study, source.series) == (True, "PACS", "1.2", "3.4")
    for wrong, why in {
        "dicomweb+https://host/a/studies/..": "no UID",
        "dicomweb+https://host/a": "names no study",
        "dicomweb+https://host/a?PatientIDs=1": "did you mean 'PatientID'",
        "dicom://PACS/studies/1.2": "is no archive",
    }.items():
        with pytest.raises(ConfigError, match=why):
            medseg.fetch(wrong, "nowhere")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_first_part_wherever_the_chunks_end(size: int) -> None:
    content = bytes(range(256)) * 3 + b"\r\n--x\r\n--xy"
    body = b"--xx\r\nA: b\r\n\r\n" + content + b"\r\n--xx--\r\nrest"
    chunks = iter([body[i : i + size] for i in range(0, len(body), size)])
    assert b"".join(_first_part(chunks, b"--xx")) == content
    with pytest.raises(ValueError, match="in the middle"):
        list(_first_part(iter([body[:40]]), b"--xx"))
