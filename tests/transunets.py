"""TransUNets small enough for tests."""

from medseg.architecture import Architecture

SMALL = {"layers": 2, "blocks": [1, 2, 1]}


def architecture(dims: int, features: tuple[int, ...] = (4, 8, 16, 32), **arguments: object) -> Architecture:
    return Architecture(
        name="transunet",
        features=features,
        strides=((1,) * dims, *((2,) * dims,) * (len(features) - 1)),
        kernel_sizes=((3,) * dims,) * len(features),
        arguments=arguments,
    )
