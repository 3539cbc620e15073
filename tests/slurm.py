"""SLURM on this machine for a test: a real slurmctld, and a slurmd for each of two virtual nodes, as processes."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

NODES = ("n1", "n2")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "sinfo", "squeue")
CONFIGURATION = """
ClusterName=medseg
SlurmctldHost={host}
SlurmctldPort={port}
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
MpiDefault=none
ReturnToService=2
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdTimeout=10
KillWait=2
MessageTimeout=30
NodeName=n1 NodeHostname={host} Port={port_1} CPUs=1 RealMemory=3000
NodeName=n2 NodeHostname={host} Port={port_2} CPUs=1 RealMemory=3000
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=60 OverTimeLimit=0 State=UP
"""


def is_missing() -> str:
    """Why SLURM cannot be started here; empty where it can."""
    missing = [program for program in PROGRAMS if not _program(program)]
    if missing:
        return f"no {', '.join(missing)} here (Debian's slurm-wlm)"
    return "" if os.geteuid() == 0 else "slurmd is started by root"


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@dataclass
class Slurm:
    """Two nodes of one machine."""

    folder: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def call(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout

    def start(self, name: str) -> None:
        program = _program("slurmctld" if name == "ctld" else "slurmd")
        node = [] if name == "ctld" else ["-N", name]
        command = [str(program), "-D", "-f", str(self.folder / "slurm.conf"), *node]
        log = (self.folder / f"{name}.out").open("ab")
        self.daemons[name] = subprocess.Popen(
            command, env=self.environment, stdout=log, stderr=log, start_new_session=True
        )

    def kill_node(self, name: str) -> int:
        """Ends a node as a power failure does: its daemon and all that it runs; returns how many workers that were."""
        killed = 0
        self.daemons[name].kill()
        for process in self.processes(name):
            os.kill(process, signal.SIGKILL)
            killed += 1
        return killed

    def processes(self, name: str) -> list[int]:
        """The processes of the jobs on a node."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                variables = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if f"SLURM_CONF={self.folder}/slurm.conf".encode() in variables and (
                f"SLURMD_NODENAME={name}".encode() in variables
            ):
                found.append(int(path.parent.name))
        return found

    def nodes(self) -> dict[str, str]:
        return dict(line.split() for line in self.call("sinfo", "-h", "-N", "-o", "%N %t").splitlines())

    def jobs(self) -> list[str]:
        return self.call("squeue", "-h", "-o", "%i %t %N").splitlines()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def running(folder: Path) -> Iterator[Slurm]:
    """Yields SLURM with two idle nodes; all of its processes end with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state").mkdir()
    port, port_1, port_2 = _free_ports(3)
    host, user = socket.gethostname().partition(".")[0], "root"
    content = CONFIGURATION.format(folder=folder, host=host, user=user, port=port, port_1=port_1, port_2=port_2)
    (folder / "slurm.conf").write_text(content)
    slurm = Slurm(folder)
    try:
        for name in ("ctld", *NODES):
            slurm.start(name)
        end = time.monotonic() + 90
        while time.monotonic() < end:
            try:
                if set(slurm.nodes().values()) == {"idle"}:
                    break
            except (subprocess.CalledProcessError, ValueError):
                pass
            time.sleep(0.5)
        else:
            logs = "\n".join(path.read_text()[-2000:] for path in folder.glob("*.log"))
            raise RuntimeError(f"SLURM does not start: {logs}")
        yield slurm
    finally:
        for name in NODES:
            for process in slurm.processes(name):
                os.kill(process, signal.SIGKILL)
        for daemon in slurm.daemons.values():
            daemon.kill()
            daemon.wait()
