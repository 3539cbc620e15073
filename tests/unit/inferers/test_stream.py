from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from sliding import CPU, Ramps, plan

from medseg.architecture import Architecture
from medseg.config import InferenceConfig
from medseg.decoding import decoding_of
from medseg.device import Device
from medseg.errors import MedsegError
from medseg.inferers import predictor
from medseg.inferers.case_stream import CaseStream, predict_labels, predict_logits
from medseg.inferers.memory_plan import MemoryPlan
from medseg.inferers.predictor import Predictor
from medseg.inferers.segmentation import segment
from medseg.inferers.windows import GAUSSIAN_SIGMA, WindowRow
from medseg.networks.registry import build_network
from medseg.plan import LearntRegion, Plan
from medseg.transforms.prepared import Prepared
from medseg.transforms.resample import grid_with_spacing, resample
from medseg.volume import Geometry

CUDA = Device(torch.device("cuda"), torch.float32)
SHAPES = [(8, 8, 8), (21, 11, 17), (5, 3, 9), (9, 26, 4), (7, 1, 8)]


def random_image(shape: tuple[int, int, int]) -> torch.Tensor:
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))


def expected_mean(image: torch.Tensor, plan_: Plan, overlap: float) -> torch.Tensor:
    """Straight from the definition, in float64, all windows and all logits in memory."""
    patch, dims = plan_.patch_size, range(3)
    added = [max(p - n, 0) for n, p in zip(image.shape[1:], patch, strict=True)]
    pad = [(added[d] // 2, added[d] - added[d] // 2) for d in dims]
    padded = torch.from_numpy(np.pad(image.numpy(), [(0, 0), *pad]))
    starts = []
    for n, p in zip(padded.shape[1:], patch, strict=True):
        step = max(1, int(p * (1 - overlap)))
        starts.append(sorted({min(i, n - p) for i in range(0, n, step)}))
    weight = torch.ones(patch, dtype=torch.float64)
    for d, p in enumerate(patch):
        place = torch.arange(p, dtype=torch.float64) - (p - 1) / 2
        shape = [-1 if axis == d else 1 for axis in dims]
        weight = weight * torch.exp(-(place**2) / (2 * (GAUSSIAN_SIGMA * p) ** 2)).view(shape)
    weight = weight.clamp(min=max(float(weight.min()), 1e-3))
    total, weights = torch.zeros(3, *padded.shape[1:], dtype=torch.float64), torch.zeros(padded.shape[1:])
    for x in starts[0]:
        for y in starts[1]:
            for z in starts[2]:
                own = tuple(slice(s, s + p) for s, p in zip((x, y, z), patch, strict=True))
                window = padded[(slice(None), *own)][None]
                if plan_.slice_axis is None:
                    logits = Ramps()(window)[0]
                else:
                    axis = plan_.slice_axis
                    logits = Ramps()(window.squeeze(axis + 2))[0].unsqueeze(axis + 1)
                total[(slice(None), *own)] += logits * weight
                weights[own] += weight
    inside = tuple(slice(before, before + n) for (before, _), n in zip(pad, image.shape[1:], strict=True))
    return (total / weights)[(slice(None), *inside)].float()


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.8])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dims", [2, 3])
def test_every_voxel_gets_the_weighted_mean_of_its_windows(
    dims: int, shape: tuple[int, int, int], overlap: float
) -> None:
    image = random_image(shape)
    expected = expected_mean(image, plan(dims), overlap)
    for rows in (1, 2, 5):  # slabs of other heights
        logits = predict_logits(
            Ramps(),
            image,
            plan(dims),
            InferenceConfig(overlap=overlap),
            CPU,
            memory_plan=MemoryPlan(3, rows_at_once=rows),
        )
        assert logits.shape == expected.shape
        assert torch.allclose(logits, expected, atol=1e-4), rows


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_monai(shape: tuple[int, int, int]) -> None:
    network, image = torch.nn.Conv3d(1, 3, 3, padding=1), random_image(shape)
    for overlap in (0.0, 0.3, 0.5, 0.9):
        with torch.inference_mode():
            expected = sliding_window_inference(
                image[None], (8, 8, 8), 4, network, overlap=overlap, mode="gaussian", sigma_scale=GAUSSIAN_SIGMA
            )[0]
        logits = predict_logits(network, image, plan(3), InferenceConfig(overlap=overlap), CPU)
        assert torch.allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_in_half_precision_are_nearly_the_same(dtype: torch.dtype) -> None:
    image = random_image((21, 11, 17))
    exact = predict_logits(Ramps(), image, plan(3), InferenceConfig(), CPU)
    rough = predict_logits(Ramps(), image, plan(3), InferenceConfig(), CPU, memory_plan=MemoryPlan(2, dtype=dtype))
    assert rough.dtype == dtype
    assert (rough - exact).abs().max() < 8 * torch.finfo(dtype).eps * exact.abs().max()


