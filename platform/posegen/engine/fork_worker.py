"""What a raylet starts where it would start Ray's setup_worker.py: asks the fork server for the worker, and ends.

Run as a script, with the standard library alone: it starts in hundredths of a second, while Ray's own two scripts
import ray twice. The worker is a child of the fork server (posegen.engine.fork_server), with this process's arguments,
environment, folder, open files and priority. Where that cannot be, Ray's script takes over in this process.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import sys

SOCKET, PLAIN = "_FORK_SERVER_SOCKET", "_FORK_SERVER_PLAIN"  # variables: where to ask, and Ray's own script
CONTEXT, LANGUAGE = "--serialized-runtime-env-context=", "--language="
LENGTH_BYTES = 8
CONNECT_S = 20.0


def request_of(words: list[str], plain: str) -> dict[str, object] | None:
    """What the fork server is asked for; None where a runtime environment wants more than variables.

    Args:
        plain: Ray's own script, which the words are for.
    """
    context: dict[str, object] = {}
    language, passed = "PYTHON", []
    for word in words:
        if word.startswith(CONTEXT):
            context = json.loads(word.removeprefix(CONTEXT) or "{}")
        elif word.startswith(LANGUAGE):
            language = word.removeprefix(LANGUAGE)
        else:
            passed.append(word)
    executable = context.get("py_executable") or sys.executable
    if language != "PYTHON" or context.get("command_prefix") or context.get("override_worker_entrypoint"):
        return None
    if executable != sys.executable or not passed:
        return None
    environment = {name: value for name, value in os.environ.items() if name not in (SOCKET, PLAIN)}
    return {
        "words": passed,
        "plain": [plain, *words],
        "environment": environment,
        "variables": context.get("env_vars") or {},
        "folder": os.getcwd(),
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
    }


def hand_over(request: dict[str, object], place: str) -> None:
    """Sends a request with this process's standard streams; OSError where nobody takes it."""
    body = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.settimeout(CONNECT_S)
        server.connect(place)
        streams = array.array("i", [0, 1, 2])
        first = len(body).to_bytes(LENGTH_BYTES, "big")
        server.sendmsg([first], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        server.sendall(body)


def main(words: list[str]) -> None:
    place, plain = os.environ.get(SOCKET), os.environ[PLAIN]
    request = request_of(words, plain) if place else None
    if place and request is not None:
        try:
            hand_over(request, place)
            return
        except OSError as error:
            print(f"the fork server does not answer ({error}): this worker is started by itself", file=sys.stderr)
    os.execv(sys.executable, [sys.executable, plain, *words])


if __name__ == "__main__":
    main(sys.argv[1:])
