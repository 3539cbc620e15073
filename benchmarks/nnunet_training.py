"""nnU-Net's own trainer by the clock, run by the Python of an environment with nnunetv2, not by medseg's.

    PEER/bin/python -P nnunet_training.py PREPROCESSED CONFIGURATION RECORD --seconds 300 [--trainer NAME]

PREPROCESSED is nnU-Net's preprocessed folder of the dataset. Its schedule is a thousand epochs long and knows no clock:
here the learning rate decays by the clock, and training ends when the time is up. nnU-Net's trained folder is
written as ever, so that its own commands predict with it. RECORD is JSON: version, plan, steps, seconds and losses.
``-P`` keeps this file's neighbours from being imported.
"""

import argparse
import json
import random
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as trainers
from nnunetv2.training.nnUNetTrainer.variants.optimizer import nnUNetTrainerAdam as adam_trainers


class OutOfTime(Exception):
    pass


class ByTheClock:
    """Goes before one of nnU-Net's trainers."""

    begun, budget, last = 0.0, 0.0, None

    def train_step(self, batch):
        now = time.time()
        done = (now - self.begun) / self.budget
        if done >= 1:
            raise OutOfTime
        for group in self.optimizer.param_groups:
            group["lr"] = self.initial_lr * (1 - done) ** 0.9
        result = super().train_step(batch)
        self.losses.append(float(result["loss"]))
        self.step_seconds.append(time.time() - (self.last or now))
        self.last = time.time()
        return result


def main():
    arguments = parsed()
    if arguments.seed is not None:
        for set_seed in (random.seed, np.random.seed, torch.manual_seed):
            set_seed(arguments.seed)
    trainer = made(arguments)
    train(trainer)
    record = {
        "version": version("nnunetv2"),
        "plan": plan_in_words(trainer.configuration_manager),
        "batch_size": trainer.configuration_manager.batch_size,
        "steps": len(trainer.losses),
        "training_seconds": time.time() - trainer.begun,
        "step_seconds": trainer.step_seconds,
        "losses": trainer.losses,
        "folder": trainer.output_folder_base,
    }
    trainer.on_train_end()  # writes the checkpoint
    if arguments.predict:
        predict(trainer, *arguments.predict)
    if arguments.validate:
        record |= validated(trainer)
    arguments.record.write_text(json.dumps(record))


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preprocessed", type=Path)
    parser.add_argument("configuration")
    parser.add_argument("record", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--begun", type=float, default=time.time(), help="when the seconds begin, as time.time() says")
    parser.add_argument("--plans", default="nnUNetPlans", help="name of a plans file in PREPROCESSED")
    parser.add_argument("--trainer", default="nnUNetTrainer", help="one of nnU-Net's own")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--predict", nargs=2, metavar=("IMAGES", "MASKS"), help="without mirroring")
    parser.add_argument("--validate", action="store_true", help="nnU-Net's validation of fold 0, with mirroring")
    return parser.parse_args()


def made(arguments):
    plans, dataset = (
        json.loads((arguments.preprocessed / name).read_text()) for name in (f"{arguments.plans}.json", "dataset.json")
    )
    plans["continue_training"] = False
    named = vars(trainers) | vars(adam_trainers)
    # By the name of nnU-Net's own class, which its checkpoint tells the predictor.
    own = type(arguments.trainer, (ByTheClock, named[arguments.trainer]), {})
    trainer = own(plans, arguments.configuration, 0, dataset, torch.device("cpu"))
    trainer.begun, trainer.budget = arguments.begun, arguments.seconds
    trainer.losses, trainer.step_seconds = [], []
    return trainer


def train(trainer):
    trainer.on_train_start()
    try:
        while True:
            trainer.on_epoch_start()
            trainer.on_train_epoch_start()
            steps = range(trainer.num_iterations_per_epoch)
            losses = [trainer.train_step(next(trainer.dataloader_train)) for _ in steps]
            trainer.on_train_epoch_end(losses)
            trainer.current_epoch += 1
    except OutOfTime:
        pass


def plan_in_words(manager):
    patch = "×".join(map(str, list(manager.patch_size)[::-1]))
    features = manager.network_arch_init_kwargs["features_per_stage"]
    return f"{manager.batch_size} of {patch}, {'-'.join(map(str, features))}"


def predict(trainer, images, masks):
    Path(masks).mkdir(parents=True)
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), perform_everything_on_device=False)
    weights = {name: weight.clone() for name, weight in trainer.network.state_dict().items()}
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [weights],
        trainer.dataset_json,
        "nnUNetTrainer",
        trainer.inference_allowed_mirroring_axes,
    )
    predictor.predict_from_files_sequential(images, masks)


def validated(trainer):
    begun = time.time()
    trainer.perform_actual_validation(False)
    summary = json.loads((Path(trainer.output_folder) / "validation" / "summary.json").read_text())
    dice = {label: metrics["Dice"] for label, metrics in summary["mean"].items()}
    return {"dice": dice, "validation_seconds": time.time() - begun}


if __name__ == "__main__":
    main()
