"""OME-Zarr as zarr-python writes it: read with its place, and refused where it says too little or means harm."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from medseg.errors import MedsegError
from medseg.io.discover import image_sources
from medseg.io.ome_zarr.reader import open_ome_zarr
from medseg.io.read import read_geometry, read_volume

ARRAY = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)  # (z, y, x)
AXES = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
TRANSFORMS = [
    {"type": "scale", "scale": [3000.0, 2000.0, 1000.0]},
    {"type": "translation", "translation": [30.0, 20.0, 10.0]},
]


def write(
    folder: Path, version: str = "0.5", array: Any = ARRAY, axes: Any = AXES, transforms: Any = TRANSFORMS
) -> Path:
    """Writes a store of two levels by zarr-python alone."""
    steps = (slice(None),) * (array.ndim - 3) + (slice(None, None, 2),) * 3
    coarse = [{"type": "scale", "scale": [2 * n for n in transforms[0]["scale"]]}] if transforms else []
    datasets = [
        {"path": "0", "coordinateTransformations": transforms},
        {"path": "1", "coordinateTransformations": coarse},
    ]
    multiscales = [{"axes": axes, "datasets": datasets, "name": "image"}]
    of_two = version == "0.4"
    attributes = (
        {"multiscales": [{**multiscales[0], "version": "0.4"}]}
        if of_two
        else {"ome": {"version": version, "multiscales": multiscales}}
    )
    zarr.create_group(str(folder), zarr_format=2 if of_two else 3, attributes=attributes)
    for level, values in (("0", array), ("1", array[steps])):
        chunks = (1,) * (values.ndim - 3) + (2, 2, 2)
        stored = zarr.create_array(
            str(folder / level), shape=values.shape, chunks=chunks, dtype=values.dtype, zarr_format=2 if of_two else 3
        )
        stored[:] = values
    return folder


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_voxels_and_place(version: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "scan.ome.zarr", version)
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.array[0], ARRAY.T)
    assert volume.array.dtype == np.int16
    # Without a direction x, y and z point to left, back and head, as in ITK; lengths come in micrometres.
    place = [[-1.0, 0, 0, -0.01], [0, -2.0, 0, -0.02], [0, 0, 3.0, 0.03], [0, 0, 0, 1.0]]
    np.testing.assert_allclose(volume.geometry.affine, np.array(place))
    assert read_volume(folder / "1").array.shape == (1, 2, 2, 1)
    assert read_geometry(folder / "1").spacing == (2.0, 4.0, 6.0)


def test_directions_by_rfc_4(tmp_path: Path) -> None:
    said = ("posterior-to-anterior", "superior-to-inferior", "left-to-right")
    axes = [{**axis, "orientation": {"type": "anatomical", "value": v}} for axis, v in zip(AXES, said, strict=True)]
    geometry = read_geometry(write(tmp_path / "scan.zarr", axes=axes))
    assert geometry.orientation == "RIA"
    np.testing.assert_allclose(geometry.affine[:3, 3], [0.01, 0.03, -0.02])


def test_channels_and_a_single_point_in_time(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(1, 2, 2, 3, 4)).astype(np.float32)
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}, *AXES]
    opened = open_ome_zarr(
        write(tmp_path / "a.zarr", array=array, axes=axes, transforms=[{"type": "scale", "scale": [1, 1, 3, 2, 1]}])
    )
    assert opened.n_channels == 2
    box = slice(1, 3), slice(0, 2), slice(1, 2)
    np.testing.assert_array_equal(opened.read(box), array[0].transpose(0, 3, 2, 1)[:, *box])


def test_stores_in_folders_are_files(tmp_path: Path) -> None:
    for name in ("b.ome.zarr", "a.zarr"):
        write(tmp_path / "scans" / name)
    assert [source.path.name for source in image_sources(tmp_path).sources] == ["a.zarr", "b.ome.zarr"]


def test_chunks_that_are_not_there_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write(tmp_path / "scan.zarr")
    next((folder / "0" / "c").rglob("1")).is_dir()
    chunk = sorted(path for path in (folder / "0" / "c").rglob("*") if path.is_file())[-1]
    chunk.unlink()
    read_volume(folder)
    assert "1 of 4 chunks are not there, and 0 stands for their voxels" in caplog.text


def changed(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """What changes a JSON file of a store."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return apply


