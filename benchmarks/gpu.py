"""All that medseg does with CUDA, checked in less than eight minutes on one GPU.

    python benchmarks/gpu.py -o gpu.json                  all checks; a table on the screen, and gpu.md beside the JSON
    python benchmarks/gpu.py --checks pace,resume         some of them
    python benchmarks/gpu.py --list                       what there is, with limits and seconds
    python benchmarks/gpu.py --wheels                     packages that a machine with PyTorch alone lacks

Checks run one after the other in a process of their own. One that fails, hangs or dies does not end the others. The
exit status is 1 where one did not pass. It needs no data, no network and no tests' packages.

``--device cpu --small`` runs them as the tests do (tests/integration/test_gpu.py). No GPU was met so far.
"""

import argparse
import json
import platform
import re
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from environment import describe

SECONDS = 460.0
# What a machine with PyTorch has.
WITH_TORCH = {
    "torch",
    "triton",
    "numpy",
    "sympy",
    "networkx",
    "jinja2",
    "fsspec",
    "filelock",
    "typing-extensions",
    "mpmath",
}
WITH_TORCH |= {"markupsafe", "setuptools", "pip"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu.json"))
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu")
    parser.add_argument("--small", action="store_true", help="sizes for a processor")
    parser.add_argument("--checks", help="names, with commas between them; without, all")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all of them together")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--wheels", action="store_true")
    arguments = parser.parse_args()
    if arguments.wheels:
        print("\n".join(wheels()))
        return
    from gpu_checks import CHECKS
    from gpu_checks.check import Setup
    from gpu_checks.runner import run_checks

    names = arguments.checks.split(",") if arguments.checks else list(CHECKS)
    if unknown := sorted(set(names) - set(CHECKS)):
        parser.error(f"--checks {unknown[0]}: there are {', '.join(CHECKS)}")
    if arguments.list:
        for name in names:
            print(f"{name} ({CHECKS[name].seconds:g} s; {CHECKS[name].limit or 'no limit'}): {CHECKS[name].title}")
        return
    start, rows, table = time.monotonic(), [], [machine(arguments.device), "", *HEAD]
    print("\n".join(table), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(arguments.device, Path(folder), is_large=not arguments.small)
        for result in run_checks(setup, [CHECKS[name] for name in names], arguments.seconds):
            rows.append(asdict(result))
            table.append(row(result.name, result.state, result.limit, result.numbers, result.message, result.seconds))
            print(table[-1], flush=True)
            content = {"machine": table[0], "seconds": time.monotonic() - start, "checks": rows}
            arguments.output.write_text(json.dumps(content, indent=1), encoding="utf-8")
            arguments.output.with_suffix(".md").write_text("\n".join(table) + "\n", encoding="utf-8")
    bad = [each["name"] for each in rows if each["state"] not in ("passed", "not here")]
    print(f"\n{len(rows)} checks in {time.monotonic() - start:.0f} s; {', '.join(bad) or 'none'} did not pass")
    sys.exit(bool(bad))


HEAD = ["| check | state | limit | measured | s |", "| --- | --- | --- | --- | --- |"]


def row(name: str, state: str, limit: str, numbers: dict[str, float], message: str, seconds: float) -> str:
    """A line of the table."""
    measured = ", ".join(f"{key} {value:.4g}" for key, value in numbers.items()) or message.splitlines()[0]
    return f"| {name} | {state} | {limit} | {measured.replace('|', '/')} | {seconds:.1f} |"


def machine(device: str) -> str:
    """What the checks run on, in one line."""
    import torch

    gpu = "no GPU"
    if device.startswith("cuda") and torch.cuda.is_available():
        gpu = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return f"{gpu}; {describe()}; {platform.platform()}"


def wheels() -> list[str]:
    """Packages that medseg needs, and those that these need, without PyTorch's own: ``name==version`` as they are here.

    ``pip download --no-deps -d wheels NAME==VERSION`` of each makes a folder from which a machine without a network
    installs: ``pip install --no-index --no-deps --find-links wheels …``.
    """
    found: dict[str, str] = {}
    waiting = list(requires("medseg") or ())
    while waiting:
        line = waiting.pop()
        name, _, marker = (part.strip() for part in line.partition(";"))
        name = re.split(r"[\s\[<>=!~(]", name)[0].lower().replace("_", "-")
        if "extra" in marker or name in found or name in WITH_TORCH or name.startswith("nvidia-"):
            continue
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # of another system or another Python
            continue
        waiting += requires(name) or ()
    return [f"{name}=={found[name]}" for name in sorted(found)]


if __name__ == "__main__":
    main()
