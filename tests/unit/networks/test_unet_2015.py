import pytest
import torch

from medseg.architecture import Architecture
from medseg.errors import ConfigError
from medseg.networks.registry import build_network

PUBLISHED = (64, 128, 256, 512, 1024)


def architecture(features: tuple[int, ...], name: str = "unet-2015", dims: int = 2, **rest: object) -> Architecture:
    n = len(features)
    strides = ((1,) * dims,) + ((2,) * dims,) * (n - 1)
    return Architecture(name=name, features=features, strides=strides, kernel_sizes=((3,) * dims,) * n, **rest)


def test_parameters_are_as_many_as_published() -> None:
    network = build_network(1, 2, architecture(PUBLISHED))
    assert sum(p.numel() for p in network.parameters()) == 31_030_658


def test_the_padded_form_has_the_same_convolutions() -> None:
    without = build_network(1, 2, architecture(PUBLISHED, "unet-2015-padded", arguments={"norm": "none"}))
    assert sum(p.numel() for p in without.parameters()) == 31_030_658
    with_norm = build_network(1, 2, architecture(PUBLISHED, "unet-2015-padded"))
    assert sum(p.numel() for p in with_norm.parameters()) == 31_030_658 + 11_776


def test_shapes_of_the_paper() -> None:
    network = build_network(1, 2, architecture((2, 2, 2, 2, 2))).eval()
    assert network.margin == (92, 92)
    assert network.fitting_shape((557, 572)) == (572, 572)
    assert network(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)


def test_the_margin_is_the_context_of_the_logits() -> None:
    """A pixel of logits sees as far as the margin, and on one side farther by what is left of its cell of pooling."""
    network = build_network(1, 2, architecture((4, 4, 4))).eval()
    assert network.margin == (20, 20)
    assert network.fitting_shape((60, 60)) == (60, 60)
    image = torch.zeros(60, 1, 60, 60)
    image[range(60), 0, range(60), 20] = 1  # one bright pixel an image, at 60 places
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
        sees = network(image)[:, 0, 0, 0].nonzero().flatten()  # the pixel of logits that lies on (20, 20)
    assert sees.tolist() == list(range(len(sees)))
    assert 40 <= int(sees[-1]) <= 43


def test_logits_are_those_of_the_centre() -> None:
    """Moved by one cell of pooling, the image has the same logits, moved by the same."""
    network = build_network(1, 2, architecture((4, 4, 4))).eval()
    image = torch.randn(1, 1, 64, 60)
    whole, moved = network(image), network(image[:, :, 4:])
    assert torch.allclose(whole[:, :, 4:], moved, atol=1e-5)


def test_dropout_is_at_the_end_of_the_contracting_path() -> None:
    network = build_network(1, 2, architecture((4, 4, 4, 4)))
    dropped = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Dropout)]
    assert [name.split(".")[:2] for name in dropped] == [["encoder", "2"], ["encoder", "3"]]
    assert {module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)} == {0.5}


def test_weights_begin_as_in_the_paper() -> None:
    """Gaussian, of deviation √(2/N): 9·64 for a 3×3 convolution of 64 features."""
    network = build_network(1, 2, architecture((64, 64)))
    weights = network.get_parameter("encoder.0.3.weight").detach()
    assert weights.shape == (64, 64, 3, 3)
    assert float(weights.std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert float(network.get_parameter("up.0.weight").detach().std()) == pytest.approx((2 / 64) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"droput": 0.1}, "network.arguments.droput: .* did you mean 'dropout'"),
        ({"dropout": 1.5}, "network.arguments.dropout of unet-2015-padded cannot be 1.5"),
        ({"norm": "layer"}, "network.arguments.norm of unet-2015-padded cannot be 'layer': .*'batch'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network(1, 2, architecture((4, 8), "unet-2015-padded", arguments=arguments))
