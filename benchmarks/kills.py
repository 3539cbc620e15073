"""Kills medseg at random moments, in every command, and asks whether the second call makes it good.

Each trial begins a command in a folder that is as before it, kills it after a random part of the time that it usually
takes, and calls it again. The second call has to succeed, and what it leaves has to be what an undisturbed call leaves:
the same files, of equal content but for dates, durations and paths. Every other trial kills the main process alone, as
the system does where memory is short: nothing of it may live on. Before the second call, whole and broken copies of
data are put where a killed call leaves its temporary files: they must not be taken for data. Exit status 1 says that
something was otherwise.

Commands run in processes that are forked from this one, which has imported everything, so that a trial takes seconds;
so do their workers.

    python benchmarks/kills.py --kills 100 --seed 0
    python benchmarks/kills.py --kills 10 --commands train,predict
    python benchmarks/kills.py --kills 100 --between-files    (just before a random one of the files gets its name)
"""

import argparse
import csv
import importlib
import json
import multiprocessing
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import numpy as np

os.environ["OMP_NUM_THREADS"] = "1"

import psutil
import torch

import medseg
from medseg import parallel

FORK = multiprocessing.get_context("fork")
# Validation as often as it may be, so that it comes after the same epochs each time.
SMALL = [
    "training.epochs=3", "training.steps_per_epoch=4", "planning.cpu_base_features=4", "planning.cpu_patch_voxels=512",
    "training.batch_size=2", "training.threads=1", "training.validation_share=0.99",
]  # fmt: skip
SETTINGS = [flag for setting in SMALL for flag in ("--set", setting)]
FOLDS = ["--set", "training.fold=all", "--set", "training.folds=2"]
SHORT = ["--epochs", "2", "--device", "cpu", *SETTINGS[2:]]  # without training.epochs
FORMATS = [flag for name in ("nifti-per-label", "seg-nrrd", "stl") for flag in ("--format", name)]
# What no two calls have in common: times, durations, memory, places, dates, and what is counted from them.
VARIES = (
    "seconds", "date", "peak_memory_mb", "memory", "samples_per_second", "images", "source", "model", "members",
    "predictions", "references", "prepared", "path", "stages", "forecast_mb", "time", "prediction_seconds",
    "training_memory_mb", "prediction_memory_mb", "weights_sha256",
)  # fmt: skip
NOT_COMPARED = (".html", ".png", ".v2", ".mrb", ".tsv", ".md", ".log")
# What a process that has lost its parent may take to end.
PATIENCE = 5.0


@dataclass(frozen=True)
class Command:
    """``output``: what it makes, below the folder of the trial; ``needs``: outputs of other commands, which are there
    before. ``again``: other arguments of the second call of a run that has begun. ``refusal``: what the second call
    says where the first one was killed when all was done."""

    name: str
    arguments: tuple[str, ...]
    output: str
    needs: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    refusal: str = ""


PREDICT = ("predict", "run", "data/images", "--device", "cpu", "--backend", "torch")
COMMANDS = {
    each.name: each
    for each in (
        Command("inspect", ("inspect", "data", "--fix", "fixed"), "fixed", refusal="exists and is not empty"),
        Command("preprocess", ("preprocess", "data", "-o", "prepared"), "prepared"),
        Command(
            "train",
            ("train", "prepared", "-o", "run", "--device", "cpu", *SETTINGS),
            "run",
            ("prepared",),
            ("train", "prepared", "-o", "run", "--device", "cpu", "--resume"),
        ),
        Command(
            "folds",
            ("train", "prepared", "-o", "folds", "--device", "cpu", *SETTINGS, *FOLDS),
            "folds",
            ("prepared",),
            ("train", "prepared", "-o", "folds", "--device", "cpu", "--resume"),
        ),
        Command("predict", (*PREDICT, "-o", "masks"), "masks", ("prepared", "run")),
        Command("formats", (*PREDICT, "-o", "many", *FORMATS), "many", ("prepared", "run")),
        Command("evaluate", ("evaluate", "masks", "data/labels", "-o", "metrics"), "metrics", ("masks",)),
        Command(
            "export", ("export", "masks/case_0.nii.gz", "-o", "exported.seg.nrrd"), "exported.seg.nrrd", ("masks",)
        ),
        Command("package", ("package", "run", "-o", "model.zip"), "model.zip", ("run",)),
        Command(
            "compare",
            ("compare", "prepared", "-o", "compared", "--network", "unet", "--network", "unet++", *SHORT),
            "compared",
            ("prepared",),
        ),
    )
}


