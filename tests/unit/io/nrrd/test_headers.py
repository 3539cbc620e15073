"""Headers of NRRD and MetaImage that crash ITK, make it hang, or read as rubbish, are refused with their reason; others
read as ITK reads them."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import MedsegError
from medseg.io.discover import image_sources
from medseg.io.nrrd.reader import itk_geometry, open_itk, read_itk

SHAPE = (4, 3, 2)
VOXELS = bytes(range(24))
NRRD = "NRRD0004\ntype: uint8\nencoding: raw\ndimension: 3\nsizes: 4 3 2\n"
PLACE = "space: left-posterior-superior\nspace directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (1,2,3)\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = 4 3 2\nElementType = MET_UCHAR\n"
LOCAL = "ElementDataFile = LOCAL\n"
DEFLATED = zlib.compress(VOXELS)


def write(path: Path, header: str, voxels: bytes = VOXELS) -> Path:
    path.write_bytes(header.encode() + voxels)
    return path


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (PLACE.replace("(1,2,3)", "(1,2,"), "no vectors"),  # ITK: signal 11
        (PLACE.replace("(1,2,3)", "(1,2,nan)"), "no vectors"),
        (PLACE.replace("(0,3,0)", "(0,0,0)"), "cannot be inverted"),
        (PLACE + "spacings: foo\nspacings: 1 1 1\n", "'spacings' twice"),
        (PLACE.replace("left-posterior-superior", "right-anterior-superior-time"), "is not read"),
        ("spacings: 1 -1 1\n", "are none"),
        ("spacings: 1 1 1\naxis mins: 5 5 5\n", "programs read differently"),
        (PLACE + "byte skip: 3\n", "24 bytes are declared, and 21"),
        (PLACE + "data file: ../secret.raw\n", "leads out of its folder"),
        (PLACE + "data file: /etc/passwd\n", "leads out of its folder"),
        (PLACE + "data file: C:\\secret.raw\n", "leads out of its folder"),
        (PLACE + "data file: s%d.raw 1 999999999 1\n", "no files in their order"),
        (PLACE + "data file: s%d.raw 1 9 0\n", "no files in their order"),
        (PLACE + "data file: s%999999999d.raw 1 9 1\n", "are not there"),
        (PLACE + "kinds: complex domain domain\n", "complex16|voxels of type"),
        (PLACE + "kinds: domain list domain\n", "first or last"),
    ],
)
def test_nrrd_that_is_refused(tmp_path: Path, header: str, reason: str) -> None:
    with pytest.raises(MedsegError, match=reason):
        read_itk(write(tmp_path / "a.nrrd", f"{NRRD}{header}\n"))
    image_sources(tmp_path)  # does not hang either


@pytest.mark.parametrize("sizes", ["4 3 99999999", "4 3 -2", "4 3", "4 3 2.5", "4 3 99999999999999999999", "4 3 0"])
def test_sizes_that_the_file_does_not_hold(tmp_path: Path, sizes: str) -> None:
    for path in (
        write(tmp_path / "a.nrrd", f"{NRRD.replace('4 3 2', sizes)}\n"),
        write(tmp_path / "a.mha", f"{META.replace('4 3 2', sizes)}{LOCAL}"),
        write(tmp_path / "b.nrrd", f"{NRRD.replace('4 3 2', sizes).replace('raw', 'gzip')}\n", DEFLATED),
    ):
        with pytest.raises(MedsegError, match="declared|sizes|DimSize|invalid literal"):
            read_itk(path)


@pytest.mark.parametrize(
    ("header", "voxels", "reason"),
    [
        ("ElementDataFile = s%d.raw 1 9 0\n", b"", "no files in their order"),  # ITK: signal 8
        ("ElementDataFile = s%d.raw 0 999999999 1\n", b"", "no files in their order"),  # ITK: a hang
        ("ElementDataFile = ../a.raw\n", b"", "leads out of its folder"),
        ("ElementDataFile = LIST\na.raw\n/etc/passwd\n", b"", "leads out of its folder"),
        ("ElementSpacing = 1 -1 1\n" + LOCAL, VOXELS, "ElementSpacing"),
        ("ElementSpacing = 1 0 1\n" + LOCAL, VOXELS, "ElementSpacing"),
        ("TransformMatrix = 1 0 0 1 0 0 0 0 1\n" + LOCAL, VOXELS, "cannot be inverted"),
        ("TransformMatrix = 1 0 0\n" + LOCAL, VOXELS, "TransformMatrix"),
        ("Offset = 1 2 3\nPosition = 3 2 1\n" + LOCAL, VOXELS, "there twice"),
        (LOCAL, VOXELS + b"z", "24 bytes are declared, and 25"),
        ("CompressedData = True\n" + LOCAL, DEFLATED, "CompressedDataSize"),  # ITK: rubbish
        ("CompressedData = True\nCompressedDataSize = 7\n" + LOCAL, DEFLATED, "7 compressed bytes"),
        (f"CompressedData = True\nCompressedDataSize = {len(DEFLATED) - 3}\n" + LOCAL, DEFLATED[:-3], "in the middle"),
        ("ElementType = MET_UCHAR_ARRAY\n" + LOCAL, VOXELS, "there twice"),
        ("BinaryData = maybe\n" + LOCAL, VOXELS, "not True or False"),
        ("", VOXELS, "is no line of its header"),
    ],
)
def test_metaimage_that_is_refused(tmp_path: Path, header: str, voxels: bytes, reason: str) -> None:
    with pytest.raises(MedsegError, match=reason):
        read_itk(write(tmp_path / "a.mha", META + header, voxels))
    image_sources(tmp_path)


@pytest.mark.parametrize(
    ("name", "header", "voxels"),
    [
        ("a.nrrd", NRRD + PLACE + "\n", VOXELS),
        ("a.nrrd", (NRRD + PLACE + "\n").replace("\n", "\r\n"), VOXELS),
        ("a.nrrd", NRRD + PLACE.replace("left-posterior-superior", "LAS") + "\n", VOXELS),
        ("a.nrrd", NRRD + PLACE.replace("left-posterior-superior", "scanner-xyz") + "\n", VOXELS),
        ("a.nrrd", NRRD + PLACE.replace("space: left-posterior-superior", "space dimension: 3") + "\n", VOXELS),
        ("a.nrrd", NRRD + "spacings: 2 3 4\n\n", VOXELS),
        ("a.nrrd", NRRD + "byteskip: -1\n\n", b"more" + VOXELS),
        ("a.nrrd", NRRD.replace("raw", "ascii") + "\n", b" ".join(b"%d" % i for i in range(24))),
        ("a.mha", META + "TransformMatrix = 0 1 0 0 0 1 1 0 0\nOrigin = 1 2 3\nElementSize = 2 3 4\n" + LOCAL, VOXELS),
        ("a.mha", (META + LOCAL).replace("\n", "\r\n"), VOXELS),
        ("a.mha", META + f"CompressedData = True\nCompressedDataSize = {len(DEFLATED)}\n" + LOCAL, DEFLATED),
        ("a.mha", META.replace("4 3 2", "2 3 2") + "ElementNumberOfChannels = 2\n" + LOCAL, VOXELS),
        ("a.mha", META.replace("UCHAR", "ULONG").replace("4 3 2", "1 3 2") + LOCAL, VOXELS),
        ("a.mha", META.replace("UCHAR", "SHORT").replace("4", "2") + "ElementByteOrderMSB = True\n" + LOCAL, VOXELS),
    ],
)  # fmt: skip
def test_what_is_read_equals_simpleitk(tmp_path: Path, name: str, header: str, voxels: bytes) -> None:
    path = write(tmp_path / name, header, voxels)
    volume, reference = read_itk(path), sitk.ReadImage(path)
    array = sitk.GetArrayFromImage(reference).T
    np.testing.assert_array_equal(volume.array, array if array.ndim == 4 else array[None])
    assert volume.array.dtype == array.dtype
    last = [n - 1 for n in volume.geometry.shape]
    lps = np.array(reference.TransformIndexToPhysicalPoint(last))
    np.testing.assert_allclose(volume.geometry.world(last), lps * [-1, -1, 1])
    assert itk_geometry(path).difference(volume.geometry, 0.0) is None


def test_voxels_in_several_files(tmp_path: Path) -> None:
    for i in range(2):
        (tmp_path / f"s{i}.raw").write_bytes(VOXELS[12 * i : 12 * i + 12])
    lines = ("s%d.raw 0 1 1", "LIST\ns0.raw\ns1.raw\n")
    for value in lines:
        for path in (
            write(tmp_path / "a.mhd", f"{META}ElementDataFile = {value}", b""),
            write(tmp_path / "a.nhdr", f"{NRRD}{PLACE}data file: {value}", b""),
        ):
            assert read_itk(path).array.T.tobytes() == VOXELS
    (tmp_path / "s1.raw").write_bytes(VOXELS)
    with pytest.raises(MedsegError, match="12 bytes are declared, and 24"):
        read_itk(path)


def test_units_and_spaces_that_no_program_converts_are_known(tmp_path: Path) -> None:
    placed = write(tmp_path / "a.nrrd", NRRD + PLACE + "\n")
    assert open_itk(placed).has_place and open_itk(placed).unit == "mm"
    units = 'space units: "um" "um" "um"\n'
    assert open_itk(write(tmp_path / "a.nrrd", NRRD + PLACE + units + "\n")).unit == "um"
    assert not open_itk(write(tmp_path / "a.nrrd", NRRD + "spacings: 2 3 4\n\n")).has_place
