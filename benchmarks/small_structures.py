"""Draws lesions of all sizes, or vessels; trains the same small network by several losses, equally long; measures it.

Half of the cases are held back. Of lesions: the recall of those under 30 mm³ (a component of the prediction has an IoU
above .1 with it) at as many false alarms (components that have it with no lesion) a case as Dice and cross-entropy have
at a probability of one half. Of vessels: clDice, and pieces that the prediction has more or fewer than the reference.
Printed are the means over the seeds; the probabilities of each run stay in --work, and runs that are there are not
trained again.

    python benchmarks/small_structures.py lesions --work /tmp/small --losses dice-ce cc-dice-ce
    python benchmarks/small_structures.py costs
    python benchmarks/small_structures.py vessels --work /tmp/small --losses dice-ce skeleton-recall cldice
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from statistics import fmean

import cc3d
import numpy as np
import torch
from environment import describe

import medseg
from medseg.config import InferenceConfig, load
from medseg.dataset.patches import PatchSampler
from medseg.dataset.splits import split_fold
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.inferers.case_stream import predict_logits
from medseg.losses import create_loss
from medseg.losses.registry import OWN
from medseg.metrics import centreline_dice, dice
from medseg.networks.registry import build_network
from medseg.phantom.small_structures import lesions, make_cases, vessels
from medseg.training.parts import make_trainer
from medseg.training.run import resolve_plan

DRAWINGS = {"lesions": (lesions, "lesion"), "vessels": (vessels, "vessel")}
SMALL_MM3, LEAST_IOU = 30.0, 0.1
THRESHOLDS = [0.02, 0.05, *np.arange(0.1, 0.96, 0.05), 0.97, 0.99]
PREPARED = ("preprocessing.crop_to_nonzero=false", "planning.patch_size=[32,32,32]",
            "planning.cpu_half_resolution=false")  # fmt: skip
SETTINGS = (
    "network.features=[12,24,48,96]", "training.batch_size=4", "training.folds=2", "training.steps_per_epoch=100",
    "training.fit_inference=false", "training.validation_share=0.01", "training.threads=2",
)  # fmt: skip


def trained(work: Path, kind: str, loss: str, seed: int, steps: int, dims: int, others: list[str]) -> Path:
    """Returns the run of a loss, trained where it is not there yet. ``loss`` may have arguments: "blob:{…}"."""
    name, _, arguments = loss.partition(":")
    folder = work / f"{kind}-{dims}d-{loss.translate(str.maketrans(' {}:,', '_____'))}-{seed}"
    if (folder / "probabilities.npz").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    settings = [*SETTINGS, f"loss.name={name}", f"training.seed={seed}", f"training.epochs={steps // 100}", *others]
    if arguments:
        settings.append(f"loss.arguments={arguments}")
    config, dataset = load(overrides=settings), PreparedDataset(work / f"{kind}-prepared")
    device = choose_device("cpu", config.training.precision, config.training.threads)
    plan, config = resolve_plan(dataset, 3 if dims == 3 else 2, config, device)
    split = split_fold({case_id: case_id for case_id in dataset.case_ids}, 0, config.training.folds)
    torch.manual_seed(seed)
    trainer = make_trainer(build_network(1, 2, plan.architecture), plan, config, device)
    sampler = PatchSampler(
        dataset.subset(split.training), plan, batch_size=plan.batch_size, seed=seed,
        foreground_fraction=config.training.foreground_fraction,
    )  # fmt: skip
    sampler.by_component = config.training.foreground_by == "components"
    start = time.perf_counter()
    trainer.fit(sampler)
    seconds = time.perf_counter() - start
    probabilities = {}
    for case_id in split.validation:
        image = torch.from_numpy(dataset.image(case_id).astype(np.float32))
        logits = predict_logits(trainer.average, image, plan, InferenceConfig(), device)
        probabilities[case_id] = logits.float().softmax(0)[1].numpy().astype(np.float16)
    folder.mkdir(parents=True)
    (folder / "seconds.json").write_text(json.dumps(seconds))
    np.savez(folder / "probabilities.npz", **probabilities)
    return folder


def lesions_found(
    probabilities: np.ndarray, reference: np.ndarray, threshold: float
) -> tuple[list[bool], list[int], int]:
    """Returns whether each lesion was found, its voxels, and the number of false alarms."""
    lesions, n = cc3d.connected_components(reference, return_N=True)
    predicted, n_predicted = cc3d.connected_components(probabilities > threshold, return_N=True)
    sizes, others = (np.bincount(each.ravel(), minlength=m + 1) for each, m in ((lesions, n), (predicted, n_predicted)))
    both = np.zeros((n + 1, n_predicted + 1), np.int64)
    np.add.at(both, (lesions.ravel(), predicted.ravel()), 1)
    iou = both / (sizes[:, None] + others[None] - both).clip(1)
    matches = iou[1:, 1:] > LEAST_IOU
    return matches.any(1).tolist(), sizes[1:].tolist(), n_predicted - int(matches.any(0).sum())


def froc(folder: Path, dataset: PreparedDataset) -> list[dict[str, float]]:
    """Returns recall and false alarms by threshold."""
    rows = []
    with np.load(folder / "probabilities.npz") as stored:
        cases = [(stored[case_id], np.array(dataset.label_map(case_id))) for case_id in stored.files]
    for threshold in THRESHOLDS:
        each = [lesions_found(*case, threshold) for case in cases]
        both = [(hit, size) for hits, sizes, _ in each for hit, size in zip(hits, sizes, strict=True)]
        small = [hit for hit, size in both if size < SMALL_MM3]  # voxels of 1 mm³
        rows.append({
            "threshold": threshold,
            "small": fmean(small),
            "n_small": len(small),
            "all": fmean(hit for hit, _ in both),
            "false alarms": fmean(false for _, _, false in each),
            "Dice": fmean(dice(p > threshold, reference > 0) or 0 for p, reference in cases),
        })  # fmt: skip
    return rows


def at_false_alarms(rows: list[dict[str, float]], most: float) -> dict[str, float]:
    """Returns the row of highest recall that has no more false alarms; nan where each threshold has more."""
    fitting = [row for row in rows if row["false alarms"] <= most + 1e-9]
    return max(fitting, key=lambda row: row["small"]) if fitting else dict.fromkeys(rows[0], float("nan"))


def print_lesions(work: Path, losses: list[str], seeds: list[int], folders: dict[tuple[str, int], Path]) -> None:
    dataset = PreparedDataset(work / "lesions-prepared")
    print(
        "\n| loss | recall < 30 mm³ at ½ | false alarms at ½ | Dice at ½ | recall < 30 mm³ at as many false alarms as"
    )
    print("dice-ce | recall of all then | threshold then | s |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
    for loss in losses:
        columns = []
        for seed in seeds:
            rows = froc(folders[loss, seed], dataset)
            usual = next(r for r in froc(folders[losses[0], seed], dataset) if abs(r["threshold"] - 0.5) < 1e-6)
            half = next(row for row in rows if abs(row["threshold"] - 0.5) < 1e-6)
            same = at_false_alarms(rows, usual["false alarms"])
            seconds = json.loads((folders[loss, seed] / "seconds.json").read_text())
            columns.append((half["small"], half["false alarms"], half["Dice"], same["small"], same["all"],
                            same["threshold"], seconds))  # fmt: skip
        print(f"| {loss} | " + " | ".join(f"{fmean(column):.3f}" for column in zip(*columns, strict=True)) + " |")
    print(f"\n{rows[0]['n_small']} lesions under 30 mm³ in the held-back cases; seeds {seeds}")


def print_vessels(work: Path, losses: list[str], seeds: list[int], folders: dict[tuple[str, int], Path]) -> None:
    dataset = PreparedDataset(work / "vessels-prepared")
    print("\n| loss | clDice | Dice | pieces too many or too few | best clDice over thresholds | s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for loss in losses:
        columns = []
        for seed in seeds:
            with np.load(folders[loss, seed] / "probabilities.npz") as stored:
                cases = [(stored[case_id], np.array(dataset.label_map(case_id)) > 0) for case_id in stored.files]
            each = []
            for p, reference in cases:
                n, n_reference = (cc3d.connected_components(mask, return_N=True)[1] for mask in (p > 0.5, reference))
                each.append((centreline_dice(p > 0.5, reference) or 0, dice(p > 0.5, reference) or 0,
                             abs(n - n_reference)))  # fmt: skip
            best = max(fmean(centreline_dice(p > t, r) or 0 for p, r in cases) for t in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6))
            seconds = json.loads((folders[loss, seed] / "seconds.json").read_text())
            columns.append((*map(fmean, zip(*each, strict=True)), best, seconds))
        print(f"| {loss} | " + " | ".join(f"{fmean(column):.3f}" for column in zip(*columns, strict=True)) + " |")


def print_costs() -> None:
    """Prints the processor time of each loss and its gradient, of two patches of 48³ voxels with one label."""
    torch.set_num_threads(1)
    print("\n| loss | lesions, ms | vessels, ms |\n| --- | --- | --- |")
    label_maps = [np.stack([draw(seed)[1][:48, :48, :48] for seed in range(2)]) for draw in (lesions, vessels)]
    for name in OWN:
        times = []
        for target in (torch.from_numpy(each)[:, None] for each in label_maps):
            loss, logits = create_loss(name), torch.randn(2, 2, 48, 48, 48).requires_grad_()
            loss([logits], target).backward()
            start = time.process_time()
            for _ in range(3):
                loss([logits], target).backward()
            times.append((time.process_time() - start) / 3 * 1000)
        print(f"| `{name}` | " + " | ".join(f"{each:.0f}" for each in times) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=[*DRAWINGS, "costs"])
    parser.add_argument("--work", type=Path, default=Path("small-structures"))
    parser.add_argument("--losses", nargs="+", default=["dice-ce"])
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--dims", type=int, choices=(2, 3), default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    work, kind = arguments.work, arguments.kind
    if kind == "costs":
        print(describe())
        print_costs()
        return
    if not (work / f"{kind}-prepared" / "plan.json").is_file():
        draw, structure = DRAWINGS[kind]
        source = make_cases(work / kind, draw, structure, n=arguments.cases)
        medseg.preprocess(source, work / f"{kind}-prepared", config=load(overrides=[*PREPARED]))
    folders = {
        (loss, seed): trained(work, kind, loss, seed, arguments.steps, arguments.dims, arguments.settings)
        for loss in arguments.losses
        for seed in arguments.seeds
    }
    print(describe())
    tell = print_lesions if kind == "lesions" else print_vessels
    tell(work, arguments.losses, arguments.seeds, folders)


if __name__ == "__main__":
    main()
