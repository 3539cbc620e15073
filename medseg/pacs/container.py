"""The folders and settings that mercure and MONAI Deploy hand to a program that they start for a study."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.errors import ConfigError
from medseg.files import write_json
from medseg.records import read_object

# Variables of the folders that studies come in and results go to, by who starts the program.
# mercure: app/process/process_series.py; MONAI Deploy: MAP specification, 0.1 and Holoscan's.
CONTRACTS = {
    "mercure": ("MERCURE_IN_DIR", "MERCURE_OUT_DIR"),
    "MONAI Deploy": ("HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH"),
    "MONAI Deploy's older versions": ("MONAI_INPUTPATH", "MONAI_OUTPUTPATH"),
}
TASK, RESULT = "task.json", "result.json"


@dataclass(frozen=True)
class Contract:
    """Where a program that was started for a study finds it, and where results are expected.

    Attributes:
        name: Who started it: a key of ``CONTRACTS``.
        source: The folder of the study.
        output: The folder of the results.
    """

    name: str
    source: Path
    output: Path

    @property
    def settings(self) -> Mapping[str, Any]:
        """What mercure's task.json says to the module; none where it says nothing.

        Raises:
            SourceError: The file is no JSON.
        """
        task = self.source / TASK
        if self.name != "mercure" or not task.is_file():
            return {}
        process = read_object(task).get("process", {})
        first = process[0] if isinstance(process, list) and process else process
        settings = first.get("settings") if isinstance(first, dict) else None
        return settings if isinstance(settings, dict) else {}

    def tell_result(self, text: str, details: Mapping[str, Any]) -> None:
        """Writes result.json for mercure, which shows the text to whom it notifies; nothing for others.

        Args:
            text: In one line.
            details: Beside it.

        Raises:
            OutputError: It cannot be written.
        """
        if self.name == "mercure":
            notification = {"text": text, "requested": True}
            write_json(self.output / RESULT, {**details, "__mercure_notification": notification})


def contract_of_environment() -> Contract:
    """Returns the contract that the environment's variables make.

    Raises:
        ConfigError: They make none.
    """
    for name, (of_source, of_output) in CONTRACTS.items():
        source, output = os.environ.get(of_source), os.environ.get(of_output)
        if source and output:
            return Contract(name, Path(source), Path(output))
    pairs = ", or ".join(" and ".join(pair) for pair in CONTRACTS.values())
    raise ConfigError(f"no study is given; give STUDY and -o FOLDER, or set {pairs}")
