"""What a network takes for a patch: parameters, computations, memory."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from medseg.architecture import Architecture
from medseg.losses import DiceCrossEntropyLoss
from medseg.networks.network import Network
from medseg.networks.registry import build_network, build_without_memory
from medseg.plan import Plan
from medseg.planning.network import fit_to_network
from medseg.records import Record

# Float32 numbers that training holds for a parameter: itself, its average, its gradient, Muon's momentum. (AdamW, to
# which Muon leaves the few weights that are no matrices, has one more.)
NUMBERS_PER_PARAMETER = 4


class Cost(Record):
    """What a network takes for one patch, and for the batch of one training step.

    Counted on tensors without content: ``gflop`` are those of convolutions, matrix products and attention to segment a
    patch, where a multiplication and an addition are two. ``training_mb`` is what a step in float32 holds when it turns
    back: four numbers a parameter (weight, average, gradient, Muon's momentum) and all that autograd keeps of network
    and loss. In bf16 the latter is about half; the work space of kernels comes on top.
    """

    dims: int
    patch_size: tuple[int, ...]
    batch_size: int
    parameters: int
    gflop: float
    training_mb: float


def network_cost(plan: Plan, inputs: int, outputs: int) -> Cost:
    """Returns what the network of a plan takes.

    Args:
        plan: Its patch is made to fit to the network.
        inputs: Channels of the image.
        outputs: Channels of the logits.

    Raises:
        ConfigError: The network cannot be built from the plan.
    """
    plan = fit_to_network(plan, _without_content(inputs, outputs, plan.architecture))
    network = _without_content(inputs, outputs, plan.architecture)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    images = torch.empty(plan.batch_size, inputs, *plan.network_patch, device="meta")
    with FlopCounterMode(display=False) as counter:
        network.eval()(images[:1])
    kept = kept_bytes(network, images) + parameters * NUMBERS_PER_PARAMETER * 4
    return Cost(
        dims=plan.dims,
        patch_size=plan.network_patch,
        batch_size=plan.batch_size,
        parameters=parameters,
        gflop=counter.get_total_flops() / 1e9,
        training_mb=kept / 2**20,
    )


def _without_content(inputs: int, outputs: int, architecture: Architecture) -> Network:
    network = build_without_memory(inputs, outputs, architecture)
    return build_network(inputs, outputs, architecture).to("meta") if network is None else network


def kept_bytes(network: Network, images: torch.Tensor) -> int:
    """Returns what autograd keeps of a training step for its way back in bytes, the weights not counted."""
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no other gets its number

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    loss = DiceCrossEntropyLoss(head_weights=network.head_weights, margin=network.margin)
    label = torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.uint8, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = loss(network.train()(images), label)
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    total = sum(storage.nbytes() for number, storage in kept.items() if number not in own)
    del result  # what was kept lives as long
    return total
