"""The images of a folder, and the label maps that people draw on them: all that a client can read or change."""

import filecmp
import hashlib
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from medseg.dataset.annotations import (
    ANNOTATIONS,
    FINAL,
    UPLOADED,
    Annotation,
    Authorship,
    is_annotated,
    label_maps,
    read_annotation,
    tag_folder,
    with_values,
    write_annotation,
)
from medseg.dataset.cases import Case, CaseSelection, LabelSource
from medseg.dataset.layouts import cases_in
from medseg.dataset.layouts.annotated import image_key
from medseg.dataset.layouts.file_names import safe
from medseg.dataset.layouts.listing import Listing
from medseg.dataset.reading import read_images, read_label_map
from medseg.errors import GeometryError, SourceError, did_you_mean, reading
from medseg.files import ensure_folder, written_whole
from medseg.io.discover import source_of
from medseg.io.folders import stem
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import usual_format, write_mask
from medseg.io.read import read_geometry
from medseg.labels import Labels
from medseg.progress import counted, say
from medseg.serve.folder_labels import FolderLabels, in_values_of, voxels_by_name
from medseg.serve.refusals import ConflictError, NotFoundError
from medseg.volume import GRID_TOLERANCE, Geometry, LabelMap, Volume

KEPT = 2  # volumes in memory
PREPARED = "medseg-prepared"

