"""study: the series of one DICOM study that models fit, segmented; masks as DICOM. For scripts, and as a container."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.device import choose_device
from medseg.errors import ConfigError, MedsegError, Problem
from medseg.files import ensure_folder
from medseg.progress import counted, say, warn
from medseg.workflows.fetch import fetched_if_remote

if TYPE_CHECKING:
    from medseg.pacs.series_choice import StudyPlan
    from medseg.pacs.settings import DicomSettings
    from medseg.prediction.result import Prediction


@dataclass(frozen=True)
class StudyResult:
    """What was done with a study.

    Attributes:
        plan: Which model sees which series, and why others see none.
        predictions: Of what was chosen, in that order; none of a dry run.
        problems: What failed.
    """

    plan: "StudyPlan"
    predictions: tuple["Prediction", ...] = ()
    problems: tuple[Problem, ...] = ()


def study(
    models: Sequence[str | Path] | Mapping[str, str | Path],
    source: str | Path | None = None,
    output: str | Path | None = None,
    *,
    settings: "DicomSettings | None" = None,
    device: str = "auto",
    backend: str = "auto",
    dry_run: bool = False,
) -> StudyResult:
    """Segments the series of a DICOM study that models fit; masks come out as DICOM.

    That is what ``serve`` does with each study that it receives. Without a source, folders are those that mercure
    (``MERCURE_IN_DIR``, ``MERCURE_OUT_DIR``) or MONAI Deploy (``HOLOSCAN_INPUT_PATH``, ``HOLOSCAN_OUTPUT_PATH``) set.

    Args:
        models: RUNs or model folders, or these by name.
        source: The folder of the study, or an address as ``fetch`` has it.
        output: The folder of the masks, ``MODEL_SERIES.seg.dcm``.
        settings: Of ``serve``; rules, formats and the limit of memory count here. mercure's settings of the module
            stand above them: ``formats``, ``rules``.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        backend: What runs the networks, as in ``predict``.
        dry_run: Only say which model would see which series.

    Returns:
        What was chosen and predicted, and what failed.

    Raises:
        ConfigError: A setting is wrong, or no study is given.
        MedsegError: A model or the study cannot be read.
    """
    from medseg.pacs.container import Contract, contract_of_environment
    from medseg.pacs.series_choice import study_plan
    from medseg.pacs.settings import DicomSettings, changed_settings
    from medseg.pacs.worker import predictor_of
    from medseg.serve.models import served_models

    if source is None:
        contract = contract_of_environment()
    elif output is None and not dry_run:
        raise ConfigError("masks need a place; give a folder with -o")
    else:
        contract = Contract("", Path(fetched_if_remote(source, output)), Path(output or "."))
    chosen = changed_settings(settings or DicomSettings(), contract.settings)
    offered = served_models(models, choose_device(device), backend)
    chosen.checked(tuple(offered), is_local=True)
    plan = study_plan(contract.source, {name: model.record for name, model in offered.items()}, chosen.rules)
    _tell(plan)
    if dry_run:
        return StudyResult(plan)
    folder = ensure_folder(contract.output)
    predictions, problems = [], []
    for choice in plan.choices:
        try:
            prediction = predictor_of(offered[choice.model], chosen, folder).predict(choice.case)
        except MedsegError as error:
            problems.append(Problem(choice.case.case_id, choice.case.images[0].path, str(error)))
            warn(str(problems[-1]))
            continue
        predictions.append(prediction)
        problems += [Problem(prediction.case_id, prediction.source, reason) for reason in prediction.not_written]
    n_masks = sum(len(each.masks) for each in predictions)
    text = f"{counted(n_masks, 'mask')} written{f', {len(problems)} failed' if problems else ''}"
    volumes = {each.case_id: each.volumes_ml for each in predictions}
    contract.tell_result(plan.reason or text, {"volumes_ml": volumes, "problems": [each.message for each in problems]})
    say(f"{text} in {folder}")
    return StudyResult(plan, tuple(predictions), tuple(problems))


def _tell(plan: "StudyPlan") -> None:
    for choice in plan.choices:
        say(f"{choice.model} sees {choice.reason}")
    for name, reason in plan.refusals.items():
        say(f"{name} sees nothing: {reason}")
    for note in plan.notes:
        say(f"  {note}")
