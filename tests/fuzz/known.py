"""Files that were once the way to a crash, a hang, gigabytes or a foreign error, through the readers of today.

Their names begin with the reader that they broke; the endings tell how, and where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .format import Case, Format
from .pool import Ended, Trial, run

# What a name begins with -> the format whose reader it is for. Longer ones first, where one begins like another.
READERS = (
    ("3dhp_v5", "3dhp_train.mat"), ("3dhp_v7_3", "3dhp_test.mat"), ("3dpw", "3dpw.pkl"),
    ("HTTP_estimator_s_answer__json", "answer.json"), ("HTTP_estimator_s_answer__npz", "answer.npz"),
    ("J_regressor", "j_regressor.npy"), ("agora_MANO", "agora_ids.pkl"), ("agora_body_vertices", "vertices.npy"),
    ("agora_prediction", "agora_prediction.pkl"), ("agora_table", "agora.pkl"), ("agora_vertex_list", "vertices.npy"),
    ("amass", "amass.npz"), ("anerf__h5", "anerf.h5"), ("anerf__tar", "anerf.tar"), ("anerf_args", "anerf_args.txt"),
    ("auth_token", "token.txt"), ("embedded_set", "embedded.npz"), ("emdb", "emdb.pkl"),
    ("fit_picture", "view_picture.png"), ("fit_views", "views.npz"), ("fitted_field", "field.npz"),
    ("gallery", "gallery.npz"), ("h36m__cdf", "h36m.cdf"), ("h36m_masks", "h36m_masks.mat"),
    ("history", "history.jsonl"), ("hmr2", "hmr2.npz"), ("hybrik", "hybrik.pth"), ("mean_params", "mean_params.npz"),
    ("photo", "photo.jpg"), ("picture", "picture.png"), ("result", "result.parquet"), ("run_config", "config.yaml"),
    ("shard__parquet", "shard.parquet"), ("shard_manifest", "manifest.json"), ("ski_labels", "ski.h5"),
    ("smpl_npz", "smpl.npz"), ("smpl_pkl", "smpl.pkl"), ("spin_3dpw", "spin_3dpw.npz"), ("spin__npz", "spin.npz"),
    ("spin__pt", "checkpoint.pt"), ("split", "split.yaml"), ("stage_marker", "marker.json"),
    ("subjects", "subjects.npz"), ("surreal__info", "surreal_info.mat"), ("surreal__segm", "surreal_segm.mat"),
    ("sweep", "sweep.yaml"), ("weights", "weights.npz"),
)  # fmt: skip


def format_of(name: str, formats: Mapping[str, Format]) -> str | None:
    """The format that a file is for: by its reader of then, or by a finding's name, which begins with the format."""
    own = [form for form in formats if name.startswith(f"{form}_")]
    return max(own, key=len, default=None) or next((form for start, form in READERS if name.startswith(start)), None)


def read_again(formats: Mapping[str, Format], files: Sequence[tuple[str, bytes]]) -> list[tuple[str, Ended]]:
    """Each file with how its reader ends. KeyError for one whose name says no reader."""
    trials = []
    for number, (name, content) in enumerate(files):
        form = format_of(name, formats)
        if form is None:
            raise KeyError(name)
        trials.append(Trial(Case(form, 0, number), content=content))
    ended = {other.trial.case.number: other for other in run(formats, trials)}
    return [(name, ended[number]) for number, (name, _) in enumerate(files)]


def folder_again(formats: Mapping[str, Format], folder: Path) -> int:
    """Prints how the files of a folder end; the exit status."""
    files = [(path.name, path.read_bytes()) for path in sorted(folder.iterdir()) if path.is_file()]
    told = read_again(formats, [file for file in files if format_of(file[0], formats) is not None])
    for name, ended in told:
        print(f"{ended.outcome.kind:9}{ended.seconds:7.2f} s  {name}  {ended.outcome.text.splitlines()[:1]}")
    wrong = sum(not ended.outcome.right for _, ended in told)
    print(f"{len(told)} files, {wrong} wrong")
    return 1 if wrong else 0