def test_no_more_than_a_row_of_windows_waits() -> None:
    """Whatever the length of the image, the sums in memory are as high as a row of windows."""
    for overlap, n in product((0.0, 0.25, 0.5, 0.8), (63, 64, 65)):
        predictor, config = Predictor(Ramps(), plan(3), CPU), InferenceConfig(overlap=overlap)
        stream = CaseStream(predictor, random_image((n, 9, 9)), config, MemoryPlan(1))
        opened = stream.sums.open

        def open_and_look(row: WindowRow, n_labels: int, stream: CaseStream = stream, opened: Any = opened) -> None:
            opened(row, n_labels)
            assert sum(segment.stop - segment.start for segment in stream.sums._open) == 8

        stream.sums.open = open_and_look  # type: ignore[method-assign]
        assert sum(1 for _ in stream.slabs()) >= n // 8


NESTED = (
    LearntRegion(name="whole", values=(1, 2, 3), value=2),
    LearntRegion(name="core", values=(1, 3), value=1),
    LearntRegion(name="enhancing", values=(3,), value=3),
)


@pytest.mark.parametrize("regions", [(), NESTED])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.3, 0.8, 2.0)])
def test_label_maps_are_those_of_all_logits_interpolated(
    spacing: tuple[float, float, float], regions: tuple[LearntRegion, ...]
) -> None:
    own = plan(3).model_copy(update={"regions": regions})
    decoding = decoding_of(own)
    source = Geometry((23, 19, 14), np.diag([1.0, 1, 1, 1]))
    grid = grid_with_spacing(source, spacing)
    image = random_image(grid.shape)
    logits = predict_logits(Ramps(), image, plan(3), InferenceConfig(), CPU)
    prepared = Prepared(image, None, grid, source)
    label_map = segment(Predictor(Ramps(), own, CPU), prepared, InferenceConfig()).label_map
    assert np.array_equal(label_map, decoding.labels(resample(logits.contiguous(), grid, source), 0).numpy())
    labels = predict_labels(Ramps(), image, own, InferenceConfig(), CPU)
    assert torch.equal(labels, decoding.labels(logits, 0))
    assert not regions or len(labels.unique()) > 1


