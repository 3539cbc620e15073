"""Something worth knowing about a source: what is odd or wrong, where, and what to do about it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medseg.dataset.image_warnings import ImageWarning
from medseg.errors import Problem
from medseg.inspection.repair import Repair
from medseg.io.archives import origin

# problem: 'preprocess' leaves it out, or cannot see it. warning: it is taken, and may be wrong. note: good to know.
Severity = Literal["problem", "warning", "note"]
DEFECT = "defect"  # the rule of what medseg itself stumbled over: not the user's fault
SEVERITIES: tuple[Severity, ...] = ("problem", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """``rule`` names the kind of finding, the same for all of its kind: ``"empty-label-map"``."""

    severity: Severity
    rule: str
    path: Path
    what: str
    to_do: str = ""
    case_id: str = ""
    repair: Repair | None = None  # what ``--fix`` does about it

    def as_json(self) -> dict[str, Any]:
        return {
            "severity": self.severity,
            "rule": self.rule,
            "path": str(origin(self.path)),
            "case_id": self.case_id,
            "what": self.what,
            "to_do": self.to_do,
            "fixable": self.repair is not None,
        }


def problem_found(problem: Problem, rule: str, to_do: str) -> Finding:
    """A problem that another part of medseg told of, with what to do where that did not say it."""
    message = problem.message.removesuffix("; left out").removesuffix("; case left out")
    what, said = told(message, problem.path)
    return Finding("problem", rule, problem.path, what, said or to_do, problem.case_id)


def doubtful(doubt: ImageWarning) -> Finding:
    return Finding(doubt.severity, doubt.rule, doubt.path, doubt.what, doubt.to_do)


def told(message: str, path: Path) -> tuple[str, str]:
    """What is wrong and what to do, of a message such as ``"PATH: is empty; leave it out"``."""
    text = message.removeprefix(str(origin(path))).lstrip(": ")
    what, separator, to_do = text.rpartition("; ")
    return (what, to_do) if separator else (text, "")
