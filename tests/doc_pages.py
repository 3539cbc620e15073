"""Pages of the documentation as tests read them: their blocks of code, and what makes trainings of theirs short."""

import re

TWO_STEPS = ["--epochs", "1", *(word for setting in (
    "training.steps_per_epoch=2", "training.batch_size=2", "training.fit_inference=false", "training.threads=2",
    ) for word in ("--set", setting))]  # fmt: skip


def blocks(text: str, language: str = "sh") -> list[str]:
    """The blocks of code in a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