@dataclass
class Trial:
    """What became of one kill."""

    command: str
    number: int
    when: str
    was_running: bool = False
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Usual:
    """What an undisturbed call takes: seconds, and how many files get their names."""

    seconds: float
    files: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="of all commands together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", help=f"with commas, of {', '.join(COMMANDS)}; all if not given")
    parser.add_argument(
        "--between-files", action="store_true", help="not by the clock, but before a file gets its name"
    )
    arguments = parser.parse_args()
    chosen = list(COMMANDS) if arguments.commands is None else arguments.commands.split(",")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="medseg-kills-") as temporary:
        place = Path(temporary)
        whole = undisturbed(place / "whole", chosen)
        usual = {name: measured(COMMANDS[name], whole, place / "again") for name in chosen}
        trials: list[Trial] = []
        while sum(trial.was_running for trial in trials) < arguments.kills and len(trials) < 3 * arguments.kills:
            command = COMMANDS[chosen[len(trials) % len(chosen)]]
            random = np.random.default_rng([arguments.seed, len(trials)])
            trials.append(
                kill(command, len(trials), random, usual[command.name], whole, place, arguments.between_files)
            )
            for fault in trials[-1].faults:
                print(f"{command.name} {trials[-1].number}, killed {trials[-1].when}: {fault}", flush=True)
    print(f"\nmedseg {medseg.__version__}, torch {torch.__version__}, Python {platform.python_version()}")
    print(f"seed {arguments.seed}, {time.monotonic() - started:.0f} s")
    print("\n| command | usual seconds | calls | killed while it ran | faults |\n| --- | --- | --- | --- | --- |")
    for name in chosen:
        of_it = [trial for trial in trials if trial.command == name]
        killed, bad = sum(trial.was_running for trial in of_it), sum(bool(trial.faults) for trial in of_it)
        print(f"| {name} | {usual[name].seconds:.1f} | {len(of_it)} | {killed} | {bad} |")
    return int(any(trial.faults for trial in trials))


def undisturbed(place: Path, chosen: list[str]) -> Path:
    """A folder with the data and what every command makes of it."""
    from fuzzing.seeds import write_cases

    write_cases(place / "data", 5)
    needed = set(chosen)
    for name, command in reversed(COMMANDS.items()):
        if name in needed:
            needed |= {each.name for each in COMMANDS.values() if each.output in command.needs}
    for name, command in COMMANDS.items():
        if name in needed:
            succeed(command, place)
            for module in (place.parent / "modules.txt").read_text().split():
                with suppress(Exception):  # what cannot be imported by its name
                    importlib.import_module(module)
    return place


def measured(command: Command, whole: Path, place: Path) -> Usual:
    """Of a second undisturbed call, which has to give the same as the first."""
    copy_inputs(command, whole, place)
    start = time.monotonic()
    succeed(command, place)
    seconds = time.monotonic() - start
    faults = differences(whole / command.output, place / command.output)
    if faults:
        sys.exit(f"medseg {' '.join(command.arguments)}: two undisturbed calls differ: {'; '.join(faults)}")
    files = int((place.parent / "files.txt").read_text())
    shutil.rmtree(place)
    return Usual(seconds, files)


def succeed(command: Command, place: Path) -> None:
    process = begin(command.arguments, place)
    process.join()
    if process.exitcode:
        sys.exit(f"medseg {' '.join(command.arguments)}: {said(place)[-2000:]}")


def copy_inputs(command: Command, whole: Path, place: Path) -> None:
    for name in ("data", *command.needs):
        shutil.copytree(whole / name, place / name)


def begin(arguments: tuple[str, ...], place: Path, before_file: int | None = None) -> ForkProcess:
    """A process, the first of a group of its own, that runs the command in ``place``."""
    process = FORK.Process(target=run, args=(arguments, place, before_file))
    process.start()
    return process