def valid_plan(name: str, dims: int) -> Plan:
    strides, kernels = ((1,) * dims, (2,) * dims), ((3,) * dims, (3,) * dims)
    architecture = Architecture(
        name=name, features=(4, 8), strides=strides, kernel_sizes=kernels, deep_supervision=False
    )
    axis = 2 if dims == 2 else None
    patch = (24, 28, 1) if dims == 2 else (24, 28, 26)
    return Plan(
        dims=dims, grid=plan(dims).grid, patch_size=patch, batch_size=2, slice_axis=axis, architecture=architecture
    )


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("shape", [(31, 17, 20), (6, 2, 1)])
def test_valid_convolutions_cover_the_image_by_tiles_of_a_mirrored_one(dims: int, shape: tuple[int, int, int]) -> None:
    plan_ = valid_plan("unet-2015", dims)
    torch.manual_seed(0)
    network = build_network(1, 2, plan_.architecture).eval()
    image = random_image(shape)
    logits = predict_logits(network, image, plan_, InferenceConfig(), CPU)
    margin, tile = [0, 0, 0], [1, 1, 1]
    for axis, lost, seen in zip(
        plan_.spatial_axes, network.margin, network.fitting_shape(plan_.network_patch), strict=True
    ):
        margin[axis], tile[axis] = lost, seen - 2 * lost
    size = [max(n, t) for n, t in zip(shape, tile, strict=True)]
    before = [(m - n) // 2 for n, m in zip(shape, size, strict=True)]
    ends = zip(shape, size, before, margin, strict=True)
    mirrored = np.pad(image[0].numpy(), [(b + m, n - s - b + m) for s, n, b, m in ends], mode="reflect")
    expected, tiles = torch.zeros(2, *size), torch.zeros(size)
    for start in product(*(sorted({min(i, n - t) for i in range(0, n, t)}) for n, t in zip(size, tile, strict=True))):
        seen = tuple(slice(s, s + t + 2 * m) for s, t, m in zip(start, tile, margin, strict=True))
        own = tuple(slice(s, s + t) for s, t in zip(start, tile, strict=True))
        window = torch.from_numpy(mirrored[seen])[None, None]
        with torch.inference_mode():
            answer = network(window)[0] if dims == 3 else network(window[..., 0])[0][..., None]
        expected[(slice(None), *own)] += answer
        tiles[own] += 1
    inside = tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))
    assert torch.allclose(logits, (expected / tiles)[(slice(None), *inside)], atol=1e-5)


