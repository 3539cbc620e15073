"""A case that somebody draws on: its image as it is shown, what was drawn, and the answers of the model."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.annotation.drawing import NO_CHANGE, Change, DrawnLabelMap, Kind
from medseg.annotation.first_mask import in_labels
from medseg.annotation.folder import AnnotatedFolder, version_of
from medseg.annotation.interpolation import with_slices_between
from medseg.annotation.prompt_message import PromptMessage
from medseg.annotation.shown_grid import ShownGrid
from medseg.dataset.annotations import Authorship
from medseg.errors import ConfigError, GeometryError
from medseg.interactive.bounds import Bounds, slices
from medseg.io.nifti.writer import nifti_bytes
from medseg.pictures.display import window
from medseg.serve.models import ServedModel
from medseg.serve.refusals import ConflictError
from medseg.viewer.contents import shown_channel
from medseg.volume import Array, MaskArray, Volume

if TYPE_CHECKING:
    from medseg.interactive.object_mask import MaskChange
    from medseg.interactive.session import InteractiveSession

MOST_PLANES = 3
LEFT = 255  # in what is sent of a stroke: what lies there is left as it is


class OpenCase:
    """A case that is drawn on. All places are voxels of the grid that is shown.

    It is safe for several threads.

    Args:
        folder: The folder that is annotated.
        case_id: The case.
        model: The model that helps; None without one.

    Raises:
        MedsegError: Image or label map cannot be read.
    """

    def __init__(self, folder: AnnotatedFolder, case_id: str, model: ServedModel | None = None) -> None:
        self.folder, self.case_id, self.model = folder, case_id, model
        self.image: Volume = folder.datastore.volume(case_id)
        self.grid = ShownGrid(self.image.geometry)
        self._saved_at = folder.saved_at(case_id)
        self.drawing = DrawnLabelMap(self.grid.array_to_shown(folder.label_map(case_id)), folder.journal(case_id))
        self.lock = threading.RLock()
        self._session: InteractiveSession | None = None
        self._prompted: list[str] = []  # names of labels, one for each prompt that can be undone
        self._beneath: tuple[int, Array] | None = None

    @property
    def version(self) -> str:
        """Which label map it has: that of the disk has the same version, unless somebody else changed it since."""
        return version_of(self._saved_at, self.drawing.length)

    @property
    def is_outdated(self) -> bool:
        """Whether another program has changed the label map, or its journal."""
        return self.version != self.folder.version(self.case_id)

    def check(self, shown: str | None) -> None:
        """Checks that what a page shows is what there is.

        Args:
            shown: The version that the page shows; None where it does not say.

        Raises:
            ConflictError: It was changed in another window, or by another program.
        """
        if self.is_outdated or shown not in (None, self.version):
            raise ConflictError(
                f"{self.case_id}: was changed in another window, or by another program; look at it as it is now, and "
                "do that again"
            )

    def scene(self) -> dict[str, Any]:
        """Returns what the page has to know before it asks for the voxels."""
        shown = self.grid.shown
        shape, spacing = shown.shape, shown.spacing
        return {
            "case_id": self.case_id,
            "window": window(self.image.array)[1:],
            "shape": shape,
            "spacing": spacing,
            "flat": min(shape) == 1,
            "grid": f"{'×'.join(map(str, shape))} voxels of {'×'.join(f'{edge:.3g}' for edge in spacing)} mm",
            "notes": [f"the first of {len(self.image.array)} channels is shown"] if self._hides_channels else [],
            "changed": self.drawing.is_changed,
        }

    def image_file(self) -> bytes:
        """Returns the image as NIfTI, with its axes in RAS."""
        array = np.stack([self.grid.array_to_shown(channel) for channel in self.image.array])
        return nifti_bytes(shown_channel(array), self.grid.shown)

    def drawing_file(self) -> bytes:
        """Returns what is drawn as NIfTI, in network values."""
        with self.lock:
            return nifti_bytes(self.drawing.label_map, self.grid.shown)

    def edit(self, bounds: Bounds, values: Array) -> Change:
        """Sets the values in a box, as a brush does.

        Args:
            bounds: The box.
            values: Network values, of the shape of the box; ``LEFT`` where nothing was drawn.

        Raises:
            GeometryError: The box is none, or lies outside of the image.
            ConfigError: A value is no label's.
        """
        self._check_box(bounds)
        unknown = set(np.unique(values).tolist()) - {*range(len(self.folder.labels.items) + 1), LEFT}
        if unknown:
            raise ConfigError(f"value {min(unknown)} is no label's; reload the page")
        with self.lock:
            now = self.drawing.label_map[slices(bounds)]
            return self.drawing.change(bounds, np.where(values == LEFT, now, values), "edit")

    def prompt(self, message: PromptMessage) -> Change:
        """Lets the model answer to a prompt, and draws its answer.

        Args:
            message: The prompt, in voxels that are shown.

        Raises:
            ConfigError: There is no such label, or no model that answers.
            GeometryError: It lies outside of the image.
        """
        with self.lock:
            value, session = self._value(message.label), self._answering()
            session.object = message.label
            mask = self.grid.array_to_source(self.drawing.label_map == value)
            if not np.array_equal(session.mask, mask):  # something was drawn, or undone, since the last answer
                session.add_initial_mask(mask)
            answer = self._asked(session, message)
            self._prompted.append(message.label)
            change = self._drawn(value, answer, message.keeps_others)
            if change.values.size == 0:
                self._undo_prompt()
            return change

    def predicted(self) -> Array:
        """Returns what the model says without prompts: network values of the folder's labels, as they are shown.

        Raises:
            ConfigError: There is no model.
            MedsegError: It cannot predict this case.
        """
        if self.model is None:
            raise ConfigError("there is no model that could draw; start 'medseg annotate' with --model")
        datastore = self.folder.datastore
        prediction = self.model.segment(datastore.case(self.case_id), datastore.channels)
        mask = in_labels(prediction.label_map.label_map, self.model.record.labels, self.folder.labels)
        return self.grid.array_to_shown(mask.label_map)

    def first_mask(self, predicted: Array, keeps_drawn: bool = True) -> Change:
        """Draws what the model said without prompts.

        Args:
            predicted: What it said.
            keeps_drawn: Whether what is drawn already stays.
        """
        with self.lock:
            now = self.drawing.label_map
            return self._changed(np.where((now != 0) & keeps_drawn, now, predicted), "automatic")

    def interpolate(self, label: str, axis: int) -> Change:
        """Fills the empty slices between drawn ones of a label; what is drawn of others stays.

        Args:
            label: Its name.
            axis: The shown axis that the slices are stacked along.

        Raises:
            ConfigError: There is no such label, or no such axis.
        """
        if axis not in range(MOST_PLANES):
            raise ConfigError(f"axis {axis}: give 0, 1 or 2")
        with self.lock:
            value, now = self._value(label), self.drawing.label_map
            filled = with_slices_between(now == value, axis, self.grid.shown.spacing)
            return self._changed(np.where(filled & (now == 0), value, now), "interpolated")

    def undo(self) -> Change | None:
        """Takes the last change back; None where there is none."""
        with self.lock:
            if self.drawing.last == "prompt":
                self._undo_prompt()
            return self.drawing.undo()

    def save(self, author: str, client: str = "annotate") -> None:
        """Saves the label map with its provenance; what was drawn can be undone no longer.

        Args:
            author: Who drew it.
            client: The program.

        Raises:
            OutputError: It cannot be written.
        """
        with self.lock:
            drawing = self.drawing
            self.folder.save(
                self.case_id, self.grid.array_to_source(drawing.label_map), self._authorship(author, client)
            )
            self.drawing = DrawnLabelMap(drawing.label_map, self.folder.journal(self.case_id))
            self._saved_at = self.folder.saved_at(self.case_id)

    def _authorship(self, author: str, client: str) -> Authorship:
        """Returns where the label map comes from: what was done now, and what its record said before."""
        drawing, before = self.drawing, self.folder.datastore.annotation(self.case_id)
        now = Authorship(author, client, None, None, drawing.seconds_of_work())
        if self.model is not None and drawing.count("prompt", "automatic"):
            fingerprint = None if self._session is None else self._session.model.fingerprint
            now = replace(now, model=self.model.name, model_fingerprint=fingerprint)
        elif before is not None:
            now = replace(now, model=before.model, model_fingerprint=before.model_fingerprint)
        return replace(
            now,
            seconds=round((now.seconds or 0.0) + ((before and before.seconds) or 0.0), 1),
            edits=drawing.count("edit", "interpolated") + (before.edits if before else 0),
            prompts=drawing.count("prompt") + (before.prompts if before else 0),
        )

    @property
    def _hides_channels(self) -> bool:
        return len(window(self.image.array)[0]) < len(self.image.array)

    def _answering(self) -> "InteractiveSession":
        if self.model is None:
            raise ConfigError("there is no model that answers; start 'medseg annotate' with --model")
        from medseg.interactive.session import InteractiveSession

        model = self.model.promptable()
        if self._session is None or self._session.model is not model:  # another one was trained since
            datastore = self.folder.datastore
            image = self.model.seen(datastore.case(self.case_id), self.image, datastore.channels)
            self._session = InteractiveSession(model, image)
        return self._session

    def _asked(self, session: "InteractiveSession", message: PromptMessage) -> "MaskChange":
        if message.kind == "point":
            return session.add_point(self.grid.voxel_to_source(self._inside(message.place)), message.positive)
        self._check_box(message.bounds)
        bounds = self.grid.to_source(message.bounds)
        if message.kind == "box":
            return session.add_box(bounds, message.positive)
        mask = self.grid.array_to_source(message.mask)
        (i, _), (j, _), (k, _) = bounds
        add = session.add_scribble if message.kind == "scribble" else session.add_lasso
        return add(mask, message.positive, origin=(i, j, k))

    def _drawn(self, value: int, answer: "MaskChange", keeps_others: bool) -> Change:
        """Draws an answer: where the object is no longer, what lay beneath it comes back."""
        now = self.drawing.label_map
        before = np.zeros_like(now)
        if self._beneath is not None and self._beneath[0] == value:
            before = self._beneath[1]
        beneath = np.where(now == value, before, now)
        self._beneath = (value, beneath)
        if answer.mask.size == 0:
            return NO_CHANGE
        bounds = self.grid.to_shown(answer.bounds)
        mask: MaskArray = self.grid.array_to_shown(answer.mask)
        under = beneath[slices(bounds)]
        taken = mask & (under == 0) if keeps_others else mask
        return self.drawing.change(bounds, np.where(taken, value, under).astype(np.uint8), "prompt")

    def _undo_prompt(self) -> None:
        if self._session is not None and self._prompted:
            self._session.object = self._prompted.pop()
            self._session.undo()

    def _changed(self, label_map: Array, kind: Kind) -> Change:
        x, y, z = self.drawing.shape
        return self.drawing.change(((0, x), (0, y), (0, z)), label_map.astype(np.uint8), kind)

    def _value(self, label: str) -> int:
        if label not in self.folder.labels.names:
            raise ConfigError(f"there is no label '{label[:80]}'; reload the page")
        return self.folder.labels.names.index(label) + 1

    def _inside(self, place: Sequence[int]) -> Sequence[int]:
        if not all(0 <= i < n for i, n in zip(place, self.drawing.shape, strict=True)):
            raise GeometryError(f"point {tuple(place)}: lies outside of the image of {self.drawing.shape} voxels")
        return place

    def _check_box(self, bounds: Bounds) -> None:
        if not all(0 <= start < stop <= n for (start, stop), n in zip(bounds, self.drawing.shape, strict=True)):
            raise GeometryError(f"box {bounds}: is no box of voxels inside of {self.drawing.shape}")
