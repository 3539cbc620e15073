"""Draws lesions of all sizes, or vessels; trains the same small network by several losses, equally long; measures it.

Half of the cases are held back. Of lesions: the recall of those under 30 mm³ at so many false alarms a case (FROC).
Candidates are the connected components of probabilities above .1; the surest ones are kept, by their highest
probability. A candidate with an IoU above .1 with a lesion shows it; with none, it is a false alarm. Of vessels:
clDice, and pieces that the prediction has more or fewer than the reference. Printed are the means over the seeds; the
probabilities of each run stay in --work, and runs that are there are not trained again.

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
from scipy.ndimage import maximum

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
from medseg.metrics.lesions import match_lesions
from medseg.metrics.objects import object_pairs
from medseg.networks.registry import build_network
from medseg.phantom.small_structures import lesions, make_cases, vessels
from medseg.training.parts import make_trainer
from medseg.training.run import resolve_plan

DRAWINGS = {"lesions": (lesions, "lesion"), "vessels": (vessels, "vessel")}
SMALL_MM3, LEAST_IOU = 30.0, 0.1
LEAST_PROBABILITY, FALSE_ALARMS, SURE = 0.1, (1, 2, 4, 8), 0.999
SMALLEST_PIECE = 20  # voxels, of vessels
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
        probabilities[case_id] = logits.float().softmax(0)[1].numpy()
    folder.mkdir(parents=True)
    (folder / "seconds.json").write_text(json.dumps(seconds))
    np.savez(folder / "probabilities.npz", **probabilities)
    return folder


def candidates(probabilities: np.ndarray, lesions: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns which candidate shows which lesion, ``(lesion, candidate)``, and the highest probability of each.

    Candidates are the connected components of the voxels of more than the least probability.
    """
    found, n = cc3d.connected_components(probabilities > least, return_N=True)
    pairs = object_pairs(lesions, found)
    shows, near = np.zeros((lesions.max(), n), bool), pairs.iou > LEAST_IOU
    shows[pairs.reference[near] - 1, pairs.predicted[near] - 1] = True
    return shows, np.asarray(maximum(probabilities, found, np.arange(1, n + 1)))


def froc(folder: Path, dataset: PreparedDataset, least: float) -> list[dict[str, float]]:
    """Returns recall and false alarms, from the surest candidates alone to all of them."""
    cases, small = [], []
    with np.load(folder / "probabilities.npz") as stored:
        for case_id in stored.files:
            lesions = cc3d.connected_components(np.array(dataset.label_map(case_id)))
            small.append(np.bincount(lesions.ravel())[1:] < SMALL_MM3)  # voxels of 1 mm³
            cases.append(candidates(stored[case_id].astype(np.float32), lesions, least))
    rows, is_small = [], np.concatenate(small)
    for limit in np.unique(np.concatenate([sure for _, sure in cases]))[::-1]:
        kept = [shows[:, sure >= limit] for shows, sure in cases]
        hits = np.concatenate([shows.any(1) for shows in kept])
        false = fmean(int((~shows.any(0)).sum()) for shows in kept)
        rows.append({"small": hits[is_small].mean(), "n_small": int(is_small.sum()), "false alarms": false})
    return rows


def lesion_f1(folder: Path, dataset: PreparedDataset, smallest: int = 0, sure: float = 0.0) -> float:
    """Returns the mean lesion F1 of the masks at one half, without components that are small or not sure."""
    values = []
    with np.load(folder / "probabilities.npz") as stored:
        for case_id in stored.files:
            probabilities = stored[case_id].astype(np.float32)
            found, n = cc3d.connected_components(probabilities > 0.5, return_N=True)
            kept = np.zeros(n + 1, bool)
            kept[1:] = np.bincount(found.ravel())[1:] >= smallest
            kept[1:] &= maximum(probabilities, found, np.arange(1, n + 1)) >= sure
            values.append(match_lesions(kept[found], np.array(dataset.label_map(case_id)) > 0).f1 or 0)
    return fmean(values)


def print_lesions(work: Path, losses: list[str], seeds: list[int], folders: dict[tuple[str, int], Path]) -> None:
    dataset = PreparedDataset(work / "lesions-prepared")
    print("\nRecall of lesions under 30 mm³ at so many false alarms a case; and without a choice of the surest\n")
    head = [*(f"{each:g}" for each in FALSE_ALARMS), "at ½", "false alarms at ½", "Dice at ½",
            "lesion F1", f"without < {SMALL_MM3:g} mm³", f"without unsure (< {SURE:g})", "s"]  # fmt: skip
    print(f"| loss | {' | '.join(head)} |\n|{' --- |' * (1 + len(head))}")
    for loss in losses:
        columns = []
        for seed in seeds:
            folder = folders[loss, seed]
            rows, plain = froc(folder, dataset, LEAST_PROBABILITY), froc(folder, dataset, 0.5)[-1]
            at = [max((r["small"] for r in rows if r["false alarms"] <= most), default=0.0) for most in FALSE_ALARMS]
            with np.load(folder / "probabilities.npz") as stored:
                overlaps = [dice(stored[each] > 0.5, np.array(dataset.label_map(each)) > 0) for each in stored.files]
            seconds = json.loads((folder / "seconds.json").read_text())
            f1 = [lesion_f1(folder, dataset, *kept) for kept in ((), (int(SMALL_MM3),), (0, SURE))]
            overlap = fmean(each or 0 for each in overlaps)
            columns.append((*at, plain["small"], plain["false alarms"], overlap, *f1, seconds))
        print(f"| {loss} | " + " | ".join(f"{fmean(column):.3f}" for column in zip(*columns, strict=True)) + " |")
    print(f"\n{plain['n_small']} lesions under 30 mm³ in the held-back cases; seeds {seeds}")


def print_vessels(work: Path, losses: list[str], seeds: list[int], folders: dict[tuple[str, int], Path]) -> None:
    dataset = PreparedDataset(work / "vessels-prepared")
    print("\n| loss | clDice | Dice | pieces too many or too few | "
          f"clDice without pieces of < {SMALLEST_PIECE} voxels | s |")  # fmt: skip
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
            cleaned = ((cc3d.dust(p > 0.5, threshold=SMALLEST_PIECE, connectivity=26) > 0, r) for p, r in cases)
            clean = fmean(centreline_dice(*each) or 0 for each in cleaned)
            seconds = json.loads((folders[loss, seed] / "seconds.json").read_text())
            columns.append((*map(fmean, zip(*each, strict=True)), clean, seconds))
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
