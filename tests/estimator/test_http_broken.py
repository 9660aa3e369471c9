"""A service that dies in its answer, or that is no HTTP service at all: tried again, then told with its address."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from posegen.errors import DataError
from posegen.estimator.http_client import HttpClient

IMAGES = np.zeros((1, 3, 8, 8), np.float32)
JOINTS = np.arange(72.0).reshape(1, 24, 3)


def good() -> bytes:
    body = io.BytesIO()
    np.savez(body, joints=JOINTS)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body.getvalue()) + body.getvalue()


@pytest.fixture
def serve() -> Iterator[Callable[[list[bytes]], str]]:
    """Answers one connection after the other with given bytes; b"" closes at once."""
    sockets: list[socket.socket] = []

    def start(answers: list[bytes]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def work() -> None:
            for answer in answers:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    held = b""
                    while b"PK\x05\x06" not in held:  # the end of the request's npz
                        held += connection.recv(65536)
                    connection.sendall(answer)

        threading.Thread(target=work, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/pose"

    yield start
    for listener in sockets:
        listener.close()


CUT = {
    "no HTTP service": b"SSH-2.0-OpenSSH_9.6\r\n",
    "closed the connection without an answer": b"",
    "broke off its answer after 20 bytes, ": good()[: good().index(b"\r\n\r\n") + 24],
    "broke off its answer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nabc",
    "answered what is no HTTP": b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("told", CUT)
def test_a_broken_answer_is_tried_again_and_then_told(serve, told, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    url = serve([CUT[told]] * 3)
    with pytest.raises(DataError, match=f"{told}(.|\n)*tried 3 times") as caught:
        HttpClient(url, timeout_s=5, retries=2)(IMAGES)
    assert caught.value.where == url and "estimator.options.url" in str(caught.value.next_command)
    url = serve([CUT[told], CUT[told], good()])
    np.testing.assert_array_equal(HttpClient(url, timeout_s=5, retries=2)(IMAGES), JOINTS)


def test_an_answer_that_is_whole_and_wrong_is_not_asked_for_again(serve):
    url = serve([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", good()])
    with pytest.raises(DataError, match="not npz with `joints`"):
        HttpClient(url, timeout_s=5, retries=2)(IMAGES)
