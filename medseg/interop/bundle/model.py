"""A bundle of MONAI as a model of medseg: network, grid, windows, labels and postprocessing, from its configuration."""

import datetime
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from medseg.device import choose_device
from medseg.errors import ModelError, did_you_mean
from medseg.files import folder_written_whole
from medseg.inferers.model import copy_models, load_model, save_model
from medseg.inferers.model_record import RECORD, ModelRecord
from medseg.interop.bundle.configuration import ADVICE, BundleConfig
from medseg.interop.bundle.inference import BundleOutput, bundle_output, bundle_windows
from medseg.interop.bundle.metadata import BundleMetadata
from medseg.interop.bundle.network import BundleNetwork, bundle_network, bundle_weights, with_outputs_in_order
from medseg.interop.bundle.preprocessing import bundle_grid
from medseg.io.archives import is_archive, unpacked_content
from medseg.labels import Labels
from medseg.plan import LearntRegion, Plan
from medseg.progress import warn
from medseg.records import explained
from medseg.version import VERSION
from medseg.weights import Tensors

CONFIGS, MODELS = "configs", "models"
SUFFIXES = (".json", ".yaml", ".yml")
DEFAULT = "inference"


def bundle_at(source: Path) -> Path | None:
    """Returns the folder of a bundle of MONAI, which has a configuration in configs/; None where there is none.

    Args:
        source: The folder, or a zip of it.

    Raises:
        SourceError: The zip is damaged, or holds what leads out of it.
    """
    folder = unpacked_content(source) if source.is_file() and is_archive(source) else source
    names = (f"{name}{suffix}" for name in (DEFAULT, "metadata") for suffix in SUFFIXES)
    return folder if any((folder / CONFIGS / name).is_file() for name in names) else None


def import_bundle(bundle: Path, output: Path, *, configuration: str | None = None, entries: Sequence[str] = ()) -> Path:
    """Writes the model folder of a bundle of MONAI, without running any code of it.

    Args:
        bundle: The folder of the bundle.
        output: The model folder to write.
        configuration: The name of a file in configs/, without its suffix; None: "inference".
        entries: "ENTRY::ENTRY=VALUE": entries of that file to change first, as ``python -m monai.bundle run`` takes
            them.

    Returns:
        ``output``.

    Raises:
        ModelError: The bundle holds something that medseg cannot follow, which the error names by file and line; or its
            weights don't fit.
        ConfigError: There is no entry of that name in ``entries``.
        OutputError: The model cannot be written, or is there already.
    """
    own = None if configuration or entries else own_model(bundle)
    if own is not None:
        loaded = load_model(own, choose_device("cpu", "fp32"))  # which is refused where it does not load
        with folder_written_whole(output) as folder:
            copy_models(loaded.folders, folder)
        return output
    record, weights = read_bundle(bundle, configuration or DEFAULT, entries)
    for note in record.origin.notes if record.origin else ():
        warn(note)
    with folder_written_whole(output) as folder:
        save_model(folder, record, weights)
    return output


def own_model(bundle: Path) -> Path | None:
    """Returns the model that lies in a bundle which ``medseg package`` wrote; None in others."""
    is_there = any((bundle / MODELS / name / RECORD).is_file() for name in ("", "fold_0"))
    return bundle / MODELS if is_there else None


def read_bundle(bundle: Path, configuration: str = DEFAULT, entries: Sequence[str] = ()) -> tuple[ModelRecord, Tensors]:
    """Returns what model.json says of a bundle, and its weights by the names of medseg's network.

    Args:
        bundle: The folder of the bundle.
        configuration: The name of a file in configs/, without its suffix.
        entries: As of ``import_bundle``.

    Raises:
        ModelError: As of ``import_bundle``.
        ConfigError: As of ``import_bundle``.
    """
    config = BundleConfig.read(_file(bundle, configuration), tuple(entries))
    network = bundle_network(config)
    made = bundle_output(config, network.out_channels)
    metadata = BundleMetadata(bundle)
    try:
        names = _labels(metadata.outputs(network.out_channels), made)
    except ValidationError as error:
        raise config.error("postprocessing", f"makes label values that cannot be: {explained(error)}") from error
    record = _record(config, network, made, metadata, names)
    if len(record.outputs) != network.out_channels:
        raise config.error("postprocessing", f"leaves {len(record.outputs)} of {network.out_channels} outputs a value")
    weights = bundle_weights(network, config, bundle)
    if made.sigmoid:
        weights = with_outputs_in_order(network, weights, [output for output, _ in made.written])
    return record, weights


def _file(bundle: Path, name: str) -> Path:
    """Returns the file of a configuration."""
    folder = bundle / CONFIGS
    found = [file for suffix in SUFFIXES if (file := folder / f"{name}{suffix}").is_file()]
    if not found:
        others = sorted(file.stem for file in folder.iterdir() if file.suffix in SUFFIXES) if folder.is_dir() else []
        raise ModelError(f"{folder}: has no {name}.json or {name}.yaml{did_you_mean(name, others)}")
    return found[0]


LabelsAndRegions = tuple[Labels, tuple[LearntRegion, ...]]


def _labels(names: list[str], made: BundleOutput) -> LabelsAndRegions:
    """Returns the labels of outputs, and the regions where each output is one by itself.

    Regions are written over one another. Each is taken to hold those that are written later, as a tumour holds its
    core.

    Raises:
        ValidationError: Their values do not differ, or are those of the background.
    """
    if not made.sigmoid:
        by_name = {name: made.values.get(i, i) for i, name in enumerate(names) if i > 0}
        return Labels.from_names(by_name), ()
    values = [value for _, value in made.written]
    order = [names[i] for i, _ in made.written]
    unions = {name: tuple(values[i:]) for i, name in enumerate(order)}
    labels = Labels.from_names({order[-1]: values[-1]}, regions={name: unions[name] for name in order[:-1]})
    number = {value: i for i, value in enumerate(labels.values, start=1)}
    regions = tuple(
        LearntRegion(name=name, values=tuple(sorted(number[each] for each in unions[name])), value=number[value])
        for name, value in zip(order, values, strict=True)
    )
    return labels, regions


def _record(
    config: BundleConfig,
    network: BundleNetwork,
    made: BundleOutput,
    metadata: BundleMetadata,
    names: LabelsAndRegions,
) -> ModelRecord:
    """Returns model.json of a bundle."""
    labels, regions = names
    dims = len(network.architecture.strides[0])
    windows = bundle_windows(config, dims)
    try:
        plan = Plan(
            dims=dims,
            grid=bundle_grid(config, network.in_channels, made.restored),
            patch_size=windows.patch_size,
            batch_size=2,
            slice_axis=windows.slice_axis,
            architecture=network.architecture,
            regions=regions,
            windows=windows.windows,
        )
        return ModelRecord(
            medseg=VERSION,
            plan=plan,
            labels=labels,
            channels=metadata.channels(network.in_channels),
            inference=windows.inference,
            postprocessing=made.rules(labels.names),
            provenance={"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")},
            metrics={},
            origin=metadata.origin(made.notes),
        )
    except ValidationError as error:
        raise ModelError(f"{config.file}: cannot be taken: {explained(error)}; {ADVICE}") from error
