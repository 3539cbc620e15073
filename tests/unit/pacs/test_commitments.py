"""Storage commitment without a network: what is asked, what is told, and when it is told again."""

from pathlib import Path

import pytest
from pydicom import Dataset, config

from medseg.errors import ConfigError
from medseg.pacs.commitments import CommitmentRequest
from medseg.pacs.queue import StudyQueue
from medseg.pacs.received import Instance, token_of
from medseg.pacs.sender import ResultSender
from medseg.pacs.settings import DicomSettings, changed_settings

CT = "1.2.840.10008.5.1.4.1.1.2"
NOBODY = "CT1@127.0.0.1:9"


def asked(transaction: str = "1.2.9", **uids: str) -> Dataset:
    question = Dataset()
    question.TransactionUID = transaction
    question.ReferencedSOPSequence = []
    for uid in uids.values():
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, uid
        question.ReferencedSOPSequence.append(item)
    return question


@pytest.fixture
def request_() -> CommitmentRequest:
    found = CommitmentRequest.of(asked(kept="1.2.3", other="1.2.4"), "CT1")
    assert found is not None
    return found


def test_what_is_no_question_is_none() -> None:
    assert CommitmentRequest.of(Dataset(), "CT1") is None
    assert CommitmentRequest.of(asked(), "CT1") is None
    with config.disable_value_validation():
        assert CommitmentRequest.of(asked("1.2\n3", kept="1.2.3"), "CT1") is None


def test_only_what_is_here_is_kept(tmp_path: Path, request_: CommitmentRequest) -> None:
    """And a question survives a restart."""
    queue = StudyQueue(tmp_path / "queue")
    queue.received.add(Instance("study", "series", token_of("1.2.3")), "1.2", "CT1", "digest", 1)
    queue.commitments.ask(request_)
    queue.close()
    (tmp_path / "queue" / "studies" / "study").mkdir()
    queue = StudyQueue(tmp_path / "queue")
    assert queue.commitments.next_due() == request_
    report = queue.commitments.report(request_)
    assert [each.ReferencedSOPInstanceUID for each in report.ReferencedSOPSequence] == ["1.2.3"]
    (lacking,) = report.FailedSOPSequence
    assert (lacking.ReferencedSOPInstanceUID, lacking.FailureReason) == ("1.2.4", 0x0112)
    queue.commitments.end(request_)
    assert queue.commitments.next_due() is None
    queue.close()


def test_a_sender_that_does_not_answer_is_told_again_and_given_up(tmp_path: Path, request_: CommitmentRequest) -> None:
    content = {"commitments": [NOBODY], "queue": tmp_path / "queue", "tries": 2, "first_wait": 0.01}
    settings = changed_settings(DicomSettings(), content)
    queue = StudyQueue(settings.queue)
    sender = ResultSender(queue, settings)
    queue.commitments.ask(request_)
    assert sender.step()
    rows = queue._tables.rows("SELECT tries FROM commitment")
    assert rows == [(1,)]
    queue.commitments.try_again(request_, -1)
    assert sender.step()
    assert queue._tables.rows("SELECT tries FROM commitment") == []
    queue.close()


def test_only_programs_that_speak_dicom_are_told() -> None:
    with pytest.raises(ConfigError, match="where a sender listens for the answer"):
        changed_settings(DicomSettings(), {"commitments": ["https://archive.example.org/dicom-web"]})
