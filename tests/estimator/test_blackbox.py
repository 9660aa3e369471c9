"""Estimators without gradients: callables, a real HTTP service on the local machine, ONNX files."""

from __future__ import annotations

import base64
import io
import json
import sys
import threading
import time
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from posegen.errors import CheckpointError, ConfigError, DataError
from posegen.estimator import build, save_checkpoint
from posegen.scene import Estimator


def joints_of(images: np.ndarray) -> np.ndarray:
    """Joint j of image b at (mean of the red channel, j / 10, 1)."""
    joints = np.zeros((len(images), 24, 3))
    joints[..., 0] = images[:, 0].mean((1, 2))[:, None] * np.arange(24)
    joints[..., 1] = np.arange(24) / 10
    joints[..., 2] = 1
    return joints


def images(batch: int = 2, size: int = 16) -> torch.Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def expected(pixels: torch.Tensor) -> torch.Tensor:
    joints = torch.from_numpy(joints_of(pixels.numpy())).float()
    return joints - joints[:, :1]


def test_a_callable_is_resized_centred_and_not_differentiable():
    seen = []

    def function(pixels):
        seen.append(pixels.shape)
        return joints_of(pixels)

    estimator = build("callable", function=function, image_size=8)
    pixels = torch.full((2, 3, 16, 16), 0.25)
    prediction = estimator(pixels.requires_grad_())
    assert isinstance(estimator, Estimator)
    assert not estimator.differentiable
    assert seen == [(2, 3, 8, 8)]
    assert prediction.joint_set == "smpl24"
    assert not prediction.joints.requires_grad
    assert torch.allclose(prediction.joints, expected(torch.full((2, 3, 8, 8), 0.25)), atol=1e-5)


def test_a_callable_by_import_path(monkeypatch):
    module = types.ModuleType("my_estimator")
    module.predict, module.number = joints_of, 3
    monkeypatch.setitem(sys.modules, "my_estimator", module)
    estimator = build("callable", function="my_estimator:predict", image_size=16)
    assert torch.allclose(estimator(images()).joints, expected(images()), atol=1e-5)
    with pytest.raises(ConfigError, match="not callable"):
        build("callable", function="my_estimator:number")
    with pytest.raises(ConfigError, match="cannot import 'my_estimator:other'"):
        build("callable", function="my_estimator:other")
    with pytest.raises(ConfigError, match="cannot import"):
        build("callable", function="no_such_package_at_all.f")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (np.zeros((2, 17, 3)), r"\(2, 17, 3\) instead of \(2, 24, 3\)"),
        (np.full((2, 24, 3), np.nan), "not finite"),
        (np.arange(144.0).reshape(2, 24, 3) * 10, "not the metre"),
        ("joints", "instead of numbers"),
    ],
)
def test_answers_that_make_no_sense_are_named(answer, text):
    with pytest.raises(DataError, match=text):
        build("callable", function=lambda _: answer)(images())


def test_millimetres_are_scaled():
    metres = build("callable", function=joints_of)(images())
    estimator = build("callable", function=lambda x: joints_of(x) * 1000, scale_m=0.001)
    assert torch.allclose(estimator(images()).joints, metres.joints, atol=1e-5)


class Service(BaseHTTPRequestHandler):
    """Answers as the path says."""

    failures = 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/slow":
            time.sleep(1.0)
        if self.path == "/broken":
            return self.reply(500, b"out of memory")
        if self.path == "/nonsense":
            return self.reply(200, b"<html>")
        if self.path == "/flaky":
            type(self).failures += 1
            if type(self).failures < 3:
                return self.reply(503, b"starting")
        if self.path == "/json":
            pictures = [Image.open(io.BytesIO(base64.b64decode(t))) for t in json.loads(body)["images"]]
            pixels = np.stack([np.asarray(p).transpose(2, 0, 1) / 255 for p in pictures])
            return self.reply(200, json.dumps({"joints": joints_of(pixels).tolist()}).encode())
        with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
            buffer = io.BytesIO()
            np.savez(buffer, joints=joints_of(arrays["images"]))
        return self.reply(200, buffer.getvalue())

    def reply(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        return


@pytest.fixture(scope="module")
def service():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_http_service_in_both_formats(service):
    pixels = (images() * 255).round() / 255
    for path, kind in (("/npz", "npz"), ("/json", "json"), ("/flaky", "npz")):
        estimator = build("http", url=service + path, image_size=16, format=kind)
        assert torch.allclose(estimator(pixels).joints, expected(pixels), atol=1e-5)


def test_http_failures_are_explained(service):
    def ask(path, **options):
        return build("http", url=service + path, image_size=16, retries=0, **options)(images())

    with pytest.raises(DataError, match="answered 500: out of memory"):
        ask("/broken")
    with pytest.raises(DataError, match="not npz with `joints`"):
        ask("/nonsense")
    with pytest.raises(DataError, match="not json with `joints`"):
        ask("/nonsense", format="json")
    with pytest.raises(DataError, match="did not answer within"):
        ask("/slow", timeout_s=0.2)
    with pytest.raises(DataError, match="not reachable"):
        build("http", url="http://127.0.0.1:9", image_size=16, retries=0)(images())
    with pytest.raises(ConfigError, match="not an HTTP address"):
        build("http", url="file:///etc/hosts")
    with pytest.raises(ConfigError, match="unknown format"):
        build("http", url=service, format="pickle")


def test_onnx_needs_the_file_and_the_runtime(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="no such ONNX file"):
        build("onnx", checkpoint=tmp_path / "none.onnx")
    path = tmp_path / "x.onnx"
    path.write_bytes(b"onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match="pip install onnxruntime"):
        build("onnx", checkpoint=path)


def test_onnx_session_is_fed_normalised_images(tmp_path, monkeypatch):
    fed = {}

    class Session:
        def __init__(self, path, providers):
            fed["path"] = path

        def get_inputs(self):
            return [types.SimpleNamespace(name="image")]

        def get_outputs(self):
            return [types.SimpleNamespace(name="heat"), types.SimpleNamespace(name="joints")]

        def run(self, outputs, feeds):
            fed.update(outputs=outputs, image=feeds["image"])
            return [joints_of(feeds["image"] * 0.5 + 0.5).reshape(len(feeds["image"]), -1)]

    runtime = types.ModuleType("onnxruntime")
    runtime.InferenceSession = Session
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    path = tmp_path / "x.onnx"
    path.write_bytes(b"onnx")
    options = {"checkpoint": path, "image_size": 16, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    estimator = build("onnx", output="joints", **options)
    assert torch.allclose(estimator(images()).joints, expected(images()), atol=1e-5)
    assert fed["outputs"] == ["joints"]
    assert np.allclose(fed["image"], (images().numpy() - 0.5) / 0.5, atol=1e-6)
    with pytest.raises(ConfigError, match="no output 'pose'"):
        build("onnx", output="pose", **options)


def test_there_is_nothing_to_save(tmp_path):
    with pytest.raises(CheckpointError, match="no weights to save"):
        save_checkpoint(build("callable", function=joints_of), tmp_path / "x.pt")
