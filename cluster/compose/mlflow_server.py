"""Starts the MLflow server with a login: writes its auth file from the environment, then becomes the server."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

CONFIG = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {database}
admin_username = {user}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


def command(hosts: str) -> list[str]:
    return [
        "mlflow", "server", "--app-name", "basic-auth", "--host", "0.0.0.0", "--port", "5000",
        "--allowed-hosts", hosts, "--serve-artifacts",
    ]  # fmt: skip


def main() -> None:
    for name in ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_BACKEND_STORE_URI"):
        if not os.environ.get(name):
            raise SystemExit(f"{name} is empty: run python cluster/compose/make_secrets.py")
    path = Path(tempfile.mkdtemp()) / "auth.ini"  # mkdtemp: nobody else can enter
    database = os.environ["MLFLOW_BACKEND_STORE_URI"].replace("%", "%%")  # configparser's own use of %
    path.write_text(CONFIG.format(database=database, user=os.environ.get("MLFLOW_ADMIN_USERNAME", "posegen")))
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(path)
    line = command("mlflow:5000,localhost:5000,127.0.0.1:5000")
    os.execvp(line[0], line)


if __name__ == "__main__":
    main()
