"""What clients get: label maps as files, alone or in a form with parameters."""

import gzip
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from medseg.io.nifti.writer import nifti_bytes
from medseg.io.nrrd.writer import COMPRESSION, nrrd_bytes
from medseg.serve.monai_label.uploads import InferParams
from medseg.volume import Geometry, LabelMap

BINARY = "application/octet-stream"
DTYPES = {"uint8": np.uint8, "uint16": np.uint16}
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
        """Returns the name and the content of a file, in the format and the type that the client asks for.

        Of its voxels OHIF takes the bytes as that type. It is a wider one only where the values need that.

        Raises:
            HTTPException: It is none of NRRD and NIfTI: 400.
        """
        needed = np.min_scalar_type(self.label_map.max(initial=0))
        array = self.label_map.astype(np.promote_types(needed, DTYPES.get(params.result_dtype, np.uint8)))
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
            return attached(content, name)
        return _form(self.params, name, content)


def attached(content: bytes, name: str) -> Response:
    """Returns an answer that is a file.

    Args:
        content: Of the file.
        name: Of the file, in any letters (RFC 6266).
    """
    quoted = quote(name)
    told = f'filename="{name}"' if quoted == name else f"filename*=utf-8''{quoted}"
    return Response(content, media_type=BINARY, headers={"Content-Disposition": f"attachment; {told}"})


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
