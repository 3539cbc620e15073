"""A file with many volumes: its header is parsed once, and no frame is decoded for another volume."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
from dicom_drawn import write_enhanced

from medseg.io.dicom import files, pixels
from medseg.io.dicom.series import dicom_geometry, find_series, read_dicom


def test_volumes_of_one_file_share_its_header(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 1000, (120, 5, 6)).astype(np.int16)
    frames = [
        {"position": [0.0, 0.0, 3.0 * z], "FrameContentSequence": {"TemporalPositionIndex": t + 1}}
        for t in range(30)
        for z in range(4)
    ]
    write_enhanced(tmp_path, stored, frames)
    with (
        patch.object(files, "dcmread", wraps=files.dcmread) as parsed,
        patch.object(pixels, "_decoded", wraps=pixels._decoded) as decoded,
    ):
        sources = find_series(tmp_path).sources
        assert len(sources) == 30
        for i, source in enumerate(sources):
            assert dicom_geometry(source).shape == (6, 5, 4)
            np.testing.assert_array_equal(read_dicom(source).array[0].T, stored[4 * i : 4 * i + 4])
    assert parsed.call_count <= 2  # the start of the file, and the whole one where the header is longer
    assert sum(len(call.args[2]) for call in decoded.call_args_list) == 120
