"""Inference in bounded memory: sliding windows for any network, and what medseg's own prediction is made of.

Names are imported when they are first used, since PyTorch and MONAI take seconds to import.

``medseg.predict`` does all that there is to prediction. A loop of your own takes the parts of a model:

    >>> from medseg.inferers import StreamingInferer, load_model
    >>> from medseg.transforms import build_preprocessing
    >>> model = load_model("run", "cpu")  # doctest: +SKIP
    >>> plan, labels, network = model.record.plan, model.record.labels, model.network  # doctest: +SKIP
    >>> preprocess = build_preprocessing(plan, labels)  # a Compose: Invertd leads back  # doctest: +SKIP
    >>> case = preprocess({"image": "scans/patient_7.nii.gz"})  # doctest: +SKIP
    >>> logits = StreamingInferer(plan.patch_size, overlap=0.5)(case["image"][None], network)  # doctest: +SKIP

It is a plan in 3D; a network in 2D sees slices across ``plan.slice_axis``. To train or predict with networks of other
makers see ``StreamingInferer`` and ``medseg.training``.
"""

from typing import TYPE_CHECKING

from medseg.lazy_names import lazy_names

if TYPE_CHECKING:
    from medseg.inferers.memory_plan import MemoryPlan
    from medseg.inferers.model import Model, load_model
    from medseg.inferers.model_record import ModelRecord
    from medseg.inferers.streaming import PlacedSlab, StreamingInferer

_HOMES = {
    "MemoryPlan": "medseg.inferers.memory_plan",
    "Model": "medseg.inferers.model",
    "ModelRecord": "medseg.inferers.model_record",
    "PlacedSlab": "medseg.inferers.streaming",
    "StreamingInferer": "medseg.inferers.streaming",
    "load_model": "medseg.inferers.model",
}

__all__ = ["MemoryPlan", "Model", "ModelRecord", "PlacedSlab", "StreamingInferer", "load_model"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
