"""One case: read, segment, write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medseg.config import InferenceConfig
from medseg.dataset.cases import Case
from medseg.errors import OutputError
from medseg.evaluation.predictions_json import PROBABILITIES
from medseg.extras import check_installed
from medseg.inferers.memory_plan import MemoryLimits
from medseg.inferers.model import Model
from medseg.inferers.recipe_model import RecipeModel
from medseg.io.mask_formats import Format, usual_format
from medseg.postprocessing.choosing import LEAST_CASES
from medseg.prediction.case_reading import read_case, read_case_images
from medseg.prediction.case_segmentation import UNCERTAINTY, SegmentedCase, segment_case
from medseg.prediction.case_writing import PREVIEW, write_case
from medseg.prediction.radiomics import RADIOMICS
from medseg.prediction.recipe_segmentation import segment_by_recipe
from medseg.prediction.result import Prediction
from medseg.prediction.statistics import STATISTICS
from medseg.progress import say, warn


@dataclass(frozen=True)
class PredictionOptions:
    """What is asked about every case, beside the settings of the windows.

    Attributes:
        formats: In which masks are written; the usual one of each image where there are none.
        extras: What is written beside the masks: "probabilities", "uncertainty".
        registered: Channels on different grids show one place.
        memory_limits: What a case may take.
        reports: What is written of each beside the masks: "statistics", "preview".
        blocks: Whether cases are predicted block by block; None: those that do not fit into memory are.
    """

    formats: tuple[Format, ...] = ()
    extras: tuple[str, ...] = ()
    registered: bool = False
    memory_limits: MemoryLimits | None = None
    reports: tuple[str, ...] = ()
    blocks: bool | None = None


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
        paths = {format_: self.path(format_, case.case.case_id) for format_ in formats}
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

    def path(self, format_: Format, case_id: str) -> Path:
        """Returns where the mask of a case goes in a format."""
        return self.file or format_.path(self.folder or Path(), case_id)

    def _formats_of(self, case: Case) -> Sequence[Format]:
        return self.options.formats or [usual_format(case.images[0])]


def asked_maps(probabilities: bool, uncertainty: bool) -> tuple[str, ...]:
    """Returns the names of the maps that are written of each case beside its masks.

    Args:
        probabilities: Whether the probability of each label is.
        uncertainty: Whether the entropy of the probabilities is.
    """
    return tuple(name for name, asked in ((PROBABILITIES, probabilities), (UNCERTAINTY, uncertainty)) if asked)


def asked_reports(statistics: bool, radiomics: bool, preview: bool) -> tuple[str, ...]:
    """Returns the names of what is written of each case beside its masks.

    Args:
        statistics: Whether its structures are measured.
        radiomics: Whether radiomics features are computed of them.
        preview: Whether a picture is drawn.

    Raises:
        ConfigError: What computes radiomics features is not installed.
    """
    if radiomics:
        check_installed("radiomics", "radiomics")
    asked = {STATISTICS: statistics, RADIOMICS: radiomics, PREVIEW: preview}
    return tuple(name for name, is_asked in asked.items() if is_asked)


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
