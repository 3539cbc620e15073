"""Does what the queue says: looks at studies that are complete, and predicts their cases."""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from medseg.dataset.cases import Case
from medseg.errors import MedsegError, SourceError, defect, of_the_machine
from medseg.inferers.memory_plan import MemoryLimits, frugal_window
from medseg.inferers.model import Model, with_settings
from medseg.inferers.recipe_model import RecipeModel
from medseg.io.discover import image_sources
from medseg.io.mask_formats import formats_named
from medseg.io.source import ImageSource
from medseg.pacs.jobs import Job
from medseg.pacs.log import of_a_patient, reason_without_names, tell_event
from medseg.pacs.queue import StudyQueue
from medseg.pacs.received import STUDIES, flush, series_name
from medseg.pacs.series_choice import StudyPlan, study_plan
from medseg.pacs.settings import DicomSettings
from medseg.prediction.case_predictor import CasePredictor, PredictionOptions
from medseg.prediction.result import Prediction
from medseg.progress import counted
from medseg.serve.models import ServedModel
from medseg.version import VERSION

SECONDS_BETWEEN_LOOKS = 0.25

# Runs a function when the device is free; what else asks for the device waits its turn too.
OnDevice = Callable[[Callable[[], Any]], "Future[Any]"]


class StudyWorker(threading.Thread):
    """A thread that predicts one case after the other.

    Args:
        queue: Says what is to be done.
        models: By name.
        settings: Of the site.
        on_device: Runs a function when the device is free.
        count_of: Says how many instances a study of a UID has in the archive; None where nobody knows.
    """

    def __init__(
        self,
        queue: StudyQueue,
        models: Mapping[str, ServedModel],
        settings: DicomSettings,
        on_device: OnDevice,
        count_of: Callable[[str], int | None] | None = None,
    ) -> None:
        super().__init__(name="studies", daemon=True)
        self.queue = queue
        self.models = models
        self.settings = settings
        self.on_device = on_device
        self.count_of = count_of
        self.under_way: Job | None = None
        self._is_stopping = threading.Event()

    def stop(self) -> None:
        """Lets the thread end when the case that is under way is done."""
        self._is_stopping.set()

    def run(self) -> None:
        """Works until ``stop``. An error of one study never ends the thread."""
        while not self._is_stopping.is_set():
            try:
                is_idle = not self.step()
            except Exception as error:  # of the disk, or a defect: others may still be served
                tell_event("error", of_the_machine(error) or defect(error), level=logging.ERROR)
                is_idle = True
            if is_idle:
                self._is_stopping.wait(SECONDS_BETWEEN_LOOKS)

    def step(self) -> bool:
        """Looks at one study, or predicts one case. False where there is nothing to do."""
        study = self.queue.received.complete_study(self.settings.quiet_time, self.settings.longest_time)
        study = study or self._counted_study()
        if study is not None:
            self._look_at(study)
            return True
        job = self.queue.jobs.next_job()
        if job is None:
            return False
        if reason := self.queue.deaths.verdict(job.name):
            self._failed(job, reason)
            return True
        self.queue.jobs.begin(job)
        self.under_way = job
        try:
            self._predict(job)
        finally:
            self.under_way = None
        return True

    def _counted_study(self) -> str | None:
        """Returns a study of which all instances are here that the archive has."""
        if self.count_of is None:
            return None
        for study, uid, here in self.queue.received.receiving():
            there = self.count_of(uid)
            if there is not None and here >= there:
                return study
        return None

    def _look_at(self, study: str) -> None:
        received_at = self.queue.received.received_at(study)
        try:
            if crashed := self.queue.deaths.verdict(study):
                raise SourceError(crashed)
            with of_a_patient(), self.queue.deaths.watching(study):
                plan = self.plan_of(study)
        except MedsegError as error:
            plan = StudyPlan((), {}, (reason_without_names(error, ()),))
        jobs = [self._job_of(study, choice.model, choice.case) for choice in plan.choices]
        reason = plan.reason if plan.refusals or not plan.notes else plan.notes[0]
        if not self.queue.jobs.plan(study, received_at, jobs, reason):
            return  # more has come
        for note in plan.notes:
            tell_event("note", f"Study {study}: {note}", level=logging.WARNING, study=study)
        for choice, job in zip(plan.choices, jobs, strict=True):
            tell_event(
                "chosen",
                f"Study {study}: {choice.model} sees {choice.reason}",
                study=study,
                model=choice.model,
                job=job.name,
            )
        for model, why in plan.refusals.items():
            tell_event("refused", f"Study {study}: left by {model}: {why}", study=study, model=model, reason=why)

    def plan_of(self, study: str) -> StudyPlan:
        """Returns what is to be done with a study."""
        records = {name: model.record for name, model in self.models.items()}
        caller = self.queue.received.caller_of(study)
        return study_plan(self.queue.folder / STUDIES / study, records, self.settings.rules, caller)

    def _job_of(self, study: str, model: str, case: Case) -> Job:
        series = tuple(image.files[0].parent.name for image in case.images)
        content = "\n".join(
            (
                self.queue.received.inputs_digest(study, series),
                self.models[model].fingerprint,
                VERSION,
                model,
                *self.settings.formats,
                *(image.part for image in case.images),
            )
        )
        name = hashlib.sha256(content.encode()).hexdigest()[:20]
        return Job(name, study, model, series, tuple(image.part for image in case.images))

    def _predict(self, job: Job) -> None:
        received, start = self.queue.received, time.monotonic()
        images = received.inputs_digest(job.study, job.series)
        try:
            case = self._case_of(job)
            if self._job_of(job.study, job.model, case).name != job.name:
                self._drop(job)
                return
            with of_a_patient():
                prediction = self.on_device(lambda: self._segmented(job, case)).result()
        except MedsegError as error:
            self._failed(job, reason_without_names(error, self._some_files(job)))
        except Exception as error:
            self._failed(job, of_the_machine(error) or defect(error))
        else:
            if received.inputs_digest(job.study, job.series) != images:
                self._drop(job)
            else:
                self._done(job, prediction, time.monotonic() - start)

    def _segmented(self, job: Job, case: Case) -> Prediction:
        with of_a_patient(), self.queue.deaths.watching(job.name):
            folder = self.queue.results_of(job.name)
            self.queue.drop_results(job.name)
            folder.mkdir()
            return predictor_of(self.models[job.model], self.settings, folder).predict(case)

    def _case_of(self, job: Job) -> Case:
        """Returns the case of a job as it lies on the disk now.

        Raises:
            SourceError: It is not there any more.
        """
        with of_a_patient():
            images = tuple(self._image(job, series, part) for series, part in zip(job.series, job.parts, strict=True))
        return Case(f"{job.model}_{series_name(job.series[0], job.parts[0])}", images)

    def _image(self, job: Job, series: str, part: str) -> ImageSource:
        folder = self.queue.folder / STUDIES / job.study / series
        for source in image_sources(folder).sources:
            if source.part == part:
                return source
        raise SourceError(f"series {series}: its images are not there any more, or cannot be read")

    def _some_files(self, job: Job) -> list[Any]:
        folders = [self.queue.folder / STUDIES / job.study / series for series in job.series]
        return [file for folder in folders for file in sorted(folder.glob("*.dcm"))[:1]]

    def _done(self, job: Job, prediction: Prediction, seconds: float) -> None:
        files = [file for mask in prediction.masks for file in mask.files]
        for file in files:
            flush(file)
        folder = self.queue.results_of(job.name)
        flush(folder)
        flush(folder.parent)
        names = [file.relative_to(folder).as_posix() for file in files]
        to = [peer.address for peer in self.settings.send]
        reason = "; ".join(reason_without_names(why, self._some_files(job)) for why in prediction.not_written)
        self.queue.jobs.end(job, "predicted", reason, [(name, each) for name in names for each in to])
        review = ", to be reviewed" if prediction.review else ""
        wrote = f"{job.model} wrote {counted(len(names), 'object')} in {seconds:.1f} s{review}"
        tell_event(
            "predicted",
            f"Study {job.study}: {wrote}",
            study=job.study,
            model=job.model,
            job=job.name,
            seconds=round(seconds, 2),
            peak_memory_mb=round(prediction.peak_memory_mb),
            review=str(bool(prediction.review)).lower(),
        )
        if reason:
            tell_event(
                "not_written", f"Study {job.study}: {reason}", level=logging.WARNING, study=job.study, job=job.name
            )

    def _failed(self, job: Job, reason: str) -> None:
        self.queue.jobs.end(job, "failed", reason)
        tell_event(
            "failed",
            f"Study {job.study}: {job.model} failed: {reason}",
            level=logging.WARNING,
            study=job.study,
            model=job.model,
            job=job.name,
            reason=reason,
        )

    def _drop(self, job: Job) -> None:
        self.queue.jobs.drop(job)
        self.queue.drop_results(job.name)
        tell_event(
            "changed", f"Study {job.study}: more of it has come, it is looked at again", study=job.study, job=job.name
        )


def predictor_of(served: ServedModel, settings: DicomSettings, folder: Path) -> CasePredictor:
    """Returns what predicts cases by a model, and writes masks into a folder.

    Args:
        served: The model, which is loaded once.
        settings: Which formats, and how much memory a case may take.
        folder: Where masks go.

    Raises:
        ModelError: The model cannot be used.
    """
    model = served.loaded()
    limits = None if settings.max_memory is None else MemoryLimits(settings.max_memory)
    if limits is not None:
        model = model.each(_frugal) if isinstance(model, RecipeModel) else _frugal(model)
    first = model.every_model[0] if isinstance(model, RecipeModel) else model
    options = PredictionOptions(tuple(formats_named(settings.formats)), memory_limits=limits)
    return CasePredictor(model, folder, first.record.inference, options)


def _frugal(model: Model) -> Model:
    return with_settings(model, {"window": frugal_window(model.record)})
