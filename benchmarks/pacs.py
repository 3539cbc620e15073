"""From the last C-STORE of a CT to its result: beside the prediction itself, and in memory; and many studies in a row.

    python benchmarks/pacs.py RUN --shape 512 512 300 --spacing 0.8 0.8 1.5 --max-memory 3GB --orthanc
    python benchmarks/pacs.py RUN --shape 64 64 20 --studies 200 --orthanc

A process of its own draws a CT and sends it by C-STORE to a service in this process, which sends its mask on: into a
folder, and to an Orthanc that is started here. The same case is then predicted from the received files, as ``medseg
predict`` does. With --studies, so many are sent one after the other, and the archive is asked what it has.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
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

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from archives import Orthanc, running_orthanc

QUIET = 2.0  # seconds


def slices(shape: Sequence[int], spacing: Sequence[float]) -> Iterator[Dataset]:
    """A CT of noise and two balls."""
    columns, rows, n = shape
    study, series, frame = (generate_uid() for _ in range(3))
    y, x = np.mgrid[:rows, :columns]
    random = np.random.default_rng(0)
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
        header.PixelSpacing, header.SliceThickness = list(spacing[:2]), spacing[2]
        header.ImageOrientationPatient, header.ImagePositionPatient = (
            [1, 0, 0, 0, 1, 0],
            [0, 0, round(i * spacing[2], 4)],
        )
        header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
        header.PixelRepresentation, header.SamplesPerPixel = 1, 1
        header.PhotometricInterpretation, header.RescaleSlope, header.RescaleIntercept = "MONOCHROME2", 1, 0
        header.PixelData = values.astype(np.int16).tobytes()
        yield header


def sent(port: int, shape: Sequence[int], spacing: Sequence[float], n_studies: int) -> tuple[float, float]:
    """Sends studies, each in an association of its own; returns the seconds that it took, and when it ended."""
    seconds = 0.0
    for _ in range(n_studies):
        datasets = list(slices(shape, spacing))
        start = time.perf_counter()
        ae = AE(ae_title="BENCHMARK")
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", port, ae_title="MEDSEG")
        for dataset in datasets:
            assert association.send_c_store(dataset).Status == 0
        seconds, ended = seconds + time.perf_counter() - start, time.time()
        association.release()
    return seconds, ended


@contextmanager
def orthanc(folder: Path, is_wanted: bool) -> Iterator[Orthanc | None]:
    """Debian's Orthanc, with its storage in a folder."""
    if not is_wanted:
        yield None
        return
    with running_orthanc(folder) as archive:
        yield archive


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300))
    parser.add_argument("--spacing", type=float, nargs=3, default=(0.8, 0.8, 1.0), help="mm")
    parser.add_argument("--studies", type=int, default=1)
    parser.add_argument("--orthanc", action="store_true", help="send to an Orthanc too")
    parser.add_argument("--max-memory", help="as 4GB")
    arguments = parser.parse_args()
    model = ServedModel("model", arguments.run, choose_device("cpu"))
    model.loaded()
    before = peak_mb()
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, get_context("spawn")) as sender,
        orthanc(Path(folder) / "orthanc", arguments.orthanc) as archive,
    ):
        place = Path(folder)
        (place / "out").mkdir()
        content = {
            "port": 0, "queue": place / "queue", "quiet_time": QUIET, "rules": [SeriesRule(model="model")],
            "send": [str(place / "out"), *([archive.destination] if archive else [])],
            **({"max_memory": arguments.max_memory} if arguments.max_memory else {}),
        }  # fmt: skip
        settings = DicomSettings.model_validate(content)
        with running_service({"model": model}, settings) as service:
            start, used = time.time(), time.process_time()
            of_sender = (service.listener.port, arguments.shape, arguments.spacing, arguments.studies)
            sending, ended = sender.submit(sent, *of_sender).result()
            while service.queue.counts()["study"].get("done", 0) < arguments.studies:
                time.sleep(0.02)
            whole, total, peak = time.time() - ended, time.time() - start, peak_mb()
            used = time.process_time() - used
            n = arguments.studies * arguments.shape[2]
            size = n * arguments.shape[0] * arguments.shape[1] * 2 / 1e6
            print(f"received {n} instances, {size:.0f} MB, in {sending:.1f} s: {size / sending:.0f} MB/s")
            print(f"peak memory of this process {peak:.0f} MB, {before:.0f} MB with the model before it began")
            print(f"results in the folder: {len(list((place / 'out').glob('*.dcm')))}", end="")
            print(f", in Orthanc: {len(archive.instances(Modality='SEG'))}" if archive else "")
            if arguments.studies > 1:
                print(f"{arguments.studies} studies from the first C-STORE to the last result {total:.1f} s")
                return
            (series,) = (place / "queue" / "studies").glob("*/*")
            (place / "alone").mkdir()
            began, used_alone = time.perf_counter(), time.process_time()
            case = Case("alone", (source_of(series),))
            prediction = predictor_of(model, settings, place / "alone").predict(case)
            alone, used_alone = time.perf_counter() - began, time.process_time() - used_alone
            (mask,) = (place / "alone").glob("*.dcm")
            sent_on = [next((place / "queue" / "results").glob("*/*.dcm"))]
            of_both = [dcmread(path) for path in (mask, *sent_on)]
            print((place / "queue" / "log.jsonl").read_text())
            stages = {name: round(seconds, 1) for name, seconds in prediction.stages.items()}
    print(f"last C-STORE to the last result {whole:.2f} s, of it quiet {QUIET:.1f} s; alone {alone:.2f} s {stages}")
    more = whole - QUIET - alone
    print(f"beside both: {more:.2f} s, {100 * more / alone:.1f} % of the prediction")
    print(f"of the processors: {used:.1f} s from the first C-STORE on, the case alone {used_alone:.1f} s")
    print(f"the same object: {of_both[0].SOPInstanceUID == of_both[1].SOPInstanceUID}", end=", ")
    print(f"the same voxels: {of_both[0].PixelData == of_both[1].PixelData}")


if __name__ == "__main__":
    main()
