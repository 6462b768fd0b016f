"""A client of a Triton server: KServe's protocol, version 2, over HTTP, with Triton's extension for binary tensors.

A request is JSON that describes the tensors, followed by their bytes. NVIDIA's own client, whose newer releases need
other versions of ml-dtypes or grpcio than this project has, sends the same.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Array, Floats, slices
from recsys_assets.stores.store import StoreError
from recsys_assets.stores.triton.config import MAX_BATCH

if TYPE_CHECKING:
    import httpx

HEAD = "Inference-Header-Content-Length"  # the bytes of JSON in front of the tensors
_KINDS = {"int64": "INT64", "float32": "FP32", "object": "BYTES"}


class TritonRefused(StoreError):
    """Triton answered that it cannot do what it was asked; the message has its reason."""


class TritonClient:
    """One pool of connections to a server; it is opened at the first request, and belongs to one process.

    Every method raises `TritonRefused`, or an `httpx.HTTPError` when the server does not answer in time.

    Args:
        url: of the server, such as `http://127.0.0.1:8500`.
        seconds: that connecting, sending and each wait for an answer may take.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self._url, self._seconds = url, seconds
        self._opened: httpx.Client | None = None

    def close(self) -> None:
        """Close the connections."""
        if self._opened:
            self._opened.close()
        self._opened = None

    def fresh(self) -> "TritonClient":
        """A client of the same server with connections of its own, for a process that was copied from this one."""
        return TritonClient(self._url, self._seconds)

    def infer(self, model: str, version: int | None, feed: Mapping[str, Array], output: str) -> Floats:
        """(N, D) an output for N rows of raw features (`features/raw.py`), in requests of at most `MAX_BATCH` rows.

        Args:
            model: its name.
            version: its number; None: the live one.
            feed: the inputs, as onnxruntime takes them.
            output: its name.
        """
        rows = len(next(iter(feed.values())))
        path = f"/v2/models/{model}{f'/versions/{version}' if version else ''}/infer"
        parts = [
            self._infer(path, {name: each[block] for name, each in feed.items()}, output)
            for block in slices(rows, MAX_BATCH)
        ]
        return np.concatenate(parts)

    def load(self, model: str) -> None:
        """Load a model, or those of its versions that its configuration names now; the others leave afterwards."""
        self._post(f"/v2/repository/models/{model}/load", b"{}", {})

    def unload(self, model: str) -> None:
        """Unload all versions of a model."""
        self._post(f"/v2/repository/models/{model}/unload", b"{}", {})

    def _infer(self, path: str, feed: Mapping[str, Array], output: str) -> Floats:
        parts = {name: _wire(column) for name, column in feed.items()}
        inputs = [
            {
                "name": name,
                "shape": [len(column), *(column.shape[1:] or [1])],
                "datatype": _KINDS[column.dtype.name],
                "parameters": {"binary_data_size": len(parts[name])},
            }
            for name, column in feed.items()
        ]
        wanted = [{"name": output, "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": inputs, "outputs": wanted}).encode()
        answer = self._post(path, b"".join([head, *parts.values()]), {HEAD: str(len(head))})
        size = int(answer.headers[HEAD])
        (described,) = json.loads(answer.content[:size])["outputs"]
        found: Floats = np.frombuffer(answer.content, np.float32, offset=size).reshape(described["shape"])
        return found

    def _post(self, path: str, content: bytes, headers: Mapping[str, str]) -> "httpx.Response":
        import httpx

        if self._opened is None:
            # A proxy of the environment is for the outside.
            self._opened = httpx.Client(base_url=self._url, timeout=self._seconds, trust_env=False)
        answer = self._opened.post(path, content=content, headers=headers)
        if answer.status_code != httpx.codes.OK:
            raise TritonRefused(f"Triton refused {path}: {_reason(answer)}")
        return answer


def _reason(answer: "httpx.Response") -> str:
    """The reason in an answer that is an error."""
    try:
        content: Any = answer.json()
        return str(content["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


def _wire(column: Array) -> bytes:
    """The bytes of a tensor; a text is its length in four bytes, little-endian, and then its own bytes in UTF-8."""
    if column.dtype != object:
        return np.ascontiguousarray(column).tobytes()
    texts = pa.array(column.ravel(), pa.string()).cast(pa.binary())
    sizes = np.array(texts.buffers()[1]).view(np.int32)[: len(texts) + 1] if len(texts) else np.zeros(1, np.int32)
    starts, lengths = sizes[:-1] + 4 * np.arange(len(texts)), np.diff(sizes).astype("<u4")
    made = np.empty(4 * len(texts) + int(sizes[-1]), np.uint8)
    is_text, places = np.ones(len(made), bool), starts[:, None] + np.arange(4)
    is_text[places] = False
    made[places] = lengths.view(np.uint8).reshape(-1, 4)
    made[is_text] = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[: sizes[-1]]
    return made.tobytes()
