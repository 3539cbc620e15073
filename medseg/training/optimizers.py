"""Optimizers by name, Muon among them, and the average of weights.

Muon: momentum whose singular values are all made one (Jordan et al. 2024, "Muon: an optimizer for hidden layers in
neural networks"; sizes of its steps as in Liu et al. 2025, "Muon is scalable for LLM training", arXiv 2502.16982).
torch.optim has one since 2.9, for matrices only; the weights of a convolution, (output, input, *kernel), are matrices
of one row an output.
"""

from collections.abc import Callable, Iterable
from itertools import filterfalse
from typing import Any

import torch

from medseg.config import TrainingConfig
from medseg.errors import ConfigError, MedsegError, did_you_mean, reason_of
from medseg.plugin_errors import PluginError, check_arguments, errors_of_plugins
from medseg.plugins import plugin_of
from medseg.setting_types import NAMES, TORCH

# Of the quintic iteration that moves singular values towards 1 (Jordan et al. 2024).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# Makes the root mean square of an update that of AdamW's, so that the same learning rate suits both (Liu et al. 2025).
LIKE_ADAMW = 0.2
# Muon leaves smaller ones to AdamW: those that see the image or make logits are no matrices between features.
SMALLEST_MATRIX = 8
# The base class; one that needs a closure; one for sparse gradients; one for matrices only, see ``Muon``.
LEFT_OUT = ("Optimizer", "LBFGS", "SparseAdam", "Muon")
# Added to deviations in AdamW's steps (Kingma and Ba 2015).
EPS = 1e-8


class Muon(torch.optim.Optimizer):
    """Muon for weights of more than one axis: Nesterov momentum, made orthogonal, and decoupled weight decay.

    AdamW changes the ``others``: all other weights, and those that make logits or see the image, which are no matrices
    between features.

    Source: Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks; Liu et al. 2025,
    arXiv:2502.16982.
    """

    def __init__(
        self,
        matrices: Iterable[torch.nn.Parameter],
        others: Iterable[torch.nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay}
        groups = [
            {"params": list(matrices), "momentum": momentum},
            {"params": list(others), "betas": betas, "eps": EPS},
        ]
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Changes the parameters by their gradients.

        Args:
            closure: Called first, to compute the loss again.

        Returns:
            What ``closure`` returns; None without one.
        """
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                update = self._muon if "momentum" in group else self._adamw
                update(parameter, parameter.grad, group)
        return loss

    def _muon(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        matrix = gradient.lerp(momentum, group["momentum"]).flatten(1)
        update = orthogonal(matrix).view(parameter.shape)
        parameter.add_(update, alpha=-group["lr"] * LIKE_ADAMW * max(matrix.shape) ** 0.5)

    def _adamw(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state.update(step=torch.zeros(()), mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        first, second = group["betas"]
        state["step"] += 1
        mean = state["mean"].lerp_(gradient, 1 - first)
        square = state["square"].lerp_(gradient.square(), 1 - second)
        n = state["step"].item()
        deviation = (square / (1 - second**n)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(mean, deviation, value=-group["lr"] / (1 - first**n))


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Returns about U Vᵀ of the singular value decomposition U S Vᵀ of a matrix: singular values of .7 to 1.2.

    An iteration multiplies X by the polynomial P = a + b G + c G² of its Gram matrix G = X Xᵀ, which becomes P G P. So
    all of them work on G, which is small, and X is multiplied once.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    gram = x @ x.T
    total = one = torch.eye(len(gram), dtype=x.dtype, device=x.device)
    for _ in range(ITERATIONS):
        polynomial = a * one + torch.addmm(gram, gram, gram, beta=b, alpha=c)
        total = polynomial @ total
        gram = polynomial @ gram @ polynomial
    x = torch.mm(total, x)
    return x.T if tall else x


def make_optimizer(network: torch.nn.Module, rate: float, config: TrainingConfig) -> torch.optim.Optimizer:
    """Returns the optimizer that ``config.optimizer`` names, for all weights of the network.

    Args:
        network: Whose weights are trained.
        rate: The highest learning rate of the schedule.
        config: ``optimizer``, ``optimizer_arguments``, ``momentum`` and ``weight_decay``.

    Raises:
        ConfigError: PyTorch has no such optimizer, or an optimizer has no such arguments.
        PluginError: The optimizer of a plugin raised an error.
    """
    name, arguments = config.optimizer, config.optimizer_arguments
    plugin = plugin_of("optimizer", name, is_taken=name in NAMES["optimizer"] or name.startswith(TORCH))
    if plugin is not None or name.startswith(TORCH):
        build = plugin.build if plugin is not None else _of_torch(name)
        return _built(name, build, network.parameters(), {"lr": rate, **arguments})
    if arguments:
        raise ConfigError(
            f"training.optimizer_arguments: {name} has none; set training.momentum and training.weight_decay"
        )
    if name == "sgd":
        return torch.optim.SGD(
            network.parameters(),
            lr=rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.momentum > 0,
        )
    if name == "muon":
        matrices = filter(_is_matrix, network.parameters())
        others = filterfalse(_is_matrix, network.parameters())
        return Muon(matrices, others, lr=rate, weight_decay=config.weight_decay)
    return torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=config.weight_decay)


def _of_torch(name: str) -> type[torch.optim.Optimizer]:
    """Returns the class of ``torch.optim`` that "torch.NAME" names."""
    kinds = {
        key: kind
        for key, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and key not in LEFT_OUT
    }
    key = name.removeprefix(TORCH)
    if key not in kinds:
        raise ConfigError(f"training.optimizer: PyTorch has no optimizer '{key}'{did_you_mean(key, kinds)}")
    return kinds[key]


def _built(
    name: str, build: Callable[..., Any], parameters: Iterable[torch.nn.Parameter], arguments: dict[str, Any]
) -> torch.optim.Optimizer:
    check_arguments(f"training.optimizer_arguments of {name}", build, parameters, **arguments)
    try:
        with errors_of_plugins():
            optimizer = build(parameters, **arguments)
    except MedsegError:
        raise
    except Exception as error:  # whatever PyTorch says about their values
        raise ConfigError(f"training.optimizer: {name} cannot be built ({reason_of(error)})") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise PluginError(f"'{name}' made a {type(optimizer).__name__}; it has to be a torch.optim.Optimizer")
    return optimizer


def _is_matrix(parameter: torch.Tensor) -> bool:
    return parameter.ndim > 1 and min(parameter.shape[:2]) >= SMALLEST_MATRIX


@torch.no_grad()
def update_average(average: torch.nn.Module, network: torch.nn.Module, step: int, decay: float | None) -> None:
    """Moves the exponential average of weights towards those of the network after a step.

    It is an average over a tenth of the steps so far, so that it suits trainings of any length and soon forgets the
    random first weights (Karras et al. 2024, arXiv:2312.02696, section 3.1), or over less by ``decay``.

    Args:
        average: A copy of the network. Buffers are copied: the statistics of batch normalization are averages already.
        network: The network.
        step: Steps done before this one.
        decay: At most this, from 0 (no average) to 1. None: by the steps alone.
    """
    by_steps = (1 + step) / (10 + step)
    weight = by_steps if decay is None else min(decay, by_steps)
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - weight)
    for averaged, current in zip(average.buffers(), network.buffers(), strict=True):
        averaged.copy_(current)
