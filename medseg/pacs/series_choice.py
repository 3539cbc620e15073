"""Which series of a study a model is run on: those that rules name, else the one that the model fits best."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

import numpy as np
from pydicom import config

from medseg.dataset.cases import Case
from medseg.dataset.spacing import shown_spacing
from medseg.errors import MedsegError
from medseg.inferers.model_record import ModelRecord
from medseg.inferers.recipe import Recipe
from medseg.io.dicom.header import Header
from medseg.io.dicom.series import dicom_geometry
from medseg.io.discover import image_sources
from medseg.io.read import read_volume
from medseg.io.source import ImageSource
from medseg.pacs.log import reason_without_names
from medseg.pacs.received import series_name, token_of
from medseg.pacs.settings import Orientation, SeriesFilter, SeriesRule
from medseg.prediction.case_writing import MODALITIES
from medseg.progress import counted
from medseg.transforms.extremes import without_extremes
from medseg.transforms.intensities import profile, quantiles, unlike
from medseg.volume import Geometry

# Series of fewer slices than this are no volumes for a network that sees three dimensions.
LEAST_SLICES = 4
PLANES: tuple[Orientation, ...] = ("sagittal", "coronal", "axial")  # by the axis that slices are counted along


@dataclass(frozen=True)
class Candidate:
    """A volume of a study, with what its headers say.

    Attributes:
        source: Where its voxels come from.
        name: What it is called in the log: the start of its series' name in the queue, and its part.
        geometry: Its grid.
        header: Of its first slice.
    """

    source: ImageSource
    name: str
    geometry: Geometry
    header: Header

    @property
    def n_slices(self) -> int:
        """The number of slices: voxels along the third array axis."""
        return self.geometry.shape[2]

    @property
    def orientation(self) -> Orientation:
        """The plane that the slices are nearest to: axial, coronal or sagittal."""
        normal = np.abs(self.geometry.affine[:3, 2])
        return PLANES[int(normal.argmax())]

    def __str__(self) -> str:
        spacing = shown_spacing(self.geometry.spacing)
        return f"{self.name} ({self.source.modality}, {counted(self.n_slices, 'slice')}, {spacing} mm)"


@dataclass(frozen=True)
class SeriesChoice:
    """What a model is run on.

    Attributes:
        model: Its name.
        case: The images, a channel each.
        reason: Why these, in one line.
    """

    model: str
    case: Case
    reason: str


@dataclass(frozen=True)
class StudyPlan:
    """What is to be done with a study.

    Attributes:
        choices: What is predicted.
        refusals: Why a model is not run, by its name.
        notes: What of the study is no image, or cannot be read.
    """

    choices: tuple[SeriesChoice, ...]
    refusals: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Why nothing is predicted, in one line; empty where something is."""
        if self.choices:
            return ""
        return "; ".join(f"{model}: {reason}" for model, reason in self.refusals.items()) or "there is no model"


Records = dict[str, ModelRecord | Recipe]


def study_plan(folder: Path, models: Records, rules: Sequence[SeriesRule] = (), caller: str = "") -> StudyPlan:
    """Returns which models are run on which series of a study.

    Args:
        folder: Of the study.
        models: The records of the models, by name.
        rules: What the site says; a model without a rule takes the series that it fits best.
        caller: The AE title that sent the study.
    """
    found = image_sources(folder)
    files = [source.files[0] for source in found.sources]
    notes = [reason_without_names(problem.message, files) for problem in found.problems]
    candidates = []
    for source in found.sources:
        if source.kind != "dicom":
            continue
        try:
            candidates.append(_candidate(source))
        except MedsegError as error:
            notes.append(f"{_name_of(source)}: {reason_without_names(error, files)}")
    choices: list[SeriesChoice] = []
    refusals: dict[str, str] = {}
    for name, record in models.items():
        chosen = _choices(name, record, candidates, [rule for rule in rules if rule.model == name], caller)
        if isinstance(chosen, str):
            refusals[name] = chosen
        else:
            choices += chosen
    return StudyPlan(tuple(choices), refusals, tuple(notes))


