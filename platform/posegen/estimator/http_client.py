"""Asks an HTTP service for joints.

Request: POST, body a numpy .npz with `images` (B,3,S,S) float32 in [0,1] (format "npz"), or JSON
{"images": [base64 PNG, ...]} (format "json"). Answer: .npz with `joints` (B,J,3), or JSON {"joints": [[[x,y,z],...]]}.
Nothing is unpickled. The service is the one whose address the user gives; no proxy is used for the local machine.
urllib3's Retry is not used: the core needs no HTTP package, and what to say differs with what went wrong (too slow,
broken off, not there).
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from posegen.errors import ConfigError, DataError
from posegen.files.arrays import read_npz
from posegen.files.guard import Told, decoding
from posegen.proxies import opener

FORMATS = ("npz", "json")
MAX_ANSWER_BYTES = 256 * 1024 * 1024


class HttpClient:
    """A function from images to the service's joints.

    Args:
        url: http or https.
        timeout_s: for each attempt.
        format: "npz" or "json".
        retries: further attempts when the service is not reachable, breaks off its answer, or answers 502, 503 or 504.
    """

    def __init__(self, url: str, timeout_s: float = 30.0, format: str = "npz", retries: int = 2) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"not an HTTP address: {url!r}", choices=("http://HOST:PORT/PATH", "https://HOST/PATH"))
        if format not in FORMATS:
            raise ConfigError(f"unknown format {format!r} of the HTTP estimator", choices=FORMATS)
        if timeout_s <= 0 or retries < 0:
            raise ConfigError(f"timeout_s must be positive and retries not negative: {timeout_s}, {retries}")
        self.url = url
        self.timeout_s = timeout_s
        self.format = format
        self.retries = retries
        self._opener = opener(url)  # no proxy to this machine

    def __reduce__(self):  # the opener does not travel between processes
        return (HttpClient, (self.url, self.timeout_s, self.format, self.retries))

    def __call__(self, images: NDArray[np.float32]) -> NDArray[Any]:
        body, kind = encode(images, self.format)
        request = urllib.request.Request(self.url, body, {"Content-Type": kind}, method="POST")
        for attempt in range(self.retries + 1):
            last = attempt == self.retries
            try:
                return self.decoded(self._answer(request))
            except urllib.error.HTTPError as error:
                if last or error.code not in (502, 503, 504):
                    text = error.read(500).decode("utf-8", "replace").strip()
                    raise DataError(f"the estimator's service answered {error.code}: {text}", where=self.url) from error
            except TimeoutError as error:
                if last:
                    raise self._too_slow() from error
            except http.client.HTTPException as error:  # RemoteDisconnected is one, too
                if last:
                    raise self._broken(error) from error
            except (urllib.error.URLError, ConnectionError) as error:
                if last:
                    if isinstance(getattr(error, "reason", None), TimeoutError):
                        raise self._too_slow() from error
                    raise DataError(
                        f"the estimator's service is not reachable: {getattr(error, 'reason', error)}",
                        where=self.url,
                        next_command="start the service, or correct estimator.options.url",
                    ) from error
            time.sleep(0.2 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _answer(self, request: urllib.request.Request) -> bytes:
        """The whole answer. IncompleteRead where it ends before the length that it announced."""
        with self._opener.open(request, timeout=self.timeout_s) as answer:
            content = answer.read(MAX_ANSWER_BYTES + 1)
            announced = answer.headers.get("Content-Length", "")
        missing = int(announced[:18]) - len(content) if announced.isascii() and announced.isdigit() else 0
        if missing > 0 and len(content) <= MAX_ANSWER_BYTES:  # http.client says so of chunks alone
            raise http.client.IncompleteRead(content, missing)
        return content

    def _broken(self, error: http.client.HTTPException) -> DataError:
        if isinstance(error, http.client.IncompleteRead):
            missing = "" if error.expected is None else f", {error.expected} bytes before its end"
            what = f"the estimator's service broke off its answer after {len(error.partial)} bytes{missing}"
        elif isinstance(error, http.client.RemoteDisconnected):
            what = "the estimator's service closed the connection without an answer"
        elif isinstance(error, http.client.BadStatusLine):
            what = f"what answers at this address is no HTTP service: {str(error)[:60]!r}"
        else:
            what = f"the estimator's service answered what is no HTTP: {type(error).__name__} {str(error)[:80]}"
        return DataError(
            f"{what} (tried {self.retries + 1} times)", where=self.url,
            next_command="see the service's own log, or correct estimator.options.url",
        )  # fmt: skip

    def _too_slow(self) -> DataError:
        return DataError(
            f"the estimator's service did not answer within {self.timeout_s:g} s",
            where=self.url,
            next_command="estimator.options.timeout_s=120",
        )

    def decoded(self, content: bytes) -> NDArray[Any]:
        """The joints in an answer; DataError where it holds none, or some that are not finite."""
        if len(content) > MAX_ANSWER_BYTES:
            raise DataError("the service's answer is longer than 256 MB", where=self.url)
        try:
            if self.format == "npz":
                return read_npz(content, ("joints",), what="the answer", where=self.url)["joints"]
            with decoding(Told("the answer", self.url)):
                joints = np.asarray(json.loads(content)["joints"], np.float64)
            if not np.isfinite(joints).all():
                raise DataError("the answer's joints are not all finite", where=self.url)
            return joints
        except DataError as error:
            raise DataError(
                f"the service's answer is not {self.format} with `joints`: {error.what}",
                where=self.url,
                choices=FORMATS,
            ) from error


def encode(images: NDArray[np.float32], format: str) -> tuple[bytes, str]:
    """Images (B,3,S,S) in [0,1] as a request's body and its content type."""
    if format == "npz":
        buffer = io.BytesIO()
        np.savez(buffer, images=images)
        return buffer.getvalue(), "application/octet-stream"
    encoded = []
    for image in images:
        pixels = (image.transpose(1, 2, 0).clip(0, 1) * 255).round().astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        encoded.append(base64.b64encode(buffer.getvalue()).decode("ascii"))
    return json.dumps({"images": encoded}).encode(), "application/json"