# Files that hold all of an image; others need a second file, which an upload does not bring.
UPLOADS = (".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".tif", ".tiff")


class Datastore:
    """The images of a folder, in any layout, and the label maps that people draw on them.

    Images are never changed. All that is written lies in ``annotations/``, and appears whole or not at all. Cases are
    known by their ids: no path that a client says is ever opened.

    Args:
        folder: Where the images lie.
        images: Globs as in ``preprocess``.

    Raises:
        SourceError: There is no such folder, or it is one that ``medseg preprocess`` wrote.

    Example:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from medseg.io import Geometry, write_nifti
        >>> from medseg.dataset.annotations import Authorship
        >>> from medseg.serve.datastore import Datastore
        >>> grid = Geometry((4, 5, 6), np.diag([-1.0, -1.0, 2.5, 1.0]))
        >>> Path("scans").mkdir()
        >>> write_nifti("scans/ct.nii.gz", np.zeros(grid.shape, np.int16), grid)
        >>> datastore = Datastore(Path("scans"))
        >>> label_map = np.zeros(grid.shape, np.uint8)
        >>> label_map[1:3, 1:3, 1:3] = 1
        >>> annotation = datastore.save("ct", label_map, {1: "liver"}, Authorship("ann", "notebook"))
        >>> annotation.voxels, datastore.label_path("ct").name
        ({'liver': 8}, 'ct.nii.gz')
    """

    def __init__(self, folder: Path, images: str | Sequence[str] | None = None) -> None:
        if not folder.is_dir():
            raise SourceError(f"{folder}: is no folder; give the one that holds the images")
        self.folder = folder
        self.listing = Listing(folder)
        if self.listing.content.get("format") == PREPARED:
            raise SourceError(f"{folder}: was written by 'medseg preprocess'; give the folder of the images themselves")
        self.lock, self.reading = threading.RLock(), threading.Lock()
        self.cases: dict[str, Case] = {}
        self.channels: tuple[str, ...] = ()
        self.references: dict[str, Case] = {}  # those that have a label map
        self.folder_labels = FolderLabels(folder)
        self._volume = lru_cache(KEPT)(self._read)
        if self.listing.found.sources or is_annotated(folder):
            self._find_cases(images)

    def _find_cases(self, images: str | Sequence[str] | None) -> None:
        found = cases_in(self.listing, CaseSelection(images, labelled=False))
        found.tell(self.folder)
        self.cases, self.channels = {case.case_id: case for case in found.cases}, found.channels
        known = cases_in(self.listing, CaseSelection(images))
        drawn = {_key(self.listing, case): case for case in known.cases if case.label is not None}
        for case_id, case in self.cases.items():
            if (key := _key(self.listing, case)) in drawn:
                self.references[case_id] = drawn[key]
        if known.labels is not None and not self.labels.items:
            self.folder_labels.of_dataset = known.labels

    @property
    def labels(self) -> Labels:
        """What the values of label maps stand for, with what another server of the folder has added since."""
        with self.lock:
            return self.folder_labels.known()

    def case(self, name: str) -> Case:
        """Returns a case by its id, by DICOM's SeriesInstanceUID, or by the name of its image's file.

        Raises:
            NotFoundError: There is none.
        """
        if name in self.cases:
            return self.cases[name]
        for case in self.cases.values():
            source = case.images[0]
            if name and name in (source.series_uid, source.path.name, stem(source.path)):
                return case
        raise NotFoundError(f"there is no image '{name[:80]}'{did_you_mean(name, list(self.cases)[:200])}")

    def volume(self, case_id: str) -> Volume:
        """Returns the image of a case, with all channels; the last ones stay in memory.

        Raises:
            MedsegError: It cannot be read.
        """
        with self.reading:  # several clients may ask at once; it is read once
            return self._volume(case_id)

    def _read(self, case_id: str) -> Volume:
        return read_images(self.case(case_id), GRID_TOLERANCE, registered=False)

    def grid(self, case_id: str) -> Geometry:
        """Returns the grid of a case's image, from its header where that tells it."""
        return read_geometry(self.case(case_id).images[0])

    def add_image(self, name: str, file: Path) -> Case:
        """Adds an image that a client sent, below ``annotations/images``, and returns its case.

        Args:
            name: What it is to be called.
            file: A temporary file that holds it, with the suffix of its kind.

        Raises:
            SourceError: It is no image of one file, or cannot be read.
            ConflictError: There is an image of that name.
            OutputError: It cannot be written.
        """
        suffix = next((suffix for suffix in UPLOADS if file.name.lower().endswith(suffix)), "")
        if not suffix:
            raise SourceError(f"'{file.name}': send an image as one file, {', '.join(UPLOADS)}")
        case_id = safe(name.removesuffix(suffix))
        with self.lock:
            known = self.cases.get(case_id)
            if known is not None and _are_equal(known.images[0].path, file):
                return known  # sent again
            if known is not None or not case_id:
                raise ConflictError(f"there is an image '{case_id}' already; give another name")
            read_geometry(source_of(file))
            place = self.folder / ANNOTATIONS / UPLOADED / f"{case_id}{suffix}"
            with written_whole(place) as temporary:  # often on another disk than temporary files
                shutil.copyfile(file, temporary)
            if not is_annotated(self.folder):
                self.folder_labels.write(self.labels)
            self.cases[case_id] = Case(case_id, (source_of(place),))
            return self.cases[case_id]

    def save(
        self, case_id: str, label_map: LabelMap, names: Mapping[int, str], by: Authorship, tag: str = FINAL
    ) -> Annotation:
        """Saves a label map with its provenance. The older one stays until the new one is written and certified.

        Args:
            case_id: The case.
            label_map: ``(x, y, z)`` on the grid of its image, in any values.
            names: What they stand for. New names become labels of the folder; its value of voxels that nobody annotated
                needs no name.
            by: Where it comes from.
            tag: "final" for what is to be trained on.

        Raises:
            GeometryError: It has another shape than the image.
            LabelError: A value has no name.
            OutputError: It cannot be written, or no reader confirms it.
        """
        case = self.case(case_id)
        source, grid, place = case.images[0], self.grid(case_id), self.place(case_id, tag)
        if label_map.shape != grid.shape:
            raise GeometryError(f"{case.case_id}: the label map has {label_map.shape} voxels, the image {grid.shape}")
        with self.lock:
            known = with_values(self.labels, list(names.values()))
            label_map = in_values_of(known, label_map, names)
            if known != self.labels or not is_annotated(self.folder):
                self.folder_labels.write(known)
            with TemporaryDirectory(prefix=".", dir=ensure_folder(place.parent)) as temporary:
                path = Path(temporary) / place.name
                write_mask(usual_format(source), path, LabelMapVolume(label_map, grid, known, source))
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                path.replace(place)
            annotation = self._annotation(case, place.name, digest, voxels_by_name(label_map, known), by)
            write_annotation(self.folder, annotation, tag)
        say(f"Saved {case.case_id} ({tag}): {', '.join(annotation.voxels) or 'nothing drawn'}")
        return annotation

    def _annotation(self, case: Case, file: str, digest: str, voxels: dict[str, int], by: Authorship) -> Annotation:
        image, series_uid = image_key(self.listing, case.images[0])
        return Annotation(
            case_id=case.case_id,
            image=image,
            series_uid=series_uid,
            file=file,
            sha256=digest,
            voxels=voxels,
            author=by.author[:200],
            client=by.client[:200],
            saved=datetime.now(UTC).isoformat(timespec="seconds"),
            model=by.model,
            model_fingerprint=by.model_fingerprint,
            seconds=by.seconds,
            edits=by.edits,
            prompts=by.prompts,
        )

    def place(self, case_id: str, tag: str = FINAL) -> Path:
        """Returns where the label map of a case is saved, whether there is one or not."""
        case = self.case(case_id)
        return usual_format(case.images[0]).path(tag_folder(self.folder, tag), case.case_id)

    def label_path(self, case_id: str, tag: str = FINAL) -> Path | None:
        """Returns the file of a label map that was saved; None where there is none."""
        place = self.place(case_id, tag)
        return place if place.is_file() else label_maps(self.folder, tag).get(self.case(case_id).case_id)

    def label_map(self, case_id: str, tag: str = FINAL) -> LabelMap | None:
        """Returns what is drawn in a case ``(x, y, z)``, in the values of ``labels``; None where nothing is.

        That is what was saved, else, of the tag "final", what its dataset came with.

        Raises:
            MedsegError: It cannot be read.
        """
        case, path = self.case(case_id), self.label_path(case_id, tag)
        drawn = self.references.get(case.case_id) if tag == FINAL else None
        if path is not None:
            drawn = replace(case, label=LabelSource((source_of(path),)))
        return None if drawn is None else read_label_map(drawn, self.grid(case_id), GRID_TOLERANCE).array

    def annotation(self, case_id: str, tag: str = FINAL) -> Annotation | None:
        """Returns the provenance of a label map that was saved; None where nothing is known of it.

        A record that speaks of an older label map, since the server was killed between the two, is none.
        """
        path = self.label_path(case_id, tag)
        record = None if path is None else read_annotation(self.folder, self.case(case_id).case_id, tag)
        if path is None or record is None:
            return None
        with reading(path, "a label map"):
            return record if hashlib.sha256(path.read_bytes()).hexdigest() == record.sha256 else None

    def annotated(self, tag: str = FINAL) -> list[str]:
        """Returns the ids of the cases that have a label map, saved or from their dataset."""
        drawn = label_maps(self.folder, tag)
        return [case_id for case_id in self.cases if case_id in drawn or (tag == FINAL and case_id in self.references)]

    def remove_label(self, case_id: str, tag: str) -> None:
        """Removes a label map that was saved, and its provenance.

        Raises:
            NotFoundError: There is none.
        """
        case_id, path = self.case(case_id).case_id, self.label_path(case_id, tag)
        if path is None:
            raise NotFoundError(f"{case_id}: has no label map with the tag '{tag}'")
        with self.lock:
            path.unlink(missing_ok=True)
            (path.parent / f"{case_id}.json").unlink(missing_ok=True)

    def counts(self) -> str:
        """Returns in words how many cases are annotated."""
        return f"{len(self.annotated())} of {counted(len(self.cases), 'case')} annotated"


def _key(listing: Listing, case: Case) -> tuple[str, str]:
    return image_key(listing, case.images[0])


def _are_equal(one: Path, other: Path) -> bool:
    return one.is_file() and one.stat().st_size == other.stat().st_size and filecmp.cmp(one, other, shallow=False)
