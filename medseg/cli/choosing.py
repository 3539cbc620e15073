"""The options that choose images, channels, labels and workers, of all commands that find cases."""

from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated

import typer

from medseg.errors import ConfigError

Images = Annotated[
    list[str] | None,
    typer.Option(
        "--images",
        help="Glob below SOURCE that selects images, as in '*/CT_image.nii.gz'; several are the channels of a case, as "
        "in 'CT=*/CT.nii.gz' or '{case}/*_{channel}.nii.gz'.",
    ),
]

LabelMaps = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="Glob that selects their label maps; * stands for what it matched in --images. With names, as in "
        "'{case}/{structure}.nii.gz', these are compared instead; {structure} finds a file for each structure.",
    ),
]

Registered = Annotated[
    bool,
    typer.Option(
        "--registered", help="Channels on different grids show one place; resample them to the first one's grid."
    ),
]

Rename = Annotated[
    list[str] | None,
    typer.Option(
        "--rename",
        help="Names of segments and the label that they are, as in 'GTV*=tumour'; 'external=' drops one.",
    ),
]

Instances = Annotated[
    list[str] | None,
    typer.Option(
        "--instances",
        help="Name of a label whose objects are told apart, such as nucleus or lesion; a dataset.json may name them in "
        "'instances' instead.",
    ),
]

IgnoreValue = Annotated[
    int | None,
    typer.Option(
        "--ignore-value",
        help="Value of the voxels of label maps that nobody annotated; a dataset.json may name it 'ignore' instead.",
    ),
]


Spacing = Annotated[
    tuple[float, float, float] | None,
    typer.Option(
        "--spacing",
        metavar="X Y Z",
        help="Edge lengths of the voxels in mm, along the array's axes, where the headers of images lost them (not "
        "those that the network is to see: preprocessing.spacing). A cases.csv may give one to each case, in a column "
        "'spacing'.",
        show_default=False,
    ),
]


Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="CLUSTER",
        help="Work on cases elsewhere: local:4 (so many processes), dask://host:8786, or slurm, pbs, lsf, sge, with "
        "settings as in slurm:jobs.yaml.",
    ),
]


def workers_of(cluster: str | None, tasks: int = 2) -> AbstractContextManager[Executor | None]:
    """Returns a block in which the workers of a cluster can be used, each for so many tasks at a time; None without a
    cluster."""
    if cluster is None:
        return nullcontext()
    from medseg.cluster import open_cluster

    return open_cluster(cluster, tasks)


def renames(options: Sequence[str] | None) -> dict[str, str]:
    """Returns labels by names or globs of segments, in the order given.

    Raises:
        ConfigError: An option is wrong.
    """
    for option in options or ():
        if not option.rpartition("=")[0].strip():
            raise ConfigError(f"--rename '{option}': write it as SEGMENT=LABEL, or SEGMENT= to drop it")
    pairs = (option.rpartition("=") for option in options or ())
    return {name.strip(): label.strip() for name, _, label in pairs}