def run(arguments: tuple[str, ...], place: Path, before_file: int | None) -> None:
    """Dies where that file is about to get its name. Leaves beside ``place`` what it says, the names of modules that it
    imported, and how many files got names."""
    os.setsid()
    os.chdir(place)
    log = os.open(place.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.argv = ["medseg", *arguments]
    parallel._context = lambda: FORK  # type: ignore[assignment]
    known, main_process, named = set(sys.modules), os.getpid(), [0]

    def counting(rename: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*arguments: Any, **options: Any) -> None:
            if os.getpid() == main_process:
                if named[0] == before_file:
                    os.kill(main_process, signal.SIGKILL)
                named[0] += 1
            rename(*arguments, **options)

        return wrapped

    os.replace, os.rename = counting(os.replace), counting(os.rename)  # type: ignore[assignment]
    from medseg.cli.main import main as medseg_main

    try:
        medseg_main()
    finally:
        (place.parent / "modules.txt").write_text("\n".join(sorted(set(sys.modules) - known)))
        (place.parent / "files.txt").write_text(str(named[0]))


def said(place: Path) -> str:
    return place.with_suffix(".txt").read_text(errors="replace").strip()


def kill(
    command: Command,
    number: int,
    random: np.random.Generator,
    usual: Usual,
    whole: Path,
    parent: Path,
    between_files: bool,
) -> Trial:
    """Kills the command in a folder below ``parent``, and calls it again."""
    place = parent / f"trial-{number}"
    copy_inputs(command, whole, place)
    after = float(random.uniform()) * usual.seconds
    before_file = int(random.integers(usual.files)) if between_files and usual.files else None
    trial = Trial(command.name, number, f"after {after:.2f} s" if before_file is None else f"before file {before_file}")
    process = begin(command.arguments, place, before_file)
    process.join(after if before_file is None else None)
    trial.was_running = process.is_alive() or process.exitcode == -signal.SIGKILL
    with suppress(ProcessLookupError):
        os.kill(process.pid or 0, signal.SIGKILL) if number % 2 else os.killpg(process.pid or 0, signal.SIGKILL)
    process.join()
    if trial.was_running:
        trial.faults += [f"lives on: {each}" for each in left_alive(place)]
        litter(place, random)
        started = any((place / command.output / name / "run.json").is_file() for name in ("", "fold_0"))
        begun = bool(command.again) and started
        again = begin(command.again if begun else command.arguments, place)
        again.join()
        if again.exitcode and not (command.refusal and command.refusal in said(place)):
            trial.faults.append(f"the second call fails: {said(place)[-300:]!r}")
        else:
            trial.faults += differences(whole / command.output, place / command.output)
            trial.faults += [f"left behind: {path.relative_to(place)}" for path in rubbish(place, whole)]
    if not trial.faults:
        shutil.rmtree(place)
    return trial


def left_alive(place: Path) -> list[str]:
    """Processes that still work in the folder when they have had time to end. They are killed."""
    until = time.monotonic() + PATIENCE
    while alive := list(_in_folder(place)):
        if time.monotonic() > until:
            for process in alive:
                process.kill()
            return [str(process) for process in alive]
        time.sleep(0.05)
    return []


def _in_folder(place: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == place:
                yield process


def litter(place: Path, random: np.random.Generator) -> None:
    """In each folder copies of one of its files, one whole and one cut off, under names as temporary files have."""
    for folder in [place, *(path for path in place.rglob("*") if path.is_dir())]:
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        if not files:
            continue
        file = files[int(random.integers(len(files)))]
        start, _, suffix = file.name.partition(".")
        content = file.read_bytes()
        (folder / f".{start}.00000000.{suffix}").write_bytes(content)
        (folder / f".{start}.00000001.{suffix}").write_bytes(content[: len(content) // 2])


def rubbish(place: Path, whole: Path) -> Iterator[Path]:
    """Files that no undisturbed call leaves, where they are taken for data: those that are not hidden."""
    for path in sorted(place.rglob("*")):
        relative = path.relative_to(place)
        hidden = any(part.startswith(".") for part in relative.parts)
        known = (whole / relative).exists() or "events" in relative.parts
        if path.is_file() and not hidden and not known:
            yield path


def differences(expected: Path, found: Path) -> list[str]:
    """In what two outputs differ, at most some."""
    if expected.is_file():
        pairs = [(expected, found)]
    else:
        names = [path.relative_to(expected) for path in sorted(expected.rglob("*")) if path.is_file()]
        pairs = [(expected / name, found / name) for name in names if "events" not in name.parts]
    faults = []
    for one, other in pairs:
        if not other.is_file():
            faults.append(f"{other.relative_to(found.parent)} is not there")
        elif not same(one, other):
            faults.append(f"{other.relative_to(found.parent)} is another one")
    return faults[:8]


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same, but for what no two calls have in common."""
    name = one.name
    if name.endswith(NOT_COMPARED):
        return other.stat().st_size > 0
    if name.endswith((".json", ".csv", ".yaml")):
        a, b = (content(name, without_places(path)) for path in (one, other))
        return bool(a == b)
    if name.endswith(".zip"):
        a, b = (unzipped(path) for path in (one, other))
        return bool(a == b)
    if name.endswith((".safetensors", ".nii.gz", ".nrrd")):
        return tensors_same(one, other) if one.suffix == ".safetensors" else images_same(one, other)
    return one.read_bytes() == other.read_bytes()


def content(name: str, text: str) -> Any:
    """Of a text, without what varies."""
    if name.endswith(".json"):
        return without_varying(json.loads(text))
    if name.endswith(".csv"):
        return [without_varying(row) for row in csv.DictReader(text.splitlines())]
    return text.splitlines()


def without_places(path: Path) -> str:
    """The text, without the folder of the trial, or that of the undisturbed calls."""
    root = next(each for each in path.parents if (each / "data").is_dir())
    return path.read_text("utf-8").replace(str(root), "")


def without_varying(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: without_varying(value) for key, value in tree.items() if key not in VARIES}
    return [without_varying(each) for each in tree] if isinstance(tree, list) else tree


def unzipped(path: Path) -> dict[str, Any]:
    """Content by name."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    return {name: content(name, data.decode()) if name.endswith(".json") else data for name, data in files.items()}


def tensors_same(one: Path, other: Path) -> bool:
    """To the bit."""
    from safetensors.torch import load_file

    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def images_same(one: Path, other: Path) -> bool:
    import SimpleITK as sitk

    images = [sitk.ReadImage(str(path)) for path in (one, other)]
    grids = [(image.GetOrigin(), image.GetSpacing(), image.GetDirection()) for image in images]
    return grids[0] == grids[1] and np.array_equal(*(sitk.GetArrayFromImage(image) for image in images))


if __name__ == "__main__":
    sys.exit(main())