def _choices(
    model: str, record: ModelRecord | Recipe, candidates: Sequence[Candidate], rules: Sequence[SeriesRule], caller: str
) -> list[SeriesChoice] | str:
    """Returns what a model is run on, or why on nothing."""
    if not candidates:
        return "the study has no image that can be read"
    refusal = "no rule is for this caller"
    for rule in (
        [each for each in rules if not each.callers or caller in each.callers] if rules else [SeriesRule(model=model)]
    ):
        chosen = _by_rule(rule, record, candidates, is_given=bool(rules))
        if not isinstance(chosen, str):
            return chosen
        refusal = chosen
    return refusal


def _by_rule(
    rule: SeriesRule, record: ModelRecord | Recipe, candidates: Sequence[Candidate], is_given: bool
) -> list[SeriesChoice] | str:
    if len(record.channels) > 1:
        return _of_several_channels(rule, record, candidates)
    taken = [each for each in candidates if fits(each, rule.series)]
    if not taken:
        return f"none of {counted(len(candidates), 'series')} is what its rule says"
    judged = [(each, _misfit(each, record, is_given)) for each in taken]
    fitting = sorted(
        ((misfit, each) for each, misfit in judged if not isinstance(misfit, str)), key=lambda pair: pair[0]
    )
    if rule.take == "all" and fitting:
        return [_choice(rule.model, [each], "taken by its rule") for _, each in fitting]
    refused = [f"{each}: {misfit}" for each, misfit in judged if isinstance(misfit, str)]
    for misfit, each in fitting:
        odd = _odd_values(each, record)
        if odd and not is_given:
            refused.append(f"{each}: {odd}")
            continue
        how = "the only one that fits" if len(fitting) == 1 else f"fits best of {len(fitting)} (misfit {misfit:.2f})"
        return [_choice(rule.model, [each], f"{how}{', of those that its rule takes' if is_given else ''}")]
    return "; ".join(refused[:3]) + (f"; and {len(refused) - 3} more" if len(refused) > 3 else "")


def _of_several_channels(
    rule: SeriesRule, record: ModelRecord | Recipe, candidates: Sequence[Candidate]
) -> list[SeriesChoice] | str:
    """Returns the case of a model of several channels: each is found by its rule, else by its name.

    The name of a channel is a modality, or stands in the description of the series.
    """
    chosen: list[Candidate] = []
    for channel in record.channels:
        asked = rule.channels.get(channel) or _named(channel)
        fitting = [each for each in candidates if fits(each, asked) and each not in chosen and not each.source.derived]
        if not fitting:
            return f"no series is its channel {channel}; name it by 'channels' in a rule"
        chosen.append(max(fitting, key=lambda each: each.n_slices))
    return [_choice(rule.model, chosen, f"its {len(chosen)} channels were found")]


def _named(channel: str) -> SeriesFilter:
    if channel.upper() in MODALITIES:
        return SeriesFilter(modality=(MODALITIES[channel.upper()],))
    return SeriesFilter(description=rf"(?<![a-z0-9]){re.escape(channel)}(?![a-z0-9])")


def fits(candidate: Candidate, asked: SeriesFilter) -> bool:
    """Says whether a series is what a filter asks for; what its header does not say, it is not."""
    header = candidate.header
    with config.disable_value_validation():
        thickness = header.number_if_any("SliceThickness") or candidate.geometry.spacing[2]
        types = {text.upper() for text in header.texts("ImageType")}
        return (
            _is_one_of(header.text("Modality"), asked.modality)
            and _is_one_of(header.text("BodyPartExamined"), asked.body_part)
            and _is_found(asked.description, header.text("SeriesDescription"))
            and _is_found(asked.study_description, header.text("StudyDescription"))
            and asked.orientation in (None, candidate.orientation)
            and (asked.thickness_mm is None or asked.thickness_mm[0] <= thickness <= asked.thickness_mm[1])
            and {text.upper() for text in asked.image_type} <= types
            and candidate.n_slices >= asked.least_slices
        )


