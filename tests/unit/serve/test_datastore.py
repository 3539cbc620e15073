"""The images of a folder and what people draw on them: whole or not at all, on the right grid, ready for preprocess."""

import errno
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_kinds import KINDS, write_kind
from PIL import Image
from serving import OBLIQUE, draw

import medseg
from medseg.dataset.annotations import Authorship, read_annotation, write_annotated_labels
from medseg.dataset.layouts import find_cases
from medseg.errors import GeometryError, LabelError, OutputError, SourceError
from medseg.labels import IGNORED, Labels
from medseg.serve import datastore as module
from medseg.serve.datastore import Datastore
from medseg.serve.refusals import ConflictError, NotFoundError

BY = Authorship("ann", "Slicer", "model", "abc", 12.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw(tmp_path / "data" / "a.nii.gz")
    draw(tmp_path / "data" / "deep" / "b.nii.gz", OBLIQUE)
    return tmp_path / "data"


def test_a_label_map_lies_on_the_grid_of_its_image_with_its_provenance(folder: Path) -> None:
    datastore = Datastore(folder)
    drawn = datastore.volume("deep_b").array[0] > 0.5
    annotation = datastore.save("deep_b", np.where(drawn, 9, 0), {9: "tumour"}, BY)
    saved = nibabel.load(folder / "annotations" / "final" / "deep_b.nii.gz")
    assert np.allclose(saved.affine, OBLIQUE)
    assert np.array_equal(np.asarray(saved.dataobj) == 1, drawn)
    assert datastore.annotation("deep_b") == annotation == read_annotation(folder, "deep_b")
    assert (annotation.author, annotation.client, annotation.model, annotation.seconds) == (
        "ann",
        "Slicer",
        "model",
        12.5,
    )
    assert annotation.voxels == {"tumour": int(drawn.sum())}
    assert annotation.image == "deep/b.nii.gz"


def test_names_keep_their_values_whoever_sends_them(folder: Path) -> None:
    datastore = Datastore(folder)
    label_map = np.zeros((20, 18, 12), np.uint8)
    label_map[0], label_map[1] = 1, 2
    datastore.save("a", label_map, {1: "liver", 2: "tumour"}, BY)
    datastore.save("deep_b", label_map, {1: "tumour", 2: "spleen"}, BY)
    again = Datastore(folder)
    assert dict(zip(again.labels.names, again.labels.values, strict=True)) == {"liver": 1, "tumour": 2, "spleen": 3}
    found = again.label_map("deep_b")
    assert found is not None and found[0, 0, 0] == 2 and found[1, 0, 0] == 3


def test_two_servers_of_a_folder_share_its_labels(folder: Path) -> None:
    """One adds a label, then the other: neither takes the value of the other's."""
    one, other = Datastore(folder), Datastore(folder)
    label_map = np.zeros((20, 18, 12), np.uint8)
    label_map[0] = 1
    one.save("a", label_map, {1: "liver"}, BY)
    other.save("deep_b", label_map, {1: "spleen"}, BY)
    assert one.labels == other.labels == Datastore(folder).labels
    assert one.labels.names == ["liver", "spleen"]
    assert set(np.unique(one.label_map("deep_b"))) == {0, 2}


def test_the_folder_is_a_dataset(folder: Path, tmp_path: Path) -> None:
    datastore = Datastore(folder)
    before = list(datastore.cases)
    drawn = (datastore.volume("a").array[0] > 0.5).astype(np.uint8)
    for case_id in ("a", "deep_b"):
        datastore.save(case_id, drawn, {1: "box"}, BY)
    shutil.copy(folder / "a.nii.gz", folder / "c.nii.gz")
    found = find_cases(folder)
    assert [case.case_id for case in found.cases] == before and not found.problems
    assert found.labels is not None and found.labels.names == ["box"]
    assert "image that is not annotated yet" in " ".join(found.notes)
    result = medseg.preprocess(
        folder, tmp_path / "prepared", config=medseg.load_config(overrides=["preprocessing.workers=1"])
    )
    assert not result.problems
    assert list(Datastore(folder).cases) == ["a", "c", "deep_b"]  # and what was written is no image


def test_label_maps_that_a_dataset_has_count_as_drawn(blobs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    shutil.copytree(blobs, folder)
    datastore = Datastore(folder)
    assert len(datastore.annotated()) == len(datastore.cases) == 6
    assert set(np.unique(datastore.label_map("blob_00"))) == {0, 2, 5}
    # Nobody named 2 and 5: what they mean beside the annotations is not known.
    shape = datastore.grid("blob_01").shape
    datastore.save("blob_01", np.ones(shape, np.uint8), {1: "rim"}, BY)
    found = find_cases(folder)
    assert [case.case_id for case in found.cases] == ["blob_01"]
    assert "label maps whose values have no names" in " ".join(found.notes)


@pytest.mark.parametrize("kind", ["oblique", "tilted by 20°"])
def test_dicom_and_its_series(tmp_path: Path, kind: str) -> None:
    write_kind(tmp_path / "data" / "study", KINDS[kind])
    datastore = Datastore(tmp_path / "data")
    (case,) = datastore.cases.values()
    assert datastore.case(case.images[0].series_uid) is case
    bright = (datastore.volume(case.case_id).array[0] > 500).astype(np.uint8)
    datastore.save(case.case_id, bright, {1: "ball"}, BY)
    (found,) = find_cases(tmp_path / "data").cases
    assert found.label is not None
    assert np.array_equal(datastore.label_map(case.case_id), bright)


def test_pictures_get_pictures(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    Image.fromarray(np.eye(30, 20, dtype=np.uint8) * 200).save(tmp_path / "data" / "cells.png")
    datastore = Datastore(tmp_path / "data")
    datastore.save("cells", np.eye(20, 30, dtype=np.uint8)[..., None], {1: "cell"}, BY)
    saved = np.asarray(Image.open(tmp_path / "data" / "annotations" / "final" / "cells.png"))
    assert np.array_equal(saved, np.eye(30, 20, dtype=np.uint8))


def test_what_cannot_be_saved_leaves_the_older_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datastore = Datastore(folder)
    label_map = np.zeros((20, 18, 12), np.uint8)
    label_map[2] = 1
    first = datastore.save("a", label_map, {1: "liver"}, BY)
    with pytest.raises(GeometryError, match="voxels, the image"):
        datastore.save("a", label_map[1:], {1: "liver"}, BY)
    with pytest.raises(LabelError, match="not among the known"):
        datastore.save("a", label_map * 7, {1: "liver"}, BY)
    with pytest.raises(NotFoundError, match="there is no image"):
        datastore.save("../a", label_map, {1: "liver"}, BY)
    with pytest.raises(SourceError, match="give a name of letters"):
        datastore.save("a", label_map, {1: "liver"}, BY, "../final")

    def full(*_: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(module, "write_mask", full)
    with pytest.raises(OutputError, match="disk is full"):
        datastore.save("a", label_map * 0, {1: "liver"}, BY)
    assert datastore.annotation("a") == first
    assert sorted(path.name for path in (folder / "annotations" / "final").iterdir()) == ["a.json", "a.nii.gz"]


def test_killed_between_label_map_and_record_the_label_map_is_the_new_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datastore = Datastore(folder)
    label_map = np.zeros((20, 18, 12), np.uint8)
    datastore.save("a", label_map, {1: "liver"}, BY)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_annotation", killed)
    label_map[3] = 1
    with pytest.raises(KeyboardInterrupt):
        datastore.save("a", label_map, {1: "liver"}, BY)
    again = Datastore(folder)
    assert np.array_equal(again.label_map("a"), label_map)
    assert again.annotation("a") is None  # the record speaks of the older one
    assert [case.case_id for case in find_cases(folder).cases] == ["a"]


def test_images_that_clients_send(folder: Path, tmp_path: Path) -> None:
    datastore = Datastore(folder)
    draw(tmp_path / "sent" / "image.nii.gz", OBLIQUE)
    draw(tmp_path / "sent" / "again.nii.gz", OBLIQUE)
    case = datastore.add_image("../../evil name", tmp_path / "sent" / "image.nii.gz")
    assert case.images[0].path == folder / "annotations" / "images" / f"{case.case_id}.nii.gz"
    assert datastore.add_image("../../evil name", tmp_path / "sent" / "again.nii.gz") is case  # the same once more
    with pytest.raises(ConflictError, match="there is an image 'a' already"):
        datastore.add_image("a", _other(tmp_path / "sent" / "other.nii.gz"))
    header = "NRRD0005\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: /etc/passwd\n\n"
    (tmp_path / "sent" / "image.nrrd").write_text(header)
    with pytest.raises(SourceError, match="leads out of its folder"):
        datastore.add_image("c", tmp_path / "sent" / "image.nrrd")
    (tmp_path / "sent" / "image.dcm").write_bytes(b"")
    with pytest.raises(SourceError, match="send an image as one file"):
        datastore.add_image("d", tmp_path / "sent" / "image.dcm")
    assert set(Datastore(folder).cases) == {"a", "deep_b", case.case_id}


def test_an_image_is_sent_to_another_disk_than_that_of_temporary_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if self.is_relative_to(folder) != Path(target).is_relative_to(folder):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return usual(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    draw(tmp_path / "sent.nii.gz")
    datastore = Datastore(folder)
    assert datastore.add_image("sent", tmp_path / "sent.nii.gz").images[0].path.is_file()
    assert set(Datastore(folder).cases) == {"a", "deep_b", "sent"}


def test_voxels_that_nobody_annotated_stay_so(folder: Path) -> None:
    from medseg.annotation.folder import AnnotatedFolder

    write_annotated_labels(folder, Labels.from_names({"liver": 1}, ignore=9))
    annotated = AnnotatedFolder(Datastore(folder))
    label_map = np.zeros((20, 18, 12), np.uint8)
    label_map[2], label_map[3] = 1, IGNORED
    annotated.save("a", label_map, BY)
    assert np.array_equal(AnnotatedFolder(Datastore(folder)).label_map("a"), label_map)


def _other(path: Path) -> Path:
    array = np.zeros((3, 4, 5), np.float32)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    return path


def test_a_folder_without_images_takes_those_that_are_sent(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    datastore = Datastore(tmp_path / "data")
    draw(tmp_path / "image.nii.gz")
    datastore.add_image("first", tmp_path / "image.nii.gz")
    assert list(Datastore(tmp_path / "data").cases) == ["first"]
    with pytest.raises(SourceError, match="is no folder"):
        Datastore(tmp_path / "nowhere")
