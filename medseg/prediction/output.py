"""Where masks go: a folder, a file, or nowhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.dataset.cases import Case
from medseg.errors import ConfigError, OutputError
from medseg.files import ensure_folder, remove_leftovers
from medseg.io.folders import is_zarr
from medseg.io.mask_formats import Format, ending_of, format_of, formats_named


@dataclass(frozen=True)
class PredictionOutput:
    """Where masks go.

    Attributes:
        folder: Of all masks, or None.
        file: Of the mask of a single case, or None.
        formats: Of the masks; the usual one of each image where there are none.
    """

    folder: Path | None
    file: Path | None
    formats: tuple[Format, ...]

    @classmethod
    def of(cls, output: str | Path | None, formats: Sequence[str]) -> "PredictionOutput":
        """Returns what the user means by an output, which is a file where it ends as a mask does.

        Raises:
            ConfigError: There are formats, but no output, or a format is not known.
            OutputError: Several formats are to go into one file.
        """
        path = None if output is None else Path(output)
        if path is None:
            if formats:
                raise ConfigError(
                    f"formats {', '.join(formats)}: masks are written only where 'output' names a folder or a file"
                )
            return cls(None, None, ())
        if not ending_of(path) or (path.is_dir() and not is_zarr(path)):
            return cls(path, None, tuple(formats_named(formats)))
        if len(set(formats)) > 1:
            raise OutputError(f"{path} is one file, and {', '.join(formats)} are several; give a folder with -o")
        return cls(None, path, (format_of(path, formats[0] if formats else None),))

    @property
    def shared(self) -> Path | None:
        """The folder that masks are written into; None where they are not written."""
        return self.folder if self.file is None else self.file.absolute().parent

    def prepare(self, cases: Sequence[Case], extras: Sequence[str] = ()) -> None:
        """Makes the folder, once it is clear that no image would be overwritten; removes what killed calls left there.

        Raises:
            ConfigError: Extras are asked for, but there is no folder for them.
            OutputError: An image would be overwritten, or there are several cases for one file.
        """
        if self.folder is not None:
            remove_leftovers(ensure_folder(self.folder))
        _refuse_to_overwrite(cases, self.folder, self.file)
        if extras and self.folder is None:
            raise ConfigError(f"{' and '.join(extras)} are written only where 'output' names a folder")


def _refuse_to_overwrite(cases: Sequence[Case], folder: Path | None, file: Path | None) -> None:
    if file is not None and len(cases) > 1:
        some = ", ".join(case.case_id for case in cases[:3])
        raise OutputError(
            f"{file} is one file, and there are {len(cases)} cases ({some}, …); give a folder with -o, or name one case"
        )
    for source in (source for case in cases for source in case.images if source.kind != "dicom"):
        if folder is not None and source.path.parent.resolve() == folder.resolve():
            raise OutputError(
                f"{folder} holds images that are read, such as {source.path.name}, and masks of these names would "
                "overwrite them; choose another -o"
            )
        if file is not None and source.path.resolve() == file.resolve():
            raise OutputError(f"{file} is the image that is read, and would be overwritten; choose another -o")
