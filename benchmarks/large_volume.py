"""A volume larger than the memory that a case may take: predicted block by block, its peak of memory and its time.

    python benchmarks/large_volume.py RUN IMAGE [--gb 4] [--max-memory 1GB] [--folder /tmp/large]

Writes an OME-Zarr of so many GB on disk (uint16, not compressed): IMAGE (NIfTI), four times as fine, tiled and with
noise. Predicts it in a process of its own, and prints the peak of its memory as the system tells it, the forecast, and
the time. So that it can be seen in minutes, it ends after ``--blocks N`` or ``--minutes M``, where these are given.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import zarr

FINER = 4  # voxels of the volume in one of the image, along each axis
CHUNK = 128


def written(image: Path, folder: Path, gigabytes: float) -> Path:
    """Writes the volume, slab by slab, and returns its folder; one that is there already is taken."""
    path = folder / f"large_{gigabytes:g}.ome.zarr"
    if path.is_dir():
        return path
    source = nibabel.Nifti1Image.from_filename(image)
    small = np.asarray(source.dataobj, np.float32)
    small = (small / small.max() * 2000).astype(np.uint16)
    edge = round((gigabytes * 1e9 / 2) ** (1 / 3) / CHUNK) * CHUNK
    scale = [float(mm) / FINER for mm in np.abs(np.linalg.eigvals(source.affine[:3, :3]))]
    directions = {"z": "inferior-to-superior", "y": "posterior-to-anterior", "x": "left-to-right"}
    axes = [
        {"name": n, "type": "space", "unit": "millimeter", "orientation": {"type": "anatomical", "value": v}}
        for n, v in directions.items()
    ]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale[::-1]}]}]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    part = path.with_name(f"part_{path.name}")
    zarr.create_group(str(part), attributes={"ome": ome}, overwrite=True)
    array = zarr.create_array(str(part / "0"), shape=(edge,) * 3, chunks=(CHUNK,) * 3, dtype="uint16", compressors=None)
    index = [(np.arange(edge) // FINER) % n for n in small.shape]
    random = np.random.default_rng(0)
    for start in range(0, edge, CHUNK):
        slab = small[np.ix_(index[0], index[1], index[2][start : start + CHUNK])]
        noise = random.integers(0, 40, slab.shape[:2], np.uint16)
        array[start : start + CHUNK] = (slab + noise[:, :, None]).T
    part.rename(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("image", type=Path)
    parser.add_argument("--gb", type=float, default=4.0)
    parser.add_argument("--max-memory", default="1GB")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/large"))
    parser.add_argument("--blocks", type=int, default=10**9, help="end when so many blocks are done")
    parser.add_argument("--minutes", type=float, default=1e9, help="end after so many minutes")
    parser.add_argument("more", nargs="*", help="further options of medseg predict, after --")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    volume = written(options.image, options.folder, options.gb)
    masks = options.folder / "masks"
    command = [sys.executable, "-m", "medseg", "predict", options.run, str(volume), "-o", str(masks)]
    command += ["--max-memory", options.max_memory, *options.more]
    start, peak = time.monotonic(), 0
    errors = (options.folder / "told.txt").open("w")
    process = subprocess.Popen(command, stderr=errors, stdout=errors)
    records = masks / ".blocks" / volume.name.removesuffix(".ome.zarr") / "blocks"
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text(errors="replace")
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        peak = max(peak, int(found[1]) * 1024 if found else 0)
        n = len(list(records.glob("[0-9]*.json"))) if records.is_dir() else 0
        if n >= options.blocks or time.monotonic() - start > 60 * options.minutes:
            process.terminate()
            break
        time.sleep(0.2)
    process.wait()
    size = sum(file.stat().st_size for file in volume.rglob("*") if file.is_file())
    print((options.folder / "told.txt").read_text())
    print(json.dumps({
        "volume_gb": round(size / 1e9, 2), "max_memory": options.max_memory, "peak_gib": round(peak / 2**30, 3),
        "seconds": round(time.monotonic() - start), "cores": os.cpu_count(), "status": process.returncode,
        "blocks_done": "all" if process.returncode == 0 else len(list(records.glob("[0-9]*.json"))),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
