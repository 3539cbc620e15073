"""The rules that a model gets from the cases that it was not trained on: postprocessing, and which cases to review."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from medseg.dataset.store import PreparedDataset
from medseg.evaluation.evaluation import Evaluation
from medseg.evaluation.pairs import find_pairs
from medseg.evaluation.reading import read_pair
from medseg.inferers.model_record import read_model_record, write_model_record
from medseg.inferers.review import HeldBack, learn_review
from medseg.metrics.lesions import Lesions, match_lesions
from medseg.postprocessing.choosing import DICE, LEAST_CASES, Held, Objective, choose_rules
from medseg.progress import say
from medseg.setting_types import METRIC_NAMES, ValidationMetric
from medseg.training.run import Run
from medseg.volume import Array


def _of_lesions(metric: ValidationMetric, value_of: Callable[[Lesions], float | None]) -> Objective:
    """Returns a metric of lesions; 1 where there are none in either mask."""

    def measure(mask: Array, reference: Array) -> float:
        value = value_of(match_lesions(mask, reference))
        return 1.0 if value is None else value

    return Objective(METRIC_NAMES[metric], measure, spares_lesions=True)


# By what else than Dice postprocessing is chosen, where the best weights were.
OBJECTIVES = {
    "lesion_f1": _of_lesions("lesion_f1", lambda lesions: lesions.f1),
    "panoptic_quality": _of_lesions("panoptic_quality", lambda lesions: lesions.panoptic_quality),
}


def learn_rules(
    runs: Sequence[Run],
    cases: Sequence[str],
    model: Path,
    evaluation: Evaluation,
    expected: Mapping[str, Mapping[str, float]],
) -> None:
    """Learns postprocessing, and which cases to review, from held-back cases; neither where these were trained on.

    Args:
        runs: One, or one a fold.
        cases: Those that were validated.
        model: The model, or of an ensemble the one that has its record.
        evaluation: Of the masks of these cases.
        expected: Dice by case and label, as the probabilities say.
    """
    if any(set(run.split.validation) & set(run.split.training) for run in runs):
        say("Validated on cases that were trained on, so neither postprocessing nor rules for review are chosen")
        return
    choose_postprocessing(model, evaluation.masks.predictions, runs[0].dataset, cases, runs[0].config.training.metric)
    learn_to_review(model, evaluation, expected)


def choose_postprocessing(
    model: Path, masks: Path, dataset: PreparedDataset, cases: Sequence[str], metric: ValidationMetric = "dice"
) -> None:
    """Writes the rules that help into the model's folder.

    Of fewer than ten cases nothing is chosen. Not where labels lie in regions: what is taken from a label would leave a
    hole in these.

    Args:
        model: The model, or an ensemble.
        masks: What it, or for an ensemble the member that didn't see the case, predicted.
        dataset: The prepared cases.
        cases: Those that were not trained on.
        metric: By what the best weights were chosen. Where it is one of lesions, the rules are chosen by it, too, and
            only from those that spare lesions: by Dice, lesions as small as specks would be removed with these.
    """
    record = read_model_record(model)
    if record.labels.regions:
        return
    if len(cases) < LEAST_CASES:
        say(f"No postprocessing is chosen: that takes {LEAST_CASES} held-back cases, and there are {len(cases)}")
        return
    tolerance = record.plan.grid.tolerance

    def held_back() -> Iterator[Held]:
        for pair in find_pairs(masks, dataset.folder, cases).pairs:
            if pair.prediction is None:  # it could not be predicted
                continue
            predicted, reference = read_pair(pair, tolerance)
            encode = record.labels.encode
            yield Held(
                encode(predicted.label_map),
                encode(reference.label_map),
                predicted.geometry.voxel_volume_ml,
                pair.reference.annotated,
            )

    choices = choose_rules(held_back(), record.labels.names, OBJECTIVES.get(metric, DICE))
    for choice in choices:
        say(f"Postprocessing from now on: {choice}")
    chosen = {
        "postprocessing": tuple(choice.rule for choice in choices),
        "metrics": {**record.metrics, "postprocessing": [str(choice) for choice in choices]},
    }
    write_model_record(model, record.model_copy(update=chosen))


def learn_to_review(model: Path, evaluation: Evaluation, expected: Mapping[str, Mapping[str, float]]) -> None:
    """Writes the rules for which cases to look at into the model's folder.

    ``evaluation`` and ``expected`` Dice, by case and label, are those of the cases that were not trained on, before
    postprocessing.
    """
    review = learn_review(
        [
            HeldBack(
                case_id=record.case_id,
                label=record.label,
                expected_dice=expected.get(record.case_id, {}).get(record.label),
                dice=record.values["dice"],
                predicted_ml=record.values["prediction_ml"] or 0.0,
                reference_ml=record.values["reference_ml"] or 0.0,
            )
            for record in evaluation.records
        ]
    )
    if review is not None and review.check is not None:
        say(f"Cases to review from now on are told by 'predict': {review.check}")
    write_model_record(model, read_model_record(model).model_copy(update={"review": review}))
