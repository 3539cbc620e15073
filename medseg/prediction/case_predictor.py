"""One case: read, segment, write; and many, in stages that overlap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medseg.config import InferenceConfig
from medseg.dataset.cases import Case
from medseg.errors import OutputError, Problem
from medseg.inferers.memory_plan import MemoryLimits
from medseg.inferers.model import Model
from medseg.inferers.recipe_model import RecipeModel
from medseg.io.mask_formats import Format, usual_format
from medseg.parallel import run_in_stages
from medseg.postprocessing.choosing import LEAST_CASES
from medseg.prediction.case_reading import read_case, read_case_images
from medseg.prediction.case_segmentation import SegmentedCase, segment_case
from medseg.prediction.case_writing import PREVIEW, write_case
from medseg.prediction.predictions_file import PredictionsFile
from medseg.prediction.recipe_segmentation import segment_by_recipe
from medseg.prediction.result import Prediction, PredictResult
from medseg.prediction.statistics import STATISTICS, write_statistics_table
from medseg.progress import counted, say, track, warn


@dataclass(frozen=True)
class PredictionOptions:
    """What is asked about every case, beside the settings of the windows.

    Attributes:
        formats: In which masks are written; the usual one of each image where there are none.
        extras: What is written beside the masks: "probabilities", "uncertainty".
        registered: Channels on different grids show one place.
        memory_limits: What a case may take.
        reports: What is written of each beside the masks: "statistics", "preview".
    """

    formats: tuple[Format, ...] = ()
    extras: tuple[str, ...] = ()
    registered: bool = False
    memory_limits: MemoryLimits | None = None
    reports: tuple[str, ...] = ()


@dataclass(frozen=True)
class CasePredictor:
    """Predicts cases with a model, in three stages that may overlap: read, segment, write.

    Attributes:
        model: The network, or the members of a recipe, and what belongs to it.
        folder: Where masks, and the extras, are written.
        config: The settings of the windows; the members of a recipe have their own.
        options: What else is asked.
        file: Where the mask of a single case is written. Label maps are kept in memory without a folder and a file.
        copies: Warnings about cases that have the image of another, by case id.
    """

    model: Model | RecipeModel
    folder: Path | None
    config: InferenceConfig
    options: PredictionOptions = PredictionOptions()
    file: Path | None = None
    copies: Mapping[str, str] = field(default_factory=dict)

    def predict(self, case: Case) -> Prediction:
        """Returns the prediction of one case.

        Raises:
            MedsegError: The case cannot be read, segmented or written.
        """
        return self.write(self.segment(self.read(case)))

    def read(self, case: Case) -> Any:
        """Reads the images, once it is clear that masks can be written, and prepares them for a single network.

        Returns:
            What ``segment`` takes: a ``ReadCase``; for a recipe ``ReadImages``.
        """
        refusals = [format_.refusal(case.images[0]) for format_ in self._formats_of(case)]
        if self._is_written and all(refusals):  # before anything is computed
            raise OutputError("; ".join(refusals))
        read = self._read(case)
        copy = self.copies.get(case.case_id)
        return read if copy is None else replace(read, warnings=(*read.warnings, copy))

    def segment(self, case: Any) -> SegmentedCase:
        """Lets the network, or the members of a recipe, see a case, and postprocesses what they say.

        Args:
            case: What ``read`` returned.
        """
        if isinstance(self.model, RecipeModel):
            return segment_by_recipe(case, self.model, self.options.memory_limits)
        return segment_case(case, self.model, self.config, self.options.extras)

    def write(self, case: SegmentedCase) -> Prediction:
        """Writes the masks and certifies them, or keeps the label map."""
        formats = self._formats_of(case.case) if self._is_written else ()
        paths = {format_: self._path(format_, case.case.case_id) for format_ in formats}
        return write_case(case, self.model, paths, self.folder, self.options.reports)

    def _read(self, case: Case) -> Any:
        model, options = self.model, self.options
        if isinstance(model, RecipeModel):
            return read_case_images(case, model.record, model.tolerance, options.registered or model.registered)
        limit = None if options.memory_limits is None else options.memory_limits.of(model, self.config)
        return read_case(case, model, self.config, options.registered, limit)

    @property
    def _is_written(self) -> bool:
        return self.folder is not None or self.file is not None

    def _path(self, format_: Format, case_id: str) -> Path:
        return self.file or format_.path(self.folder or Path(), case_id)

    def _formats_of(self, case: Case) -> Sequence[Format]:
        return self.options.formats or [usual_format(case.images[0])]


def asked_reports(statistics: bool, preview: bool) -> tuple[str, ...]:
    """Returns the names of what is written of each case beside its masks.

    Args:
        statistics: Whether its structures are measured.
        preview: Whether a picture is drawn.
    """
    return tuple(name for name, asked in ((STATISTICS, statistics), (PREVIEW, preview)) if asked)


def predict_cases(
    predictor: CasePredictor, cases: Sequence[Case], problems: Sequence[Problem] = (), overwrite: bool = True
) -> PredictResult:
    """Predicts cases in their order; what fails becomes a problem.

    While the network sees a case, the next one is read, and the masks of the one before are written; with a limit of
    memory, which speaks of one case, nothing overlaps. predictions.json is written now and then, and at the end.

    Args:
        predictor: Predicts each case.
        cases: In the order of the result.
        problems: Of cases that were not even found whole; they stand in the result too.
        overwrite: Predict again what an earlier call has done.
    """
    predictions: list[Prediction] = []
    failed = list(problems)
    for problem in failed:
        warn(str(problem))
    options = predictor.options
    file = PredictionsFile.of(predictor.model, predictor.config, options.registered, predictor.folder, cases)
    done = [] if overwrite else file.done_before(cases, options.formats, (*options.extras, *options.reports))
    if done:
        say(f"{counted(len(done), 'case')} done before; --overwrite predicts them again")
    to_do = [case for case in cases if case.case_id not in done]

    def write(segmented_case: SegmentedCase) -> Prediction:
        prediction = predictor.write(segmented_case)
        predictions.append(prediction)
        if file.is_due:  # here, since the network may take long for the next case
            file.write([each.record for each in predictions], list(failed))
        return prediction

    overlapping = options.memory_limits is None
    outcomes = run_in_stages(predictor.read, predictor.segment, write, to_do, overlapping=overlapping)
    for outcome in track(outcomes, "Predicting", len(to_do)):
        case_id, path = outcome.item.case_id, outcome.item.images[0].path
        not_written = outcome.result.not_written if outcome.result else ()
        alone = [] if outcome.result else [outcome.problem(case_id, path)]
        for problem in (*alone, *(Problem(case_id, path, reason) for reason in not_written)):
            failed.append(problem)
            warn(str(problem))
    record = file.write([each.record for each in predictions], failed)
    if predictor.folder is not None and STATISTICS in options.reports:
        write_statistics_table(predictor.folder, [each.case_id for each in record.cases if STATISTICS in each.extras])
    output = predictor.file or predictor.folder
    labels, content = predictor.model.record.labels, record.as_json()
    return PredictResult(tuple(predictions), tuple(failed), labels, output, content, tuple(done))


def tell_model(model: Model | RecipeModel, config: InferenceConfig) -> None:
    """Says what predicts, and which of its rules may remove what is right: an older version chose them on few cases."""
    if isinstance(model, RecipeModel):
        by = f", by {model.backend}" if model.backend != "torch" else ""
        say(f"Predicting on {model.device} with {model.folder}: {', '.join(each.name for each in model.at_work)}{by}")
        return
    record = model.record
    if config.mirror and not record.plan.mirrored_axes:
        warn("The model was not trained on mirrored images, so nothing is averaged over them (augmentation.mirror)")
    by = "" if model.backend == "torch" else f", by {model.backend}"
    together = f", an ensemble of {len(model.members)}" if model.members else ""
    say(f"Predicting on {model.device} with {model.folder}{together}{by}")
    for rule in record.postprocessing:
        n = rule.chosen_on or record.validated_cases(rule.label)
        if n is None or n < LEAST_CASES:
            warn(
                f"The model postprocesses {rule}; an older version chose that on {n or 'an unknown number of'} cases, "
                f"where {LEAST_CASES} are needed, and it may remove what is right; --no-postprocessing leaves it out"
            )