def _is_one_of(value: str, asked: Sequence[str]) -> bool:
    return not asked or value.upper() in {each.upper() for each in asked}


def _is_found(expression: str | None, value: str) -> bool:
    return expression is None or re.search(expression, value, re.IGNORECASE) is not None


def _misfit(candidate: Candidate, record: ModelRecord | Recipe, is_given: bool) -> float | str:
    """Returns how far a series is from what the model was trained on, or why it cannot be run on it.

    That is the sum over the axes of how many times finer or coarser its voxels are, and half as much of how many times
    smaller or larger the image is, both as natural logarithms.
    """
    source, channel = candidate.source, record.channels[0]
    trained, shown = MODALITIES.get(channel.upper()), MODALITIES.get(source.modality.upper(), source.modality)
    if trained and shown != trained and not is_given:
        return f"is {shown or 'of no modality'}, the model was trained on {trained}"
    if source.derived and not is_given:
        return f"is {source.derived}"
    if not isinstance(record, ModelRecord):
        return 1.0 / candidate.n_slices
    plan = record.plan
    if plan.dims == 3 and candidate.n_slices < LEAST_SLICES:
        return f"has {counted(candidate.n_slices, 'slice')}, the model sees volumes"
    geometry = plan.grid.oriented(candidate.geometry)
    misfit = sum(
        abs(log(mine / wanted))
        for axis, (mine, wanted) in enumerate(zip(geometry.spacing, plan.grid.spacing, strict=True))
        if axis not in plan.grid.own_spacing
    )
    if plan.median_shape is not None:
        usual = [n * mm for n, mm in zip(plan.median_shape, plan.grid.spacing, strict=True)]
        extents = [n * mm for n, mm in zip(geometry.shape, geometry.spacing, strict=True)]
        misfit += 0.5 * sum(abs(log(mine / theirs)) for mine, theirs in zip(extents, usual, strict=True))
    return misfit


def _odd_values(candidate: Candidate, record: ModelRecord | Recipe) -> str:
    """Returns what is odd about the values of a series against those of training; "" where nothing is."""
    if not isinstance(record, ModelRecord) or not record.usual_values:
        return ""
    try:
        array = read_volume(candidate.source).array
    except MedsegError as error:
        return reason_without_names(error, candidate.source.files[:1])
    array, oddities = without_extremes(array, record.plan.grid.normalization)
    if oddities:
        return next(iter(oddities.values()))
    rule = record.plan.grid.normalization[0]
    return unlike(profile(quantiles(array[0]), rule), record.usual_values[0]) or ""


def _choice(model: str, images: Sequence[Candidate], reason: str) -> SeriesChoice:
    sources = tuple(image.source for image in images)
    case = Case(f"{model}_{images[0].name}", sources)
    return SeriesChoice(model, case, f"{' and '.join(map(str, images))}, {reason}")


def _candidate(source: ImageSource) -> Candidate:
    return Candidate(source, _name_of(source), dicom_geometry(source), read_rule_header(source.files[0]))


def read_rule_header(path: Path) -> Header:
    """Returns what rules ask of a file."""
    from pydicom import dcmread

    keywords = ("Modality", "BodyPartExamined", "SeriesDescription", "StudyDescription", "SliceThickness", "ImageType")
    with config.disable_value_validation():
        return Header(path, dcmread(path, stop_before_pixels=True, specific_tags=list(keywords), force=True))


def _name_of(source: ImageSource) -> str:
    """Returns a name by the series' UID: names of folders may be UIDs, which begin alike."""
    return series_name(token_of(source.series_uid), source.part)
