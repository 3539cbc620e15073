"""Gives medseg damaged and hostile inputs of every kind that it reads, and says what becomes of them.

Each input is drawn from (seed, kind, number) alone, and tried in a process that may crash or hang. Inputs of images are
compared with independent readers. Failing ones are kept with what made them; exit status 1 says that there are some.

    python benchmarks/fuzz.py --inputs 500
    python benchmarks/fuzz.py --inputs 10000 --seed 7 -o failures
    python benchmarks/fuzz.py --kinds nifti,mha --inputs 1000
    python benchmarks/fuzz.py --rerun failures/nifti-17
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuzzing.pool import Tried

os.environ.setdefault("OMP_NUM_THREADS", "1")
MEMORY_GB = 3.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=500, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", help="with commas; all if not given")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds an input may take")
    parser.add_argument("-o", "--output", type=Path, default=Path("fuzz-failures"), help="folder for failing inputs")
    parser.add_argument("--rerun", type=Path, help="a folder of a failing input: tried here, with its traceback")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medseg-fuzz-") as temporary:
        # medseg unpacks archives into it; processes that are killed leave theirs behind.
        os.environ["TMPDIR"] = tempfile.tempdir = temporary
        if arguments.rerun is not None:
            return rerun(arguments.rerun, Path(temporary))
        return fuzz(arguments, Path(temporary))


def fuzz(arguments: argparse.Namespace, temporary: Path) -> int:
    from fuzzing.pool import Input, Setting, try_all
    from fuzzing.seeds import draw_seeds
    from fuzzing.trials import BAD

    print("Drawing seeds, and making a tiny run", flush=True)
    seeds = draw_seeds(temporary / "seeds")
    kinds = list(dict.fromkeys(seed.kind for seed in seeds))
    chosen = kinds if arguments.kinds is None else [kind.strip() for kind in arguments.kinds.split(",")]
    if set(chosen) - set(kinds):
        sys.exit(f"--kinds: there are {', '.join(kinds)}")
    inputs = [Input(chosen[i % len(chosen)], i // len(chosen)) for i in range(arguments.inputs)]
    run = temporary / "seeds" / "records" / "run"
    memory = int(MEMORY_GB * 1e9)
    place = temporary / "inputs"
    setting = Setting(tuple(seeds), place, run, arguments.seed, memory, arguments.timeout)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    seconds_by_kind: Counter[str] = Counter()
    slowest = 0.0
    began = time.monotonic()
    for tried in try_all(inputs, setting, arguments.workers):
        counts[tried.input.kind][tried.outcome.verdict] += 1
        seconds_by_kind[tried.input.kind] += tried.seconds
        slowest = max(slowest, tried.seconds)
        if tried.outcome.verdict in BAD:
            kept = keep(tried, arguments.output, arguments.seed)
            print(f"{tried.outcome.verdict}: {kept}: {tried.outcome.reason[:160]!r}", flush=True)
    seconds = time.monotonic() - began
    print(table(counts, seconds_by_kind))
    failures = sum(counts[kind][verdict] for kind in counts for verdict in BAD)
    speed = f"{seconds:.0f} s ({len(inputs) / seconds:.0f}/s; the slowest took {slowest:.1f} s)"
    print(
        f"\n{len(inputs)} inputs of seed {arguments.seed} in {speed}: {failures} failures, kept in {arguments.output}"
    )
    return int(failures > 0)


def keep(tried: "Tried", output: Path, seed: int) -> Path:
    """The changed input with what made it and what became of it."""
    folder = output / tried.folder.name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tried.folder / "input", folder / "input", dirs_exist_ok=True)
    content = {
        "kind": tried.input.kind, "number": tried.input.number, "seed": seed, "target": tried.target,
        "mutation": tried.mutation, **tried.outcome.as_json(),
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(content, indent=1), "utf-8")
    return folder


def rerun(kept: Path, temporary: Path) -> int:
    """Tries a kept input in this process."""
    from fuzzing import trials
    from fuzzing.pool import limit_memory
    from fuzzing.seeds import draw_records

    content = json.loads((kept / "result.json").read_text("utf-8"))
    print(f"{content['kind']} {content['number']} of seed {content['seed']}: {content['mutation']}")
    print(f"then: {content['verdict']}: {content['reason']}")
    root = temporary / "rerun" / "input"
    shutil.copytree(kept / "input", root)
    draw_records(temporary / "records")
    trials.RUN = temporary / "records" / "run"
    limit_memory(int(MEMORY_GB * 1e9))
    outcome = trials.attempt(content["kind"], root, root / content["target"], content["number"])
    print(f"now: {outcome.verdict}: {outcome.reason}\n{outcome.traceback}")
    return int(outcome.verdict in trials.BAD)


def table(counts: dict[str, Counter[str]], seconds: Counter[str]) -> str:
    """In Markdown: how many inputs of each kind came to which end; and seconds that one took on average."""
    from fuzzing.trials import BAD, GOOD

    verdicts = [verdict for verdict in (*GOOD, *BAD) if any(each[verdict] for each in counts.values())]
    rows = [["kind", "inputs", *verdicts, "s"], ["---"] * (len(verdicts) + 3)]
    everything = {**counts, "all": sum(counts.values(), Counter())}
    for kind, each in everything.items():
        n = each.total()
        mean = (seconds[kind] if kind in seconds else seconds.total()) / n
        rows.append([kind, str(n), *(str(each[verdict] or ".") for verdict in verdicts), f"{mean:.2f}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
