"""Something worth knowing about a source: what is odd or wrong, where, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medseg.dataset.image_warnings import ImageWarning
from medseg.errors import Problem
from medseg.inspection.repair import Repair
from medseg.io.archives import origin
from medseg.records import Record

# problem: 'preprocess' leaves it out, or cannot see it. warning: it is taken, and may be wrong. note: good to know.
Severity = Literal["problem", "warning", "note"]
DEFECT = "defect"  # the rule of what medseg itself stumbled over: not the user's fault
# What a finding may be no more than a consequence of.
CAUSES = {"unreadable": "wrong-suffix", "no-place": "lost-place"}
SEVERITIES: tuple[Severity, ...] = ("problem", "warning", "note")


class FindingRecord(Record):
    """A finding, as ``medseg inspect --json`` prints it.

    Attributes:
        severity: "problem", "warning" or "note".
        rule: The kind of finding, the same for all of its kind.
        path: The file or folder.
        case_id: The case; empty where it is of none.
        what: What is odd or wrong.
        to_do: What to do about it; empty where nothing is.
        fixable: Whether ``--fix`` puts it right in a copy.
    """

    severity: Severity
    rule: str
    path: str
    case_id: str
    what: str
    to_do: str
    fixable: bool


@dataclass(frozen=True)
class Finding:
    """Something worth knowing about a file; ``rule`` names the kind, the same for all of its kind:
    ``"empty-label-map"``."""

    severity: Severity
    rule: str
    path: Path
    what: str
    to_do: str = ""
    case_id: str = ""
    repair: Repair | None = None  # what ``--fix`` does about it

    def as_record(self) -> FindingRecord:
        """Returns an entry of what ``medseg inspect --json`` prints."""
        return FindingRecord(
            severity=self.severity,
            rule=self.rule,
            path=str(origin(self.path)),
            case_id=self.case_id,
            what=self.what,
            to_do=self.to_do,
            fixable=self.repair is not None,
        )


def problem_found(problem: Problem, rule: str, to_do: str) -> Finding:
    """Returns a problem that another part of medseg told of, with what to do where that did not say it.

    Args:
        problem: What was told.
        rule: The name of what was broken.
        to_do: What to do.
    """
    message = problem.message.removesuffix("; left out").removesuffix("; case left out")
    what, said = told(message, problem.path)
    return Finding("problem", rule, problem.path, what, said or to_do, problem.case_id)


def doubtful(doubt: ImageWarning) -> Finding:
    """Returns a warning about an image as a finding."""
    return Finding(doubt.severity, doubt.rule, doubt.path, doubt.what, doubt.to_do)


def told(message: str, path: Path) -> tuple[str, str]:
    """Returns what is wrong and what to do, of a message such as ``"PATH: is empty; leave it out"``."""
    text = message.removeprefix(str(origin(path))).lstrip(": ")
    what, separator, to_do = text.rpartition("; ")
    return (what, to_do) if separator else (text, "")


def findings_in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Returns the most severe first, alike together; what follows from another finding on the same file is left out."""
    ranks = {(finding.path, finding.rule): SEVERITIES.index(finding.severity) for finding in findings}
    told_once = {
        (finding.path, finding.rule, finding.what): finding
        for finding in findings
        if ranks.get((finding.path, CAUSES.get(finding.rule, "")), len(SEVERITIES)) > SEVERITIES.index(finding.severity)
    }
    return tuple(sorted(told_once.values(), key=lambda each: (SEVERITIES.index(each.severity), each.rule, each.path)))
