"""A folder that ``medseg preprocess`` wrote, as a source."""

from medseg.dataset.layouts.case_list_draft import CaseListDraft
from medseg.dataset.layouts.listed_paths import add_listed
from medseg.dataset.layouts.listing import Listing
from medseg.dataset.prepared_json import read_dataset
from medseg.io.discover import source_of


def prepared(listing: Listing) -> CaseListDraft | None:
    """Reads a folder that ``medseg preprocess`` wrote."""
    if listing.content.get("format") != "medseg-prepared":
        return None
    content = read_dataset(listing.path)
    draft = CaseListDraft("prepared by medseg (dataset.json)", content.channels, content.labels)
    draft.groups_given, draft.is_whole = True, False
    for entry in content.cases:
        case = add_listed(draft, listing.path, list(entry.images), entry.label, entry.case_id)
        if case:
            case.objects = None if entry.objects is None else source_of(listing.path / entry.objects)
            case.group = entry.group or ""
            case.annotated = entry.annotated
            case.spacing = entry.spacing
    return draft
