"""export: read a mask, bring it to the grid of a study, write it in the format of another program."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medseg.dataset.mask import Mask, read_mask, study_of, without_overlaps
from medseg.errors import ConfigError, LabelError, OutputError
from medseg.evaluation.predictions_json import labels_beside
from medseg.instances.object_map import numbered
from medseg.instances.object_structures import object_labels
from medseg.io.discover import mask_source
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import Written, format_of, write_mask
from medseg.labels import Labels


def export(
    mask: str | Path,
    output: str | Path,
    *,
    like: str | Path | None = None,
    format: str | None = None,
    names: Mapping[int, str] | None = None,
    labels: Labels | None = None,
    instances: str = "",
) -> Written:
    """Writes a mask in another format, on the grid of a study if one is given.

    On the same grid, flipped or permuted axes included, voxels are copied exactly. On another one, each voxel of the
    study gets the label at its place in the world (nearest neighbour; values are never mixed), with a warning. The mask
    is read back by another reader and compared.

    Names, colours and codes are those of ``labels``, else of the segments, else in predictions.json beside the mask;
    otherwise structures are named after their values.

    Args:
        mask: A label map (NIfTI, NRRD, MetaImage, PNG, TIFF, DICOM), or a file of named segments (.seg.nrrd, DICOM SEG,
            RTSTRUCT), or a bundle of 3D Slicer (.mrb) with one.
        output: The file; a folder for formats with a file for each structure.
        like: Any image that ``read_volume`` takes: a NIfTI file, a folder with one DICOM series, or a file of one. Of
            volumes that lie on one grid it doesn't matter which; ``series/time-03`` names one. None keeps the grid.
        format: One of ``medseg.io.mask_formats.FORMATS``; None: the name of ``output`` tells.
        names: New names by label value, or number of the segment, as in ``{1: "liver"}``.
        labels: Names and values in place of those that are found.
        instances: What the objects are whose numbers are the values of the mask, as in ``"nucleus"``: each becomes a
            structure of its own, ``nucleus 1``, ``nucleus 2``, in a colour that its neighbours don't have.

    Returns:
        Where the mask lies; its ``certificate`` has the verdict of the other reader.

    Raises:
        SourceError: A file cannot be read, or the study holds several series.
        LabelError: The mask is no label map.
        GeometryError: None of the mask lies inside of the study.
        ConfigError: There is no such format or value.
        OutputError: The file cannot be written, or is not the mask when it is read back.
    """
    mask, output = Path(mask), Path(output)
    chosen = format_of(output, format)
    for path in [mask] if like is None else [mask, Path(like)]:
        written = path.parent if chosen.is_folder and path.is_file() else path
        if output.exists() and written.exists() and output.samefile(written):
            raise OutputError(f"{output} is, or holds, what is read and would be overwritten; choose another -o")
    study = None if like is None else study_of(Path(like))
    refusal = chosen.refusal(study)
    if refusal:
        raise OutputError(f"{output}: {refusal}")
    if chosen.is_label_map and names:
        raise ConfigError(f"{chosen.name} holds values and no names ({', '.join(names.values())}); choose seg-nrrd")
    source = mask_source(mask)
    read = read_mask(source, study)
    if instances:
        objects = numbered(read.label_map, path=mask)
        read = read._replace(label_map=objects.array, segments=None)
        labels = object_labels(objects, Labels.from_names({instances: 1}))
    if chosen.is_label_map:
        read, known = without_overlaps(read, chosen), Labels(items=())
    else:
        known = _labels(read, labels or read.labels or labels_beside(mask), names or {}, mask)
    return write_mask(chosen, output, LabelMapVolume(read.label_map, read.geometry, known, study or source))


def _labels(read: Mask, known: Labels | None, names: Mapping[int, str], mask: Path) -> Labels:
    """Returns the known labels, or one for each value; with other names where ``names`` gives them."""
    present = [int(value) for value in np.unique(read.label_map)]
    labels = known or Labels.from_values([*present, *names])
    try:
        labels.check(present)
        return labels.renamed(names)
    except LabelError as error:
        raise LabelError(f"{mask}: {error}") from error
