"""DICOM studies: series, and what was drawn on them."""

from collections.abc import Sequence

from medseg.dataset.draft import Draft
from medseg.dataset.listing import Listing
from medseg.dataset.segmented import SAY_THEIR_IMAGE, add_segmentations
from medseg.dataset.unlabelled import add_unlabelled
from medseg.io.source import ImageSource

VOLUMES = ("nifti", "pair", "itk")


def segmented_studies(listing: Listing) -> Draft | None:
    """DICOM series of which some have a DICOM SEG or an RTSTRUCT."""
    series = [source for source in listing.found.sources if source.kind == "dicom"]
    segmentations = [source for source in listing.found.segmentations if source.kind in SAY_THEIR_IMAGE]
    if not series or not segmentations:
        return None
    draft = _studies(listing, series, "DICOM studies with segmentations")
    add_segmentations(draft, listing, segmentations)
    return draft


def dicom_studies(listing: Listing) -> Draft | None:
    """DICOM series without labels: each is a case of its patient."""
    series = [source for source in listing.found.sources if source.kind == "dicom"]
    if not series or any(source.kind in VOLUMES for source in listing.found.sources):
        return None
    return _studies(listing, series, "DICOM studies")


def _studies(listing: Listing, series: Sequence[ImageSource], layout: str) -> Draft:
    draft = listing.draft(layout)
    add_unlabelled(draft, listing, series)
    return draft
