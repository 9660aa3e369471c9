"""PoseGen on Ray: find and fix the blind spots of a 3D human pose estimator.

The names below are what a script of one's own needs; each has a runnable example in its docstring. They are imported
when they are first asked for, so `import posegen` is cheap.

    import posegen

    estimator = posegen.build_estimator("hmr_small")
    benchmark = posegen.build_benchmark("ski-like", images=16)
    print(posegen.evaluate(estimator, benchmark).metrics["mpjpe_mm"])
"""

from typing import TYPE_CHECKING

from posegen.lazy import lazily

if TYPE_CHECKING:
    from posegen.benchmarks.measure.evaluate import evaluate
    from posegen.benchmarks.protocol import build as build_benchmark
    from posegen.body.cameras import look_at_camera
    from posegen.body.joint_sets import joint_set
    from posegen.body.model import load_body
    from posegen.body.subjects import load_subjects
    from posegen.config.compose import compose
    from posegen.estimator import build as build_estimator
    from posegen.renderer.field.artifact import load_field as load_renderer
    from posegen.scene import Camera, Light, Prediction, Scene
    from posegen.shards.reader import read_shards

__version__ = "0.1.0"
__all__ = [
    "Camera", "Light", "Prediction", "Scene", "build_benchmark", "build_estimator", "compose", "evaluate", "joint_set",
    "load_body", "load_renderer", "load_subjects", "look_at_camera", "read_shards",
]  # fmt: skip

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Camera": "posegen.scene",
        "Light": "posegen.scene",
        "Prediction": "posegen.scene",
        "Scene": "posegen.scene",
        "build_benchmark": "posegen.benchmarks.protocol:build",
        "build_estimator": "posegen.estimator:build",
        "compose": "posegen.config.compose",
        "evaluate": "posegen.benchmarks.measure.evaluate",
        "joint_set": "posegen.body.joint_sets",
        "load_body": "posegen.body.model",
        "load_renderer": "posegen.renderer.field.artifact:load_field",
        "load_subjects": "posegen.body.subjects",
        "look_at_camera": "posegen.body.cameras",
        "read_shards": "posegen.shards.reader",
    },
)
