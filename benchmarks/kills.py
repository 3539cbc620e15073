"""Kills medseg at random moments, in every command, and asks whether the second call makes it good.

Each trial begins a command in a folder that is as before it, kills it and all its processes after a random part of the
time that it takes, and calls it again. The second call has to succeed, and what it leaves has to be what an undisturbed
call leaves: the same files, of equal content but for dates, durations and paths; no temporary file is left. Exit status
1 says that something was otherwise.

    python benchmarks/kills.py --kills 100 --seed 0
    python benchmarks/kills.py --kills 10 --commands train,predict
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

SMALL = ["training.epochs=3", "training.steps_per_epoch=3", "planning.cpu_base_features=4", "training.batch_size=2"]
SETTINGS = [flag for setting in SMALL for flag in ("--set", setting)]
SHORT = ["--epochs", "2", "--device", "cpu", *SETTINGS[2:]]  # without training.epochs
FORMATS = [flag for name in ("nifti-per-label", "seg-nrrd", "stl") for flag in ("--format", name)]
# What no two calls have in common: times, durations, memory, places, dates, and pictures of curves over time.
VARIES = (
    "seconds", "date", "peak_memory_mb", "memory", "samples_per_second", "images", "source", "model", "members",
    "predictions", "references", "prepared", "path", "stages", "forecast_mb", "weights_sha256", "time", "learning_rate",
)  # fmt: skip
NOT_COMPARED = (".html", ".png", ".v2", ".mrb", ".tsv")
TEMPORARY = (".probe-",)


@dataclass(frozen=True)
class Command:
    """``output``: what it makes, below the folder of the trial; ``needs``: outputs of other commands, which are there
    before. ``again``: other arguments of the second call."""

    name: str
    arguments: tuple[str, ...]
    output: str
    needs: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    exact: bool = True  # whether a second call gives the same to the byte, as far as that is stated


COMMANDS = {
    each.name: each
    for each in (
        Command("inspect", ("inspect", "data", "--fix", "fixed"), "fixed"),
        Command("preprocess", ("preprocess", "data", "-o", "prepared", "--set", "preprocessing.workers=1"), "prepared"),
        Command(
            "train",
            ("train", "prepared", "-o", "run", "--device", "cpu", *SETTINGS),
            "run",
            ("prepared",),
            ("train", "prepared", "-o", "run", "--device", "cpu", "--resume"),
            exact=False,
        ),
        Command(
            "predict",
            ("predict", "run", "data/images", "-o", "masks", "--device", "cpu", "--backend", "torch"),
            "masks",
            ("prepared", "run"),
        ),
        Command(
            "formats",
            ("predict", "run", "data/images", "-o", "many", "--device", "cpu", "--backend", "torch", *FORMATS),
            "many",
            ("prepared", "run"),
        ),
        Command(
            "evaluate", ("evaluate", "masks", "data/labels", "-o", "metrics"), "metrics", ("prepared", "run", "masks")
        ),
        Command(
            "export",
            ("export", "masks/case_0.nii.gz", "-o", "exported.seg.nrrd"),
            "exported.seg.nrrd",
            ("prepared", "run", "masks"),
        ),
        Command("package", ("package", "run", "-o", "model.zip"), "model.zip", ("prepared", "run")),
        Command(
            "compare",
            ("compare", "prepared", "-o", "compared", "--network", "unet", "--network", "unet++", *SHORT),
            "compared",
            ("prepared",),
            exact=False,
        ),
    )
}


@dataclass
class Trial:
    """What became of one kill."""

    command: str
    number: int
    after: float  # seconds
    was_running: bool = False
    faults: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="of all commands together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", help=f"with commas, of {', '.join(COMMANDS)}; all if not given")
    arguments = parser.parse_args()
    chosen = list(COMMANDS) if arguments.commands is None else arguments.commands.split(",")
    with tempfile.TemporaryDirectory(prefix="medseg-kills-") as temporary:
        place = Path(temporary)
        whole, seconds = undisturbed(place / "whole", chosen)
        trials = []
        for number in range(arguments.kills):
            command = COMMANDS[chosen[number % len(chosen)]]
            random = np.random.default_rng([arguments.seed, number])
            after = float(random.uniform(0.02, 1.02)) * seconds[command.name]
            trial = kill(command, number, after, whole, place / f"trial-{number}")
            trials.append(trial)
            for fault in trial.faults:
                print(f"{trial.command} {trial.number}, killed after {trial.after:.2f} s: {fault}", flush=True)
            shutil.rmtree(place / f"trial-{number}", ignore_errors=True)
    print("\n| command | kills | while it ran | faults |\n| --- | --- | --- | --- |")
    for name in chosen:
        of_it = [trial for trial in trials if trial.command == name]
        print(f"| {name} | {len(of_it)} | {sum(t.was_running for t in of_it)} | {sum(bool(t.faults) for t in of_it)} |")
    return int(any(trial.faults for trial in trials))


def undisturbed(place: Path, chosen: list[str]) -> tuple[Path, dict[str, float]]:
    """A folder with the data and what every command makes of it, and the seconds that each takes."""
    from fuzzing.seeds import write_cases

    write_cases(place / "data", 5)
    seconds = {}
    needed = {need for name in chosen for need in COMMANDS[name].needs}
    for name, command in COMMANDS.items():
        if name in chosen or command.output in needed:
            start = time.monotonic()
            ended = call(command.arguments, place)
            if ended.returncode:
                sys.exit(f"medseg {' '.join(command.arguments)}: {ended.stderr[-2000:]}")
            seconds[name] = time.monotonic() - start
    return place, seconds


def call(arguments: tuple[str, ...], place: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "medseg", *arguments]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)


def kill(command: Command, number: int, after: float, whole: Path, place: Path) -> Trial:
    """Kills the command in ``place``, and calls it again."""
    trial = Trial(command.name, number, after)
    place.mkdir()
    for name in ("data", *command.needs):
        shutil.copytree(whole / name, place / name)
    first = [sys.executable, "-m", "medseg", *command.arguments]
    process = subprocess.Popen(
        first, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    time.sleep(after)
    trial.was_running = process.poll() is None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if not trial.was_running:
        return trial
    begun = bool(command.again) and (place / command.output / "run.json").is_file()
    ended = call(command.again if begun else command.arguments, place)
    if ended.returncode:
        trial.faults.append(f"the second call fails: {(ended.stderr or ended.stdout).strip()[-300:]!r}")
        return trial
    trial.faults += differences(whole / command.output, place / command.output, command.exact)
    trial.faults += [f"left behind: {path.relative_to(place)}" for path in rubbish(place, whole)]
    return trial


def rubbish(place: Path, whole: Path) -> Iterator[Path]:
    """Files that no undisturbed call leaves, where they are taken for data: those that are not hidden."""
    for path in sorted(place.rglob("*")):
        relative = path.relative_to(place)
        hidden = any(part.startswith(".") for part in relative.parts)
        known = (whole / relative).exists() or path.name.startswith("events.out") or "events" in relative.parts
        if path.is_file() and not hidden and not known:
            yield path


def differences(expected: Path, found: Path, exact: bool) -> list[str]:
    """In what two outputs differ, at most some."""
    if expected.is_file():
        pairs = [(expected, found)]
    else:
        names = [path.relative_to(expected) for path in sorted(expected.rglob("*")) if path.is_file()]
        pairs = [(expected / name, found / name) for name in names if "events" not in name.parts]
    faults = []
    for one, other in pairs:
        if any(part.startswith(".") for part in one.parts[-2:]):
            continue
        if not other.is_file():
            faults.append(f"{other.name} is not there")
        elif not same(one, other, exact):
            faults.append(f"{other.name} is another one")
    return faults[:5]


def same(one: Path, other: Path, exact: bool) -> bool:
    """Whether two files hold the same, but for what no two calls have in common."""
    name = one.name
    if name.endswith(NOT_COMPARED):
        return other.stat().st_size > 0
    if name.endswith(".json"):
        a, b = (without_varying(json.loads(without_places(path))) for path in (one, other))
        return a == b if exact else shape(a) == shape(b)
    if name.endswith(".zip"):
        import zipfile

        a, b = (sorted(zipfile.ZipFile(path).namelist()) for path in (one, other))
        return a == b
    if name.endswith((".csv", ".yaml")):
        return exact is False or Counter(lines(one)) == Counter(lines(other))
    if name.endswith((".safetensors", ".npy", ".nii.gz", ".nrrd")):
        return arrays_same(one, other, exact)
    return one.read_bytes() == other.read_bytes()


def lines(path: Path) -> list[str]:
    return without_places(path).splitlines()


def without_places(path: Path) -> str:
    """The text, without the folder of the trial, or that of the undisturbed calls."""
    root = next(each for each in path.parents if (each / "data").is_dir())
    return path.read_text("utf-8").replace(str(root), "")


def shape(tree: Any) -> Any:
    """The keys of a tree, where values are those of a network that learnt otherwise."""
    if isinstance(tree, dict):
        return {key: shape(value) for key, value in tree.items() if key not in ("postprocessing", "review", "metrics")}
    return type(tree).__name__ if not isinstance(tree, float | int | None) else "value"


def without_varying(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: without_varying(value) for key, value in tree.items() if key not in VARIES}
    return [without_varying(each) for each in tree] if isinstance(tree, list) else tree


def arrays_same(one: Path, other: Path, exact: bool) -> bool:
    if one.suffix == ".npy":
        return one.read_bytes() == other.read_bytes()
    if one.suffix == ".safetensors":
        from safetensors.numpy import load_file

        a, b = load_file(one), load_file(other)
        return a.keys() == b.keys() and all(
            a[key].shape == b[key].shape and (not exact or np.array_equal(a[key], b[key])) for key in a
        )
    import SimpleITK as sitk

    images = [sitk.ReadImage(str(path)) for path in (one, other)]
    arrays = [sitk.GetArrayFromImage(image) for image in images]
    grids = [(image.GetOrigin(), image.GetSpacing(), image.GetDirection()) for image in images]
    return grids[0] == grids[1] and (not exact or np.array_equal(*arrays))


if __name__ == "__main__":
    sys.exit(main())
