"""What clients get: label maps as files, alone or in a form with parameters."""

import gzip
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from medseg.io.nifti.writer import nifti_bytes
from medseg.io.nrrd.writer import COMPRESSION, nrrd_bytes
from medseg.serve.monai_label.uploads import InferParams
from medseg.volume import Geometry, LabelMap

BINARY = "application/octet-stream"
OUTPUTS = ("", "all", "image", "json")


@dataclass(frozen=True)
class InferAnswer:
    """A label map for a client.

    Attributes:
        label_map: ``(x, y, z)``: k is the k-th name of the model's labels.
        geometry: The grid of the image.
        params: What is said beside it.
    """

    label_map: LabelMap
    geometry: Geometry
    params: dict[str, Any] = field(default_factory=dict)

    def file(self, params: InferParams) -> tuple[str, bytes]:
        """Returns the name and the content of a file, in the format that the client asks for.

        Raises:
            HTTPException: It is none of NRRD and NIfTI: 400.
        """
        array = self.label_map.astype(np.uint16 if self.label_map.max(initial=0) > 255 else np.uint8)
        kind = params.result_extension.lower()
        if kind == ".nrrd":
            return "label.nrrd", nrrd_bytes(array, self.geometry, compressed=params.result_compress)
        if kind in (".nii", ".nii.gz"):
            content = nifti_bytes(array, self.geometry)
            return f"label{kind}", gzip.compress(content, COMPRESSION) if kind == ".nii.gz" else content
        raise HTTPException(400, f"result_extension '{kind[:20]}': give .nrrd, .nii.gz or .nii")

    def response(self, params: InferParams, output: str) -> Response:
        """Returns the answer to a request.

        Args:
            params: What the client asked.
            output: "image" for the file alone, "json" for the parameters alone, "all" or "" for both in a form.

        Raises:
            HTTPException: The output is not known: 400.
        """
        if output == "json":
            return JSONResponse(self.params)
        if output not in OUTPUTS:
            raise HTTPException(400, f"output '{output[:20]}': give image, json or all")
        name, content = self.file(params)
        if output == "image":
            return Response(
                content, media_type=BINARY, headers={"Content-Disposition": f'attachment; filename="{name}"'}
            )
        return _form(self.params, name, content)


def _form(params: Mapping[str, Any], name: str, content: bytes) -> Response:
    """Returns a form of two parts (RFC 7578)."""
    boundary = secrets.token_hex(16)
    line = f"--{boundary}\r\nContent-Disposition: form-data; "
    parts = [
        f'{line}name="params"\r\nContent-Type: application/json\r\n\r\n'.encode(),
        to_json(params),
        f'\r\n{line}name="image"; filename="{name}"\r\nContent-Type: {BINARY}\r\n\r\n'.encode(),
        content,
        f"\r\n--{boundary}--\r\n".encode(),
    ]
    return Response(b"".join(parts), media_type=f"multipart/form-data; boundary={boundary}")
