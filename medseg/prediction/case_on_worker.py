"""Cases that workers elsewhere predict: the model is loaded once a worker and kept, masks are written by the worker."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod

import torch

from medseg.dataset.cases import Case
from medseg.errors import MedsegError
from medseg.evaluation.predictions_json import Predictions
from medseg.io.read import read_geometry
from medseg.io.source import ImageSource
from medseg.outcome import Outcome, UnfitWorkerError
from medseg.prediction.case_predictor import CasePredictor
from medseg.prediction.predictions_file import write_case_file
from medseg.prediction.request import PredictionRequest
from medseg.prediction.result import Prediction
from medseg.remote_workers import RemoteWorkers

HEADERS_AT_ONCE = 16  # that are read: on a shared disk one waits most of the time


@dataclass(frozen=True)
class RemotePredictor:
    """Predicts cases on workers that load the model by themselves.

    Attributes:
        workers: Those of an executor.
        request: What every worker does with a case.
        copies: Warnings about cases that have the image of another, by case id.
    """

    workers: RemoteWorkers
    request: PredictionRequest
    copies: Mapping[str, str] = field(default_factory=dict)

    def place(self) -> tuple[str, str]:
        """Returns the device of a worker, and what runs the network there.

        Raises:
            MedsegError: The worker cannot use the model.
        """
        for _, outcome in self.workers.outcomes(place_of_worker, [self.request]):
            if outcome.result is not None:
                return outcome.result
            raise MedsegError(f"no worker can use the model: {outcome.error}")
        raise AssertionError("an executor lost its task")

    def outcomes(self, cases: Sequence[Case], call: Predictions) -> Iterator[Outcome[Case, Prediction]]:
        """Yields the outcomes of cases as they are done; the largest are begun first, so that none is left to the end.

        Args:
            cases: What is predicted.
            call: What predictions.json says of all of them; all workers take its backend, as what "auto" finds on each
                depends on what else runs there.
        """
        request = self.request.with_backend(call.backend)
        sizes = dict(zip(cases, case_sizes(cases), strict=True))
        ordered = sorted(cases, key=lambda case: -sizes[case])
        items = [(case, self.copies.get(case.case_id)) for case in ordered]
        for number, outcome in self.workers.outcomes(partial(predict_on_worker, request, call), items):
            yield Outcome(ordered[number], outcome.result, outcome.error, outcome.is_defect, outcome.trace)


def case_sizes(cases: Sequence[Case]) -> list[int]:
    """Returns how many voxels the images of each case have, as their headers say; of DICOM by the bytes of the files.

    0 where that cannot be read: it is told when the case is predicted.
    """
    with ThreadPoolExecutor(HEADERS_AT_ONCE) as threads:
        return list(threads.map(lambda case: sum(map(_voxels, case.images)), cases))


def _voxels(source: ImageSource) -> int:
    try:
        if source.kind == "dicom":
            return sum(file.stat().st_size for file in dict.fromkeys(source.files)) // 2
        return prod(read_geometry(source).shape)
    except (MedsegError, OSError):
        return 0


def place_of_worker(request: PredictionRequest) -> tuple[str, str]:
    """Returns the device of the worker that this runs in, and what runs the network there.

    Args:
        request: Its model is loaded and kept.

    Raises:
        UnfitWorkerError: The model cannot be used.
    """
    model = kept_predictor(request)[0].model
    return str(model.device), model.backend


def predict_on_worker(request: PredictionRequest, call: Predictions, item: tuple[Case, str | None]) -> Prediction:
    """Predicts a case in a worker, and accounts for it in a file of its own beside the masks.

    While the network sees a case, another thread of the worker may read or write another one. With a limit of memory,
    which speaks of one case, one comes after the other.

    Args:
        request: What is done with the case.
        call: What predictions.json says of all cases.
        item: The case, and what is said where its image is that of another.

    Raises:
        MedsegError: The case cannot be predicted.
    """
    (case, copy), (kept, network_free) = item, kept_predictor(request)
    predictor = replace(kept, copies={} if copy is None else {case.case_id: copy})
    if request.max_memory is not None:
        with network_free:
            prediction = predictor.predict(case)
    else:
        read = predictor.read(case)
        with network_free:
            segmented = predictor.segment(read)
        del read
        prediction = predictor.write(segmented)
    if request.folder is not None:
        write_case_file(request.folder, call, prediction.record)
    return prediction


_LOADING = threading.Lock()
_KEPT: dict[PredictionRequest, tuple[CasePredictor, threading.Lock]] = {}  # of this process, for one request


def kept_predictor(request: PredictionRequest) -> tuple[CasePredictor, threading.Lock]:
    """Returns the predictor of a request, and the lock of its network; both stay until another request comes.

    Args:
        request: Its model is loaded when this process is first asked.

    Raises:
        UnfitWorkerError: The model cannot be used.
    """
    with _LOADING:
        if request not in _KEPT:
            _KEPT.clear()
            try:
                predictor = request.predictor(threads=torch.get_num_threads())
            except MedsegError as error:
                raise UnfitWorkerError(str(error)) from error
            # What asks for the backend that "auto" found means the same predictor.
            _KEPT[request] = _KEPT[request.with_backend(predictor.model.backend)] = (predictor, threading.Lock())
        return _KEPT[request]
