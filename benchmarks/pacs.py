"""From the last C-STORE of a CT to its result: beside the prediction itself, and in memory.

    python benchmarks/pacs.py RUN --shape 512 512 300 --to ORTHANC@127.0.0.1:4242

A CT is drawn, sent by C-STORE to a service in this process, and its mask sent on: into a folder, and to the archive
where one is given. The same case is then predicted from the received files, as ``medseg predict`` does.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from medseg.dataset.cases import Case
from medseg.device import choose_device
from medseg.io.discover import source_of
from medseg.pacs.service import running_service
from medseg.pacs.settings import DicomSettings, SeriesRule
from medseg.pacs.worker import predictor_of
from medseg.serve.models import ServedModel

QUIET = 2.0  # seconds


def slices(shape: tuple[int, int, int]) -> list[Dataset]:
    """A CT of noise and two balls."""
    columns, rows, n = shape
    study, series, frame = (generate_uid() for _ in range(3))
    y, x = np.mgrid[:rows, :columns]
    random = np.random.default_rng(0)
    found = []
    for i in range(n):
        values = random.normal(0, 20, (rows, columns))
        for centre, radius in ((0.3, 0.1), (0.6, 0.2)):
            inside = (x / columns - centre) ** 2 + (y / rows - centre) ** 2 + (i / n - centre) ** 2 < radius**2
            values[inside] += 100
        header = Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, generate_uid()
        header.file_meta.MediaStorageSOPClassUID = CTImageStorage
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = study, series, frame
        header.PatientID, header.PatientName, header.Modality = "P", "P", "CT"
        header.Rows, header.Columns, header.InstanceNumber = rows, columns, i + 1
        header.PixelSpacing, header.SliceThickness = [0.8, 0.8], 1
        header.ImageOrientationPatient, header.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, i]
        header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
        header.PixelRepresentation, header.SamplesPerPixel = 1, 1
        header.PhotometricInterpretation, header.RescaleSlope, header.RescaleIntercept = "MONOCHROME2", 1, 0
        header.PixelData = values.astype(np.int16).tobytes()
        found.append(header)
    return found


def store(port: int, datasets: list[Dataset]) -> float:
    """Sends all, and returns the seconds that it took."""
    ae = AE(ae_title="BENCHMARK")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port, ae_title="MEDSEG")
    start = time.perf_counter()
    for dataset in datasets:
        assert association.send_c_store(dataset).Status == 0
    seconds = time.perf_counter() - start
    association.release()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300))
    parser.add_argument("--to", help="AET@host:port of an archive")
    parser.add_argument("--max-memory", help="as 4GB")
    arguments = parser.parse_args()
    model = ServedModel("model", arguments.run, choose_device("cpu"))
    model.loaded()
    datasets = slices(tuple(arguments.shape))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "out").mkdir()
        content = {
            "port": 0, "queue": place / "queue", "quiet_time": QUIET, "rules": [SeriesRule(model="model")],
            "send": [str(place / "out"), *([arguments.to] if arguments.to else [])],
            **({"max_memory": arguments.max_memory} if arguments.max_memory else {}),
        }  # fmt: skip
        settings = DicomSettings.model_validate(content)
        with running_service({"model": model}, settings) as service:
            sending = store(service.listener.port, datasets)
            start = time.perf_counter()
            while service.queue.counts()["study"].get("done", 0) == 0:
                time.sleep(0.02)
            whole = time.perf_counter() - start
            log = (place / "queue" / "log.jsonl").read_text()
            (series,) = (place / "queue" / "studies").glob("*/*")
            (place / "alone").mkdir()
            start = time.perf_counter()
            case = Case("alone", (source_of(series),))
            prediction = predictor_of(model, settings, place / "alone").predict(case)
            alone = time.perf_counter() - start
            (mask,) = (place / "alone").glob("*.dcm")
            assert prediction.masks
            sent = (place / "queue" / "results").glob("*/*.dcm")
            masks = {dcmread(path).SOPInstanceUID for path in (mask, *sent)}  # UIDs follow from the content
    print(log)
    size = sum(len(dataset.PixelData) for dataset in datasets) / 1e6
    print(f"received {len(datasets)} instances, {size:.0f} MB, in {sending:.1f} s: {size / sending:.0f} MB/s")
    print(f"last C-STORE to sent {whole:.2f} s, of it quiet {QUIET:.1f} s; read, predict and write alone {alone:.2f} s")
    print(
        f"beside both: {whole - QUIET - alone:.2f} s, {100 * (whole - QUIET - alone) / alone:.1f} % of the prediction"
    )
    print(f"the same mask: {len(masks) == 1}")
    print(f"peak memory of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
