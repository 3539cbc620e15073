"""A training as a job of SLURM: one network on one node or several, that goes on when the time of the job is over."""

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from medseg.cluster.job_settings import JobSettings, read_job_settings
from medseg.cluster.local import environment
from medseg.config import Config
from medseg.errors import ConfigError, OutputError, printable
from medseg.files import ensure_folder, write_text

SCRIPT = "train.sh"
SETTINGS = "settings.yaml"
LOG = "train.log"

SECONDS_TO_STOP = 120  # before the end of its time a job is told, and writes a checkpoint

# torchrun stops all processes after the same step when it is told to end. Then, if the run is not done, and the job was
# told and did not fail, it goes back into the queue.
BODY = """
cd {folder}
start=({start})
again=({again})
arguments=("${{start[@]}}")
if [ -e {output}/run.json ] || [ -e {output}/fold_0/run.json ]; then arguments=("${{again[@]}}"); fi
if [ -e {output}/report.html ]; then echo "The run is finished."; exit 0; fi
ends=$(squeue -h -j "$SLURM_JOB_ID" -o %e 2>/dev/null)  # a date, or that there is no end
end=$([ -n "$ends" ] && date +%s -d "$ends" 2>/dev/null || echo 9999999999)
first=$(hostname)  # this script runs on the first node
srun --kill-on-bad-exit=0 {python} -m torch.distributed.run \\
    --nnodes "$SLURM_NNODES" --nproc-per-node {processes} --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" \\
    --rdzv-endpoint "$first:$((20000 + SLURM_JOB_ID % 20000))" --shutdown-timeout {shutdown} \\
    -m medseg train "${{arguments[@]}}"
status=$?
if [ ! -e {output}/report.html ] && [ "$(date +%s)" -ge $((end - {told} - 5)) ]; then
    echo "The time of the job is over; it goes back into the queue, and on from its checkpoint."
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
"""


@dataclass(frozen=True)
class TrainingCommand:
    """What ``medseg train`` is to do in a job.

    Attributes:
        prepared: The folder of the cases.
        output: The folder of the run.
        dims: 2 or 3; None: 3.
        config: All settings.
        device: By its name on the command line.
        plugins: Files that are loaded before.
    """

    prepared: Path
    output: Path
    dims: int | None
    config: Config
    device: str = "auto"
    plugins: tuple[Path, ...] = ()

    def arguments(self, resume: bool) -> list[str]:
        """Returns the arguments of ``medseg train``.

        Args:
            resume: Whether the run goes on.
        """
        given = [str(self.prepared.absolute()), "-o", str(self.output.absolute()), "--device", self.device]
        given += [f"--plugin={file.absolute()}" for file in self.plugins]
        if resume:
            return [*given, "--resume"]
        dims = [] if self.dims is None else ["--dims", str(self.dims)]
        return [*given, *dims, "--config", str(self.output.absolute() / SETTINGS)]


def job_script(command: TrainingCommand, cluster: str | None, nodes: int) -> str:
    """Returns the script of a job that trains one network on so many nodes.

    Args:
        command: What is trained.
        cluster: ``"slurm"`` or ``"slurm:settings.yaml"``.
        nodes: How many.

    Raises:
        ConfigError: The cluster is no SLURM, or its settings are wrong.
    """
    kind, _, path = (cluster or "").partition(":")
    if kind != "slurm":
        raise ConfigError(f"--nodes {nodes}: needs --cluster slurm, or slurm:settings.yaml")
    settings = read_job_settings(Path(path) if path else None)
    output = shlex.quote(str(command.output.absolute()))
    body = BODY.format(
        folder=shlex.quote(str(Path.cwd())),
        start=shlex.join(command.arguments(resume=False)),
        again=shlex.join(command.arguments(resume=True)),
        output=output,
        python=shlex.quote(settings.python or sys.executable),
        processes=max(1, settings.gpus),
        told=SECONDS_TO_STOP,
        shutdown=SECONDS_TO_STOP - 20,
    )
    cores = max(1, settings.cores // max(1, settings.gpus))
    exports = [f"export {key}={value}" for key, value in environment(cores).items()]
    return "\n".join([*_header(settings, command, nodes), "", *exports, *settings.setup]) + body


def submit(command: TrainingCommand, script: str) -> str:
    """Submits a job, and returns its number. The script and the settings lie in the folder of the run.

    Args:
        command: What is trained.
        script: Of ``job_script``.

    Raises:
        ConfigError: There is no ``sbatch`` here.
        OutputError: It refuses the job.
    """
    if shutil.which("sbatch") is None:
        raise ConfigError("--cluster slurm: there is no sbatch here; call medseg where jobs are submitted")
    folder = ensure_folder(command.output)
    if not (folder / "run.json").is_file():
        write_text(folder / SETTINGS, command.config.to_yaml())
    path = write_text(folder / SCRIPT, script)
    done = subprocess.run(["sbatch", "--parsable", str(path)], capture_output=True, text=True, check=False)
    number = re.match(r"\d+", done.stdout)
    if done.returncode or number is None:
        raise OutputError(f"{path}: SLURM refuses it ({printable(done.stderr.strip())}); see its settings")
    return number[0]


def _header(settings: JobSettings, command: TrainingCommand, nodes: int) -> list[str]:
    options = [
        "--job-name=medseg-train",
        f"--nodes={nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={settings.cores}",
        f"--mem={settings.memory.replace(' ', '').removesuffix('B').removesuffix('b').removesuffix('i')}",
        f"--time={settings.time}",
        *([f"--partition={settings.partition}"] if settings.partition else []),
        *([f"--account={settings.account}"] if settings.account else []),
        *([f"--gres=gpu:{settings.gpus}"] if settings.gpus else []),
        "--requeue",
        "--open-mode=append",
        f"--signal=TERM@{SECONDS_TO_STOP}",
        f"--output={command.output.absolute() / LOG}",
        *settings.options,
    ]
    return ["#!/usr/bin/env bash", *(f"#SBATCH {option}" for option in options)]
