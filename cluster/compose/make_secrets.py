"""Writes cluster/compose/.env with random secrets, readable by this user alone, and the Ray token beside it.

An .env that exists is left as it is: PostgreSQL and the S3 store keep the passwords they were started with.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from pathlib import Path

HERE = Path(__file__).parent


def fill(example: str) -> str:
    """The example's lines, each empty value replaced by 256 random bits (hexadecimal: safe in URLs and shells)."""
    lines = []
    for line in example.splitlines():
        name, equals, value = line.partition("=")
        given = line.startswith("#") or not equals or value
        lines.append(line if given else f"{name}={secrets.token_hex(32)}")
    return "\n".join(lines) + "\n"


def write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--into", type=Path, default=HERE, help="folder to write to")
    into = parser.parse_args().into
    env, token = into / ".env", into / "auth_token"
    if env.exists():
        raise SystemExit(f"{env} exists and is kept; delete it, and the compose volumes, to begin anew")
    text = fill((HERE / "env.example").read_text())
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    write_private(env, text)
    token.unlink(missing_ok=True)
    write_private(token, values["RAY_AUTH_TOKEN"])
    sys.stdout.write(
        f"wrote {env} and {token}\n"
        f"  docker compose -f {HERE / 'compose.yaml'} --env-file {env} up --build\n"
        f"  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={token}\n"
        "  posegen submit run experiment=quickstart run.outputs=/outputs --address http://127.0.0.1:8265\n"
    )


if __name__ == "__main__":
    main()