class Counting(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.windows = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.windows += len(image)
        return Ramps()(image)


def test_the_network_sees_windows_of_one_value_only_once() -> None:
    image = torch.full((1, 40, 8, 8), -2.0)
    image[:, 30:] = random_image((10, 8, 8))
    network = Counting()
    config = InferenceConfig()
    logits = predict_logits(network, image, plan(3), config, CPU)
    assert network.windows == 4  # of nine
    assert torch.allclose(logits, expected_mean(image, plan(3), 0.5), atol=1e-4)


def test_an_image_that_is_not_finite_is_not_taken_for_blank() -> None:
    image = torch.full((1, 8, 8, 8), torch.nan)
    assert bool(predict_logits(Ramps(), image, plan(3), InferenceConfig(), CPU)[0].isnan().all())


class Full(torch.nn.Module):
    """A GPU that has room for some windows, or for none."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.seen: list[int] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(image))
        if len(image) > self.room:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return Ramps()(image)


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, InferenceConfig], tuple[CaseStream, Full]]:
    """A stream whose device says that it is a GPU; all tensors stay in main memory."""
    monkeypatch.setattr(Device, "send", lambda self, tensor: tensor)
    monkeypatch.setattr(Device, "is_cuda", property(lambda self: self.torch_device.type == "cuda"))

    def make(room: int, config: InferenceConfig) -> tuple[CaseStream, Full]:
        network = Full(room)
        stream = CaseStream(Predictor(network, plan(3), CPU), random_image((21, 11, 17)), config)
        stream.predictor.device = CUDA
        return stream, network

    return make


def whole(stream: CaseStream) -> torch.Tensor:
    return torch.cat([slab.fresh for slab in stream.slabs()], stream.layout.axis).permute(3, 0, 1, 2)


def test_when_gpu_memory_runs_out_the_batch_is_halved(fake_gpu: Callable[..., tuple[CaseStream, Full]]) -> None:
    stream, network = fake_gpu(1, InferenceConfig())
    expected = expected_mean(stream.image, plan(3), 0.5)
    assert torch.allclose(whole(stream), expected, atol=1e-4)
    assert network.seen[:4] == [4, 2, 1, 1]


def test_then_the_sums_move_and_then_the_network(
    fake_gpu: Callable[..., tuple[CaseStream, Full]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, network = fake_gpu(4, InferenceConfig())
    moved: list[str] = []
    # Memory runs out in the middle of a case, when something has been summed.
    monkeypatch.setattr(
        stream.sums, "move", lambda device: (moved.append(f"sums to {device}"), setattr(stream.sums, "device", device))
    )

    def to_processor() -> None:
        moved.append("network")
        network.room = 4
        stream.predictor.device = CPU

    monkeypatch.setattr(stream.predictor, "to_processor", to_processor)
    slabs = stream.slabs()
    parts = [next(slabs).fresh]
    network.room = 0
    stream.sums.device = torch.device("cuda")
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *_: self)
    parts += [slab.fresh for slab in slabs]
    monkeypatch.undo()
    assert moved == ["sums to cpu", "network"]
    expected = expected_mean(stream.image, plan(3), 0.5)
    assert torch.allclose(torch.cat(parts, stream.layout.axis).permute(3, 0, 1, 2), expected, atol=1e-4)


def test_the_network_moves_to_the_processor_with_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "choose_device", lambda name: CPU)
    network = torch.nn.Conv3d(1, 2, 1)
    predict = predictor.Predictor(network, plan(3), CUDA)
    predict.to_processor()
    assert predict.device is CPU
    assert predict(torch.zeros(1, 1, 2, 2, 2)).device.type == "cpu"


def test_sums_move_as_they_are() -> None:
    stream = CaseStream(Predictor(Ramps(), plan(3), CPU), random_image((21, 11, 17)), InferenceConfig())
    parts = []
    for slab in stream.slabs():
        parts.append(slab.fresh)
        stream.sums.move(torch.device("cpu"))
    logits = torch.cat(parts, stream.layout.axis).permute(3, 0, 1, 2)
    assert torch.allclose(logits, expected_mean(stream.image, plan(3), 0.5), atol=1e-4)


def test_when_nothing_helps_the_error_says_so(fake_gpu: Callable[..., tuple[CaseStream, Full]]) -> None:
    stream, _ = fake_gpu(0, InferenceConfig())
    stream.predictor.device = CPU
    with pytest.raises(MedsegError, match="out of GPU memory"):
        next(stream.slabs())


def test_the_network_itself_stays_where_it_is() -> None:
    """It may be in training, and the next case may have room."""
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1), torch.nn.BatchNorm3d(2)).requires_grad_(False)
    weights = {name: tensor.data_ptr() for name, tensor in network.state_dict().items()}
    predict = Predictor(network, plan(3), CUDA)
    predict.to_processor()
    assert predict.network is not network
    assert {name: tensor.data_ptr() for name, tensor in network.state_dict().items()} == weights
    copied = predict.network.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(copied[name], tensor) for name, tensor in network.state_dict().items())
    assert not {tensor.data_ptr() for tensor in copied.values()} & set(weights.values())
    assert not any(parameter.requires_grad for parameter in predict.network.parameters())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "message",
    ["cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED", "CUDA out of memory"],
)
def test_libraries_of_cuda_tell_in_their_own_words_that_memory_is_gone(
    message: str, fake_gpu: Callable[..., tuple[CaseStream, Full]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, network = fake_gpu(4, InferenceConfig())

    def forward(image: torch.Tensor) -> torch.Tensor:
        if len(image) > 2:
            raise RuntimeError(message)
        return Ramps()(image)

    monkeypatch.setattr(network, "forward", forward)
    assert torch.allclose(whole(stream), expected_mean(stream.image, plan(3), 0.5), atol=1e-4)
    assert stream.batch_size == 2


def test_other_errors_of_a_network_are_not_taken_for_missing_memory(
    fake_gpu: Callable[..., tuple[CaseStream, Full]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, network = fake_gpu(4, InferenceConfig())

    def forward(image: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(network, "forward", forward)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        next(stream.slabs())
