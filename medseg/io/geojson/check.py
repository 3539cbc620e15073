"""GeoJSON read back, and its polygons filled."""

from pathlib import Path

import numpy as np

from medseg.io.certificates.certificate import Certificate
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.rtstruct.polygons import filled
from medseg.records import read_object

READER = "JSON, with polygons filled by the even-odd rule"


def check_geojson(path: Path, segmented: LabelMapVolume) -> Certificate:
    """Reads a GeoJSON back, fills the polygons of each feature, and compares them with the label map, pixel by pixel.

    Args:
        path: The file.
        segmented: What was to be written.
    """
    content = read_object(path, "write it again")
    features = {each["properties"]["name"]: each for each in content["features"]}
    n_different, width, height = 0, *segmented.label_map.shape[:2]
    structures = segmented.labels.structures
    for structure in structures:
        mask = segmented.mask(structure)[..., 0]
        found = np.zeros((width, height), bool)
        if structure.name in features:
            polygons = features[structure.name]["geometry"]["coordinates"]
            rings = [np.array(ring[:-1]) - 0.5 for polygon in polygons for ring in polygon]
            found = filled(rings, (width, height))
        n_different += int(np.count_nonzero(found != mask))
    unknown = features.keys() - {structure.name for structure in structures}
    remark = f"it has a feature '{min(unknown)}'" if unknown else ""
    return Certificate(READER, len(structures) * width * height, n_different, 0.0, 0.0, remark=remark)
