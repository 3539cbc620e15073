"""The formats of masks, as the help shows them: what knows them all is slow to import."""

FORMATS = (
    "nifti, ome-zarr, nifti-per-label, seg-nrrd, dicom-seg, dicom-seg-labelmap, dicom-seg-grid, rtstruct, stl or obj; "
    "dicom-sr (a report of measurements), dicom-sc (slices in colour), dicom-pdf (a page)"
)
