"""What jobs of a batch system get: the file of settings behind ``--cluster slurm:``."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt, StringConstraints

from medseg.errors import ConfigError
from medseg.records import Record, read_yaml, validated

ADVICE = "see 'A SLURM cluster' in the documentation for what it may say"

# What is written into a job's script stays in its line.
Line = Annotated[str, StringConstraints(pattern=r"^[^\r\n\x00]*$", strip_whitespace=True)]


class JobSettings(Record):
    """The file of settings behind ``--cluster slurm:``: what a job gets, and how many there are.

    Attributes:
        jobs: How many jobs work at a time, each with one worker.
        cores: Of a job.
        memory: Of a job.
        gpus: Of a job.
        time: Of a job, as the batch system writes it. Jobs that come to its end are replaced.
        partition: Or queue.
        account: Or project.
        options: Further options of a job, as ``--qos=high`` on SLURM.
        setup: Lines of shell before the worker starts, as ``module load cuda``.
        python: The interpreter on the nodes, with the same medseg. None: the one that this is.
        interface: The network between the nodes, as ``ib0``. None: the usual one.
        folder: For the output of jobs, and their certificates; all nodes see it, and nobody else can read it.
    """

    jobs: PositiveInt = 4
    cores: PositiveInt = 4
    memory: Annotated[Line, Field(pattern=r"^\d+(\.\d+)? ?[KMGTkmgt]i?[Bb]$")] = "16GB"
    gpus: Annotated[int, Field(ge=0)] = 0
    time: Annotated[Line, Field(pattern=r"^[0-9:-]+$")] = "04:00:00"
    partition: Line | None = None
    account: Line | None = None
    options: tuple[Line, ...] = ()
    setup: tuple[Line, ...] = ()
    python: Line | None = None
    interface: Line | None = None
    folder: Path = Path("~/.medseg/jobs")


def read_job_settings(path: Path | None) -> JobSettings:
    """Returns the settings of jobs in a YAML file.

    Args:
        path: The file; None: the defaults.

    Raises:
        ConfigError: It cannot be read, or says something that is not known.
    """
    if path is None:
        return JobSettings()
    return validated(read_yaml(path, ADVICE, ConfigError) or {}, JobSettings, path, ADVICE, ConfigError)
