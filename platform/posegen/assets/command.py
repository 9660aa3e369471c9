"""`posegen assets`: fetch and build the free assets, list, repair; convert a user's body file and his motion."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from posegen.assets.cache import cache_dir, replacing, sha256_of
from posegen.assets.catalogue import ASSETS, RECIPES
from posegen.assets.store import ensure, repair, state_of
from posegen.assets.wheels import WHEELS
from posegen.errors import AssetError, DataError
from posegen.files.results import free


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="posegen assets",
        description="Fetches and builds the free body, motion, dressed subjects and BlazePose weights (once, 190 MB "
        "of downloads, 47 MB kept). Offline afterwards.",
    )
    top.add_argument("--list", action="store_true", help="show what is there, and where")
    top.add_argument("--repair", action="store_true", help="make damaged or missing assets again")
    sub = top.add_subparsers(dest="action", metavar="import|motion")
    convert = sub.add_parser("import", help="convert an SMPL .pkl or .npz to a safe .npz, with its hash")
    convert.add_argument("file", type=Path)
    convert.add_argument("--out", type=Path, required=True, help="the .npz to write")
    pack = sub.add_parser(
        "motion", help="convert a folder of ASF/AMC, BVH, AMASS or SMPL poses into one file that mocap.path takes"
    )
    pack.add_argument("folder", type=Path)
    pack.add_argument("--out", type=Path, required=True, help="the .npz to write")
    pack.add_argument("--fps", type=float, default=15.0, help="frames a second to resample to (15)")
    pack.add_argument("--amc-fps", type=float, default=120.0, help="of .amc files, which do not say it (120)")
    pack.add_argument("--prefix", default="", help="put before the names of all clips")
    pack.add_argument("--credit", default="", help="where the motion comes from; kept in the file")
    for command in (convert, pack):
        command.add_argument("--overwrite", action="store_true", help="write over the file where it is there")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code. PosegenErrors are left to the caller."""
    args = parser().parse_args(argv)
    if args.action is not None:
        args.out = free(args.out, args.overwrite)
    if args.action == "import":
        digest = import_body(args.file, args.out)
        print(f"wrote {args.out}\n  sha256 {digest}\n  next: posegen run body.path={args.out}")
        return 0
    if args.action == "motion":
        clips, digest = pack_motion(args.folder, args.out, args.fps, args.amc_fps, args.prefix, args.credit)
        print(f"wrote {args.out}: {clips} clips\n  sha256 {digest}\n  next: posegen run mocap.path={args.out}")
        return 0
    if args.list:
        return show()
    if args.repair:
        repair(print)
    else:
        ensure(progress=print)
    print(f"all assets are ready in {cache_dir()}\n  next: posegen run")
    return 0


def show() -> int:
    """One line an asset; 0 when all are ready, else 1."""
    states = {name: state_of(name) for name in ASSETS}
    print(f"cache: {cache_dir()}")
    for name, asset in ASSETS.items():
        recipe = RECIPES[asset.recipe]
        file = cache_dir() / recipe.outputs[name]
        size = f"{file.stat().st_size / 1e6:6.1f} MB" if file.is_file() else " " * 9
        print(f"  {states[name]:9} {size}  {name:15} {asset.description}; from {WHEELS[recipe.wheel].requirement}")
    if all(state == "ready" for state in states.values()):
        return 0
    print("next: posegen assets --repair" if "damaged" in states.values() else "next: posegen assets")
    return 1


def import_body(file: Path, out: Path) -> str:
    """Writes a body file's numbers, and nothing else, to an .npz; returns its sha256."""
    from posegen.body.joint_sets import SMPL_PARENTS
    from posegen.body.smpl_files import read_arrays

    if out.suffix != ".npz":
        raise DataError(
            "the converted body is an .npz file", where=out, next_command=f"--out {out.with_suffix('.npz')}"
        )
    arrays = read_arrays(file)
    arrays["f"] = arrays.pop("faces").astype(np.uint32)
    arrays["kintree_table"] = np.stack([np.array([2**32 - 1, *SMPL_PARENTS[1:]], np.int64), np.arange(24)])
    try:
        with replacing(out.absolute()) as partial, partial.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
    except OSError as error:
        raise AssetError(f"the file cannot be written: {error.strerror or error}", where=out) from error
    return sha256_of(out)


def pack_motion(folder: Path, out: Path, fps: float, amc_fps: float, prefix: str, credit: str) -> tuple[int, str]:
    """Converts a folder of motion to SMPL poses in one file; returns how many clips, and the file's sha256."""
    from posegen.body.motion.folder import read_motions
    from posegen.body.motion.pack import write_pack

    if out.suffix != ".npz":
        raise DataError("a pack of motion is an .npz file", where=out, next_command=f"--out {out.with_suffix('.npz')}")
    if not (0 < fps <= 1000 and 0 < amc_fps <= 1000):
        raise DataError(f"frame rates of {fps:g} and {amc_fps:g} a second are not possible", where="--fps, --amc-fps")
    clips = read_motions(folder, fps=fps, amc_fps=amc_fps)
    clips = [replace(clip, name=prefix + clip.name) for clip in clips]
    try:
        return len(clips), write_pack(clips, out.absolute(), credit)
    except OSError as error:
        raise AssetError(f"the file cannot be written: {error.strerror or error}", where=out) from error
