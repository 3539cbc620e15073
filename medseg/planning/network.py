"""The network of a plan: the user's choices, and the patch that it takes."""

from medseg.architecture import CUSTOM_NETWORK, PromptChannels
from medseg.config import Config
from medseg.errors import ConfigError
from medseg.networks.network import Network
from medseg.plan import Plan
from medseg.planning.derive import take_chosen_patch
from medseg.volume import mean_edge

# Of prompts, in voxels of the model grid. A ball fades from its centre on, so that a large one says the place just as
# well, to voxels far away too: with a radius of 3 the network had not learnt after 850 steps to look at clicks at all,
# with one of 14 it did in 350 (benchmarks/README.md, "Click by click").
POINT_RADIUS = 14.0
SCRIBBLE_RADIUS = 1.0


def with_network(plan: Plan, config: Config) -> Plan:
    """Returns the plan with the network, the patch and the batch of the user."""
    plan = take_chosen_patch(plan, config)
    if config.training.batch_size is not None:
        plan = plan.model_copy(update={"batch_size": config.training.batch_size})
    changes: dict[str, object] = {
        "name": config.network.name,
        "deep_supervision": config.network.deep_supervision,
        "convolutions_per_stage": config.network.convolutions_per_stage,
        "arguments": config.network.arguments,
    }
    if config.network.features is not None:
        stages = len(plan.architecture.strides)
        if len(config.network.features) != stages:
            raise ConfigError(
                f"network.features has {len(config.network.features)} numbers, the plan has {stages} stages "
                f"(features {list(plan.architecture.features)})"
            )
        changes["features"] = tuple(config.network.features)
    return plan.model_copy(update={"architecture": plan.architecture.model_copy(update=changes)})


def with_prompts(plan: Plan, config: Config) -> Plan:
    """Returns the plan with a network that takes prompts, or takes none, as the user has it.

    Raises:
        ConfigError: The network is one of the user's own, which sees what it sees.
    """
    objects = config.training.prompts
    if objects is None:
        return plan
    if objects != "none" and plan.architecture.name == CUSTOM_NETWORK:
        raise ConfigError("training.prompts: a network of your own takes none; leave it out, or choose one by its name")
    voxel_mm = mean_edge(plan.grid.spacing, plan.patch_size)
    prompts = (
        PromptChannels(
            point_radius_mm=POINT_RADIUS * voxel_mm, scribble_radius_mm=SCRIBBLE_RADIUS * voxel_mm, objects=objects
        )
        if objects != "none"
        else None
    )
    return plan.model_copy(update={"architecture": plan.architecture.model_copy(update={"prompts": prompts})})


def fit_to_network(plan: Plan, network: Network) -> Plan:
    """Returns the plan with what the network wants: a patch that it takes, and arguments that follow from that patch.

    Where the network gives the logits of the centre, that centre is the plan's patch, so that all networks learn from
    equally many voxels.
    """
    wanted = [n + 2 * lost for n, lost in zip(plan.network_patch, network.margin, strict=True)]
    shape = network.fitting_shape(wanted)
    arguments = plan.architecture.arguments | network.arguments_for(shape)
    architecture = plan.architecture.model_copy(update={"arguments": arguments})
    return plan.model_copy(update={"patch_size": plan.in_space(shape, 1), "architecture": architecture})
