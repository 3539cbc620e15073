"""Many cases: in stages that overlap, or on workers elsewhere; what fails becomes a problem."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from medseg.dataset.cases import Case
from medseg.errors import Problem
from medseg.evaluation.predictions_json import Predictions
from medseg.outcome import Outcome
from medseg.parallel import run_in_stages
from medseg.prediction.case_on_worker import RemotePredictor
from medseg.prediction.case_predictor import CasePredictor
from medseg.prediction.case_segmentation import SegmentedCase
from medseg.prediction.large_case import LargeCases
from medseg.prediction.predictions_file import PredictionsFile
from medseg.prediction.radiomics import RADIOMICS, write_radiomics_table
from medseg.prediction.result import Prediction, PredictResult
from medseg.prediction.statistics import STATISTICS, write_statistics_table
from medseg.progress import counted, say, track, warn


def predict_cases(
    predictor: CasePredictor,
    cases: Sequence[Case],
    problems: Sequence[Problem] = (),
    overwrite: bool = True,
    remote: RemotePredictor | None = None,
) -> PredictResult:
    """Predicts cases; what fails becomes a problem. The result has them in their order, whichever is done first.

    Here, while the network sees a case, the next one is read, and the masks of the one before are written; with a limit
    of memory, which speaks of one case, nothing overlaps. predictions.json is written now and then, and at the end.

    Args:
        predictor: Predicts each case.
        cases: In the order of the result.
        problems: Of cases that were not even found whole; they stand in the result too.
        overwrite: Predict again what an earlier call has done.
        remote: Predicts each case in place of ``predictor``, on workers elsewhere.
    """
    account = _Account(predictor, cases, problems, remote)
    done = account.done_before(overwrite)
    to_do = [case for case in cases if case.case_id not in done]
    call = account.file.call.model_copy(update={"asked": ()})
    large = LargeCases(predictor, call, remote)
    parts: tuple[list[Case], list[Case]] = ([], [])
    for case in to_do:
        parts[large.takes(case)].append(case)
    others, in_blocks = parts
    of_others = account.stages(others) if remote is None else account.added(remote.outcomes(others, call))
    outcomes = chain(of_others, account.added(large.outcomes(in_blocks)))
    try:
        for outcome in track(outcomes, "Predicting", len(to_do)):
            account.see(outcome)
    finally:  # whatever came between: workers go on to write, and what they did is accounted for
        record = account.write()
    for name, write_table in ((STATISTICS, write_statistics_table), (RADIOMICS, write_radiomics_table)):
        if predictor.folder is not None and name in predictor.options.reports:
            write_table(predictor.folder, [each.case_id for each in record.cases if name in each.extras])
    output = predictor.file or predictor.folder
    labels, failed = predictor.model.record.labels, account.failed
    return PredictResult(account.in_order, tuple(failed), labels, output, record.as_json(), tuple(done))


class _Account:
    """What became of the cases of a call so far, and its predictions.json."""

    def __init__(
        self,
        predictor: CasePredictor,
        cases: Sequence[Case],
        problems: Sequence[Problem],
        remote: RemotePredictor | None,
    ) -> None:
        self.predictor, self.cases, self.problems = predictor, cases, problems
        self.predictions: list[Prediction] = []
        self.of_cases: dict[str, list[Problem]] = {}  # by case id
        for problem in problems:
            warn(str(problem))
        place = None if remote is None else remote.place()
        registered = predictor.options.registered
        self.file = PredictionsFile.of(predictor.model, predictor.config, registered, predictor.folder, cases, place)

    @property
    def failed(self) -> list[Problem]:
        """The problems so far, in the order of the cases."""
        return [*self.problems, *(each for case in self.cases for each in self.of_cases.get(case.case_id, ()))]

    @property
    def in_order(self) -> tuple[Prediction, ...]:
        """The predictions so far, in the order of the cases."""
        place = {case.case_id: i for i, case in enumerate(self.cases)}
        return tuple(sorted(self.predictions, key=lambda each: place[each.case_id]))

    def done_before(self, overwrite: bool) -> list[str]:
        """Returns the ids of cases that stay as they are."""
        options = self.predictor.options
        done = (
            [] if overwrite else self.file.done_before(self.cases, options.formats, (*options.extras, *options.reports))
        )
        if done:
            say(f"{counted(len(done), 'case')} done before; --overwrite predicts them again")
        return done

    def stages(self, cases: Sequence[Case]) -> Iterator[Outcome[Case, Prediction]]:
        """Yields the outcomes of cases that this process predicts."""

        def write(segmented_case: SegmentedCase) -> Prediction:
            prediction = self.predictor.write(segmented_case)
            self._add(prediction)  # here, since the network may take long for the next case
            return prediction

        overlapping = self.predictor.options.memory_limits is None
        predictor = self.predictor
        yield from run_in_stages(predictor.read, predictor.segment, write, cases, overlapping=overlapping)

    def added(self, outcomes: Iterable[Outcome[Case, Prediction]]) -> Iterator[Outcome[Case, Prediction]]:
        """Yields outcomes, once their predictions are accounted for."""
        for outcome in outcomes:
            if outcome.result is not None:
                self._add(outcome.result)
            yield outcome

    def see(self, outcome: Outcome[Case, Prediction]) -> None:
        """Notes and tells the problems of a case that is done."""
        case_id, path = outcome.item.case_id, outcome.item.images[0].path
        not_written = outcome.result.not_written if outcome.result else ()
        alone = [] if outcome.result else [outcome.problem(case_id, path)]
        found = [*alone, *(Problem(case_id, path, reason) for reason in not_written)]
        self.of_cases[case_id] = found
        for problem in found:
            warn(str(problem))

    def write(self) -> Predictions:
        """Writes predictions.json, where there is a folder, and returns its content."""
        return self.file.write([each.record for each in self.predictions], self.failed)

    def _add(self, prediction: Prediction) -> None:
        self.predictions.append(prediction)
        if self.file.is_due:
            self.write()
