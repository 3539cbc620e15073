"""A folder that ``medseg preprocess`` wrote, as a source."""

from pydantic import ConfigDict

from medseg.dataset.layouts.case_list_draft import CaseListDraft
from medseg.dataset.layouts.listed_paths import add_listed
from medseg.dataset.layouts.listing import Listing
from medseg.dataset.spacing import SaidSpacing
from medseg.labels import Labels
from medseg.records import PathInside, Record, validated


class PreparedCase(Record):
    """What is read here of an entry of dataset.json in a prepared folder."""

    model_config = ConfigDict(extra="allow")

    case_id: PathInside
    images: tuple[str, ...]
    label: str | None = None
    group: str | None = None
    annotated: tuple[str, ...] | None = None
    spacing: SaidSpacing | None = None


class PreparedFolder(Record):
    """What is read here of its dataset.json."""

    model_config = ConfigDict(extra="allow")

    channels: tuple[str, ...] = ()
    labels: Labels | None = None
    cases: tuple[PreparedCase, ...]


def prepared(listing: Listing) -> CaseListDraft | None:
    """A folder that ``medseg preprocess`` wrote."""
    if listing.content.get("format") != "medseg-prepared":
        return None
    path = listing.path / "dataset.json"
    content = validated(listing.content, PreparedFolder, path, "run 'medseg preprocess' again")
    draft = CaseListDraft("prepared by medseg (dataset.json)", content.channels, content.labels)
    draft.groups_given, draft.is_whole = True, False
    for entry in content.cases:
        case = add_listed(draft, listing.path, list(entry.images), entry.label, entry.case_id)
        if case:
            case.group = entry.group or ""
            case.annotated = entry.annotated
            case.spacing = entry.spacing
    return draft