def ome(content: dict[str, Any]) -> dict[str, Any]:
    multiscale: dict[str, Any] = content["attributes"]["ome"]["multiscales"][0]
    return multiscale


def scale(content: dict[str, Any]) -> dict[str, Any]:
    transform: dict[str, Any] = ome(content)["datasets"][0]["coordinateTransformations"][0]
    return transform


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (changed("zarr.json", lambda c: ome(c)["datasets"][0].pop("coordinateTransformations")), "says no scale"),
        (changed("zarr.json", lambda c: c["attributes"]["ome"].pop("multiscales")), "no multiscale image.*holds 0, 1"),
        (changed("zarr.json", lambda c: ome(c)["datasets"][0].update(path="../../secret")), "inside of its folder"),
        (changed("zarr.json", lambda c: ome(c)["axes"][0].update(name="w")), "an axis 'w' in space"),
        (changed("zarr.json", lambda c: ome(c)["axes"][0].update(unit="parsec")), "an axis z in 'parsec'"),
        (changed("zarr.json", lambda c: scale(c).update(scale=[0, 1, 1])), "voxels of 0 mm"),
        (changed("0/zarr.json", lambda c: c.update(codecs=[{"name": "numcodecs.pickle"}])), "packed by 'numcodecs.p"),
        (changed("0/zarr.json", lambda c: c.update(data_type="string")), "holds 'string', and no numbers"),
        (changed("0/zarr.json", lambda c: c["chunk_grid"].update(configuration={"chunk_shape": [2**31]})), "in chunks"),
        (lambda folder: (folder / "0" / "c" / "0" / "0" / "0").write_bytes(b"no chunk"), "damaged or not OME-Zarr"),
        (lambda folder: (folder / "zarr.json").write_text("{"), "zarr.json"),
    ],
)  # fmt: skip
def test_what_is_refused(harm: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "scan.zarr")
    harm(folder)
    with pytest.raises(MedsegError, match=message):
        read_volume(folder)


def test_objects_of_zarr_2_are_never_unpickled(tmp_path: Path) -> None:
    folder = write(tmp_path / "scan.zarr", "0.4")
    changed("0/.zarray", lambda c: c.update(dtype="|O", filters=[{"id": "pickle"}]))(folder)
    with pytest.raises(MedsegError, match=r"holds '\|O', and no numbers"):
        read_volume(folder)
    changed("0/.zarray", lambda c: c.update(dtype="<i2"))(folder)
    with pytest.raises(MedsegError, match="is packed by 'pickle'"):
        read_volume(folder)


def test_several_points_in_time_are_refused(tmp_path: Path) -> None:
    array, axes = np.zeros((3, 2, 2, 2), np.uint8), [{"name": "t", "type": "time"}, *AXES]
    folder = write(
        tmp_path / "scan.zarr", array=array, axes=axes, transforms=[{"type": "scale", "scale": [1, 3, 2, 1]}]
    )
    with pytest.raises(MedsegError, match="3 points in time"):
        read_volume(folder)


def test_names_of_label_maps_lead_nowhere_else(tmp_path: Path) -> None:
    write(tmp_path / "secret")
    folder = tmp_path / "masks.zarr"
    zarr.create_group(str(folder), attributes={"ome": {"version": "0.5"}})
    zarr.create_group(str(folder / "labels"), attributes={"ome": {"version": "0.5", "labels": ["../../secret"]}})
    with pytest.raises(MedsegError, match="inside of its folder"):
        read_volume(folder)
