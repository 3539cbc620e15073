"""BraTS 2013 to 2015 and ISLES 2015 to 2018, as the Virtual Skeleton Database names files.

HGG/brats_tcia_pat105_0001/VSD.Brain.XX.O.MR_Flair.35595/VSD.Brain.XX.O.MR_Flair.35595.mha
HGG/brats_tcia_pat105_0001/VSD.Brain_3more.XX.O.OT.42283/VSD.Brain_3more.XX.O.OT.42283.mha
"""

import re

from medseg.dataset.layouts.case_list_draft import CaseListDraft
from medseg.dataset.layouts.listing import Listing

NAME = re.compile(r"(?:VSD|SMIR)\.Brain[^.]*\.[^.]+\.O\.(?:(?:MR|CT)_)?(?P<kind>\w+)\.\d+", re.IGNORECASE)
LABEL = "OT"
SERIES_IN_TIME = "4D"


def virtual_skeleton(listing: Listing) -> CaseListDraft | None:
    """Finds a folder a case; in it a folder for each image, and one, OT, for its label map."""
    matches = {source: NAME.match(listing.place(source).name) for source in listing.found.sources}
    if not any(match and match["kind"].upper() == LABEL for match in matches.values()):
        return None
    draft = listing.draft("BraTS or ISLES of the Virtual Skeleton Database (VSD.Brain.…, OT)")
    n_left_out = 0
    for source, match in matches.items():
        if match is None:
            continue
        folder = listing.place(source).parent
        key = (folder.parent if NAME.match(folder.name) else folder).as_posix()
        if match["kind"].upper() == LABEL:
            draft.add_label(key, source)
        elif SERIES_IN_TIME in match["kind"]:
            n_left_out += 1
        else:
            draft.add_image(key, source, match["kind"])
    if n_left_out:
        draft.notes.append(f"perfusion series, which are no single image, left out: {n_left_out}")
    return draft
