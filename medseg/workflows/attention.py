"""attention_maps: what the gates of a trained attention U-Net let through, on the grid that it sees.

DIR/image.nii.gz     the image as the network sees it
    gate_1.nii.gz …  what each gate lets through, on the same grid
    attention.png    all gates over the image
"""

from pathlib import Path

import torch

from medseg.dataset.layouts import find_cases
from medseg.dataset.reading import read_images
from medseg.device import choose_device
from medseg.errors import ModelError, SourceError
from medseg.files import ensure_folder
from medseg.inferers.case_stream import predict_logits
from medseg.inferers.model import load_model
from medseg.networks.attention_unet import AttentionUNet
from medseg.report.attention import write_attention
from medseg.transforms.prepared import prepare
from medseg.volume import Volume


def attention_maps(
    model: str | Path, image: str | Path, output: str | Path | None = None, *, device: str = "auto"
) -> tuple[Volume, Volume]:
    """Returns an image as an attention U-Net sees it, and what each of its gates lets through.

    Maps are joined from windows as logits are.

    Args:
        model: A RUN or a model folder of attention-unet.
        image: What ``predict`` takes, with one case in it.
        output: A folder that gets both, as NIfTI and as a picture.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Returns:
        The image, ``(channel, x, y, z)``, normalized, and the gates, ``(gate, x, y, z)``, from 0 to 1, both on the
        model grid. There are two gates a skip, from the finest gated skip down.

    Raises:
        ModelError: It is another network.
        SourceError: There is no case, or several.
    """
    loaded = load_model(Path(model), choose_device(device))
    found = [m for m in getattr(loaded.network, "modules", list)() if isinstance(m, AttentionUNet)]
    if len(found) != 1:
        raise ModelError(f"{model}: only a single attention-unet has attention maps, this is another network")
    network, record = found[0], loaded.record
    cases = find_cases(Path(image), labelled=False).cases
    if len(cases) != 1:
        raise SourceError(f"{image}: holds {len(cases)} cases; give the images of one")
    volume = read_images(cases[0], record.plan.grid.tolerance)
    prepared = prepare(volume, None, record.plan.grid)

    def gates(windows: torch.Tensor) -> torch.Tensor:
        return torch.cat(network.attention(windows), dim=1)

    maps = predict_logits(gates, prepared.image, record.plan, record.inference, loaded.device)
    seen, let_through = (Volume(each.cpu().numpy(), prepared.geometry) for each in (prepared.image, maps))
    if output is not None:
        write_attention(seen, let_through, ensure_folder(Path(output)))
    return seen, let_through
