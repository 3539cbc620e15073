"""Run by the Python of an environment with nnunetv2, not by medseg's: nnU-Net's trainer by the clock.

    python nnunet_training.py PREPROCESSED CONFIGURATION BEGUN SECONDS SEED IMAGES MASKS RECORD

BEGUN is when it was called, as time.time() tells it.
"""

import json
import random
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class OutOfTime(Exception):
    pass


class ByTheClock(nnUNetTrainer):
    begun, budget, steps = 0.0, 0.0, 0

    def train_step(self, batch):
        done = (time.time() - self.begun) / self.budget
        if done >= 1:
            raise OutOfTime
        for group in self.optimizer.param_groups:
            group["lr"] = self.initial_lr * (1 - done) ** 0.9
        result = super().train_step(batch)
        self.steps += 1
        return result


def main():
    preprocessed, configuration, begun, budget, seed, images, masks, output = sys.argv[1:]
    for set_seed in (random.seed, np.random.seed, torch.manual_seed):
        set_seed(int(seed))
    plans, dataset = (
        json.loads((Path(preprocessed) / name).read_text()) for name in ("nnUNetPlans.json", "dataset.json")
    )
    plans["continue_training"] = False
    trainer = ByTheClock(plans, configuration, 0, dataset, torch.device("cpu"))
    trainer.begun, trainer.budget = float(begun), float(budget)
    trainer.on_train_start()
    train(trainer)
    seconds = time.time() - trainer.begun
    predict(trainer, Path(images), Path(masks))
    manager = trainer.configuration_manager
    patch = "×".join(map(str, list(manager.patch_size)[::-1]))
    features = manager.network_arch_init_kwargs["features_per_stage"]
    record = {
        "version": version("nnunetv2"),
        "plan": f"{manager.batch_size} of {patch}, {'-'.join(map(str, features))}",
        "steps": trainer.steps,
        "training_seconds": seconds,
    }
    Path(output).write_text(json.dumps(record))


def train(trainer):
    try:
        while True:
            trainer.on_epoch_start()
            trainer.on_train_epoch_start()
            steps = range(trainer.num_iterations_per_epoch)
            losses = [trainer.train_step(next(trainer.dataloader_train)) for _ in steps]
            trainer.on_train_epoch_end(losses)
            trainer.current_epoch += 1
    except OutOfTime:
        trainer.dataloader_train._finish()
        trainer.dataloader_val._finish()


def predict(trainer, images, masks):
    masks.mkdir(parents=True)
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
    predictor.predict_from_files_sequential(str(images), str(masks))


if __name__ == "__main__":
    main()
