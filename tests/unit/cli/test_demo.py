"""What the demo says of its own result."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from medseg.cli.demo import USUAL_STEPS, verdict
from medseg.workflows.demo import DemoResult


@dataclass
class Result:
    dice: dict[str, float]
    steps: int = USUAL_STEPS[3]
    dims: Literal[2, 3] = 3
    folder: Path = field(default=Path("medseg-demo"))


def told(result: Result) -> list[str]:
    return verdict(cast(DemoResult, result))


def test_a_result_that_is_printed_as_usual_is_usual() -> None:
    """.895 is printed as 0.90, which is what is usual."""
    assert len(told(Result({"liver": 0.8951, "spleen": 0.8951}))) == 1


def test_a_worse_result_says_where_to_look() -> None:
    assert told(Result({"liver": 0.9, "spleen": 0.6}))[1].endswith("medseg-demo/run/report.html has the curves")
    assert "There was time for 5 steps" in told(Result({"liver": 0.9, "spleen": 0.6}, steps=5))[1]
