"""Training: one loop over batches, and callbacks for everything else.

Example:
    >>> import torch
    >>> from monai.losses import DiceCELoss
    >>> from medseg.config import TrainingConfig
    >>> from medseg.training import Trainer
    >>> network = torch.nn.Conv2d(1, 2, kernel_size=3, padding=1)
    >>> loss = DiceCELoss(to_onehot_y=True, softmax=True)
    >>> settings = TrainingConfig(epochs=1, steps_per_epoch=2)
    >>> trainer = Trainer(None, network, loss, torch.optim.AdamW, settings=settings)
    >>> batch = {"image": torch.rand(2, 1, 16, 16), "label": torch.ones(2, 1, 16, 16)}
    >>> trainer.fit([batch, batch]).step  # as well: a DataLoader of such dictionaries
    2
    >>> trainer.average(batch["image"]).shape  # the trained network
    torch.Size([2, 2, 16, 16])
"""

from medseg.training.callback import Callback, Restart
from medseg.training.epoch import Epoch
from medseg.training.state import TrainingState
from medseg.training.trainer import Trainer

__all__ = ["Callback", "Epoch", "Restart", "Trainer", "TrainingState"]
