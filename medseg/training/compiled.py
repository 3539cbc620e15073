"""torch.compile of a network, once it has shown that it computes the same."""

from collections.abc import Callable

import torch

from medseg.device import Device
from medseg.inferers.backends import TOLERANCE
from medseg.inferers.device_check import apart
from medseg.progress import say, warn

Trained = Callable[[torch.Tensor], torch.Tensor | list[torch.Tensor]]


def compiled(network: torch.nn.Module, image: torch.Tensor, device: Device, seed: int) -> Trained:
    """Returns the network compiled, after a trial forth and back on a batch.

    Where it cannot be compiled or gives other logits, the network is returned as it is, with a warning. What the trial
    changed (statistics of norms) is put back.

    Args:
        network: What is compiled.
        image: The batch, ``(sample, channel, *spatial)``.
        device: Where the network lies.
        seed: Of dropout.
    """
    buffers = [buffer.clone() for buffer in network.buffers()]
    try:
        candidate: Trained = torch.compile(network, dynamic=False)
        difference = apart(_tried(candidate, image, device, seed), _tried(network, image, device, seed))
    except Exception as error:  # whatever a compiler stumbles on
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warn(f"training.compile: torch.compile fails on this network ({reason}); it is trained as it is")
        return network
    finally:
        network.zero_grad(set_to_none=True)
        for buffer, before in zip(network.buffers(), buffers, strict=True):
            buffer.copy_(before)
    if not difference <= TOLERANCE:
        warn(f"training.compile: the compiled network gives other logits (by {difference:.1%}); it is trained as it is")
        return network
    say("The network is compiled")
    return candidate


def _tried(network: Trained, image: torch.Tensor, device: Device, seed: int) -> torch.Tensor:
    """Returns the finest logits, after a step forth and back."""
    torch.manual_seed(seed)  # of dropout
    with device.autocast():
        logits = network(image)
    heads = [logits] if isinstance(logits, torch.Tensor) else list(logits)
    torch.stack([head.float().square().mean() for head in heads]).sum().backward()  # type: ignore[no-untyped-call]
    return heads[0].detach().float()
