from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transunets import SMALL, architecture

from medseg.errors import ConfigError
from medseg.networks.pretrained import load_pretrained
from medseg.networks.registry import build_network
from medseg.networks.transunet import TransUNet


def googles_arrays(network: TransUNet) -> dict[str, np.ndarray]:
    """Random numbers in the names and shapes of R50+ViT-B_16.npz, for the network's sizes."""
    hidden, width = network.norm.normalized_shape[0], network.resnet[0][0][0].out_channels
    heads = network.transformer[0].self_attn.num_heads
    shapes: dict[str, tuple[int, ...]] = {
        "conv_root/kernel": (7, 7, 3, width),
        "gn_root": (1, 1, 1, width),
        "embedding/kernel": (1, 1, 16 * width, hidden),
        "embedding/bias": (hidden,),
        "Transformer/posembed_input/pos_embedding": (1, 17, hidden),
        "Transformer/encoder_norm": (hidden,),
    }
    before = width
    for block, units in enumerate(SMALL["blocks"], start=1):  # type: ignore[arg-type, var-annotated]
        out = 2 * width * 2**block
        for unit in range(1, units + 1):
            name = f"block{block}/unit{unit}"
            convolutions = {
                "1": (1, 1, before, out // 4),
                "2": (3, 3, out // 4, out // 4),
                "3": (1, 1, out // 4, out),
                **({"_proj": (1, 1, before, out)} if unit == 1 else {}),
            }
            for k, shape in convolutions.items():
                shapes |= {f"{name}/conv{k}/kernel": shape, f"{name}/gn{k}": (1, 1, 1, shape[-1])}
            before = out
    for i in range(len(network.transformer)):
        name = f"Transformer/encoderblock_{i}"
        attention = f"{name}/MultiHeadDotProductAttention_1"
        for part in ("query", "key", "value"):
            shapes |= {f"{attention}/{part}/kernel": (hidden, heads, hidden // heads)}
            shapes |= {f"{attention}/{part}/bias": (heads, hidden // heads)}
        shapes |= {f"{attention}/out/kernel": (heads, hidden // heads, hidden), f"{attention}/out/bias": (hidden,)}
        shapes |= {f"{name}/LayerNorm_0": (hidden,), f"{name}/LayerNorm_2": (hidden,)}
        for j, (n, m) in enumerate([(hidden, 4 * hidden), (4 * hidden, hidden)]):
            shapes |= {f"{name}/MlpBlock_3/Dense_{j}/kernel": (n, m), f"{name}/MlpBlock_3/Dense_{j}/bias": (m,)}
    for name in [name for name in shapes if name.rpartition("/")[2].startswith(("gn", "LayerNorm", "encoder_norm"))]:
        shape = shapes.pop(name)
        shapes |= {f"{name}/scale": shape, f"{name}/bias": shape}
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def test_googles_weights_fill_resnet_and_transformer(tmp_path: Path) -> None:
    network = build_network(1, 2, architecture(2, (32,) * 4, token_grid=[6, 5], heads=3, **SMALL))
    inner: TransUNet = network.network  # type: ignore[assignment]
    arrays = googles_arrays(inner)
    np.savez(tmp_path / "R50+ViT-B_16.npz", **arrays)
    random = load_pretrained(network, tmp_path / "R50+ViT-B_16.npz")
    assert {name.split(".")[1] for name in random} == {"decoder", "decoder_input", "head"}

    # The attention of the second layer, computed from Google's arrays as their code does.
    tokens = torch.randn(1, 7, 384)
    name = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1"
    q, k, v = (
        np.einsum("btc,chd->bhtd", tokens.numpy(), arrays[f"{name}/{part}/kernel"])
        + arrays[f"{name}/{part}/bias"][None, :, None]
        for part in ("query", "key", "value")
    )
    scores = torch.from_numpy(q @ k.swapaxes(-1, -2) / 128**0.5).softmax(-1).numpy()
    expected = np.einsum("bhtd,hdc->btc", scores @ v, arrays[f"{name}/out/kernel"]) + arrays[f"{name}/out/bias"]
    attended = inner.transformer[1].self_attn(tokens, tokens, tokens)[0].detach().numpy()  # type: ignore[operator]
    np.testing.assert_allclose(attended, expected, rtol=1e-3, atol=1e-2 * np.abs(expected).max())


def test_weights_of_a_model_begin_another_with_other_labels(tmp_path: Path) -> None:
    plan = architecture(3, **SMALL)
    first, second = build_network(1, 2, plan), build_network(1, 4, plan)
    save_file(first.state_dict(), tmp_path / "weights.safetensors")
    assert load_pretrained(second, tmp_path / "weights.safetensors") == ["network.head.weight", "network.head.bias"]
    loaded, given = second.state_dict(), first.state_dict()
    assert all(torch.equal(loaded[name], given[name]) for name in given if "head" not in name)


def test_wrong_files_of_weights_are_refused(tmp_path: Path) -> None:
    network = build_network(1, 2, architecture(2, **SMALL))
    unet = build_network(1, 2, architecture(2).model_copy(update={"name": "unet", "arguments": {}}))
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    np.savez(tmp_path / "pickled.npz", weights=np.array([{}], dtype=object))
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    save_file({"something": torch.zeros(1)}, tmp_path / "other.safetensors")
    for taker, file, message in (
        (network, "other.npz", "is not Google's R50"),
        (network, "pickled.npz", "not an .npz|is no .npz"),
        (network, "broken.npz", "not an .npz|is no .npz"),
        (unet, "other.npz", "weights of transunet in 2D"),
        (network, "other.safetensors", "nothing in .* fits"),
        (network, "absent.safetensors", "no such file"),
    ):
        with pytest.raises(ConfigError, match=f"network.weights.*({message})|({message}).*network.weights"):
            load_pretrained(taker, tmp_path / file)
