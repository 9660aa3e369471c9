"""BlazePose GHUM (Bazarevsky et al. 2020; Apache-2.0) as a torch module that can be trained, from its TFLite file.

Input: 256 px RGB crop in [0,1]. Output used here: 33 world landmarks in metres, origin between the hips, x right,
y down, z away from the camera: OpenCV's axes, so nothing is flipped.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from posegen.body.joint_sets import BLAZEPOSE33
from posegen.errors import CheckpointError, ConfigError
from posegen.estimator.base import TrainableEstimator
from posegen.estimator.crop import DECLARED, CropConvention
from posegen.estimator.preprocess import resize
from posegen.estimator.tflite_graph import TfliteGraph, read_tflite
from posegen.estimator.tflite_module import TfliteModule
from posegen.scene import Prediction

IMAGE_SIZE = 256
LANDMARKS = 39  # 33 of the body, then 6 auxiliary ones
MODELS = ("lite", "full", "heavy")
OUTPUT_SHAPES = {
    "landmarks": (1, 5 * LANDMARKS),  # x, y, z px of the crop, visibility and presence logits
    "flag": (1, 1),  # a person is there
    "segmentation": (1, 256, 256, 1),
    "heatmap": (1, 64, 64, LANDMARKS),
    "world": (1, 3 * LANDMARKS),
}


def named_outputs(graph: TfliteGraph) -> dict[str, int]:
    """Tensor numbers of BlazePose's five outputs, told apart by their shapes.

    Raises:
        CheckpointError: the file is of another model (a detector, another landmark model, another joint count).
    """
    by_shape = {graph.shapes[number]: number for number in graph.outputs}
    missing = [name for name, shape in OUTPUT_SHAPES.items() if shape not in by_shape]
    if missing or graph.shapes[graph.inputs[0]] != (1, IMAGE_SIZE, IMAGE_SIZE, 3):
        found = ", ".join(str(graph.shapes[number]) for number in (*graph.inputs, *graph.outputs))
        raise CheckpointError(
            f"not a BlazePose landmark model: no output for {', '.join(missing) or 'its input'}; it has {found}",
            where=graph.path,
            choices=[f"pose_landmark_{model}.tflite" for model in MODELS],
        )
    return {name: by_shape[shape] for name, shape in OUTPUT_SHAPES.items()}


def features_before(graph: TfliteGraph, output: int) -> int:
    """Tensor number of the map from which the last convolution before a flat output is computed."""
    makers = {operation.output: operation for operation in graph.operations}
    operation = makers[output]
    while operation.kind != "CONV_2D":
        operation = makers[operation.inputs[0]]
    return operation.inputs[0]


def as_it_looks(images: Tensor) -> Tensor:
    """images (B,3,S,S) -> (B,3,256,256), laid out as its convolutions are quick."""
    return resize(images, IMAGE_SIZE).contiguous(memory_format=torch.channels_last)


class BlazePose(TrainableEstimator):
    """BlazePose behind the estimators' protocol.

    Args:
        graph: of a pose_landmark_*.tflite.
        outputs: which of OUTPUT_SHAPES to compute in `raw`; only these branches are trainable.
        fixed_above_px: what makes maps larger than this is not trained; None trains all of the branches.
    """

    name = "blazepose"
    joint_set = BLAZEPOSE33.name
    image_size = IMAGE_SIZE
    # BatchNorm is folded into the weights, so channels differ by orders of magnitude: an absolute rate large enough to
    # teach anything destroys some of them.
    optimiser = "relative_adam"
    learning_rate = 3e-4
    guard_every = 20

    def __init__(
        self, graph: TfliteGraph, outputs: tuple[str, ...] = ("world",), fixed_above_px: int | None = None
    ) -> None:
        super().__init__()
        numbers = named_outputs(graph)
        for output in outputs:
            if output not in numbers:
                raise ConfigError(f"BlazePose has no output {output!r}", choices=numbers)
        self.graph = graph
        self.computed = tuple(outputs)
        try:
            self.network = TfliteModule(graph, [numbers[output] for output in outputs], fixed_above_px)
            self.network.check()
        except (RuntimeError, LookupError, ValueError, TypeError) as error:
            raise CheckpointError("the operators of the TFLite file do not fit each other", where=graph.path) from error
        except CheckpointError as error:
            raise CheckpointError(error.what, where=graph.path, choices=error.choices) from error

    @property
    def crop(self) -> CropConvention:
        return DECLARED["blazepose"]

    def raw(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B,3,256,256) in [0,1] -> the outputs chosen, (B,...) as in OUTPUT_SHAPES, maps as (B,C,H,W)."""
        return dict(zip(self.computed, self.network(images), strict=True))

    def predict(self, images: Tensor) -> Prediction:
        world = self.raw(as_it_looks(images))["world"].reshape(-1, LANDMARKS, 3)[:, : len(BLAZEPOSE33)]
        return Prediction(BLAZEPOSE33.centred(world), self.joint_set)

    def write_tflite(self, path: str | Path) -> Path:
        """The current weights in the original's own format: runs in MediaPipe.

        Weights are rounded to fp16 there, which can move the landmarks of a tuned model by some millimetres; files
        of save_checkpoint keep all digits.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.graph.written_with(self.network.constants(self.graph)))
        return path


def blazepose(
    checkpoint: str | Path | None = None,
    model: str = "full",
    model_file: str | Path | None = None,
    fixed_above_px: int | None = None,
) -> BlazePose:
    """Builds the estimator.

    Args:
        checkpoint: a .tflite file, or weights that save_checkpoint wrote. None takes the model's own weights.
        model: "full" comes with `posegen assets`; "lite" and "heavy" need `model_file`.
        model_file: pose_landmark_<model>.tflite, which also gives the architecture.
        fixed_above_px: 32 leaves what sees edges, in maps of 64 px and more, as it is: quicker, but it learned less
            where both were tried. None trains all.
    """
    if model not in MODELS:
        raise ConfigError(f"unknown BlazePose model {model!r}", choices=MODELS)
    if checkpoint is not None and Path(checkpoint).suffix == ".tflite":
        model_file, checkpoint = checkpoint, None
    if model_file is None:
        if model != "full":
            raise ConfigError(
                f"BlazePose {model} is not among the assets: give its file",
                next_command=f"estimator.options.model_file=PATH/pose_landmark_{model}.tflite",
            )
        from posegen.assets import asset_path

        model_file = asset_path("blazepose_full")
    estimator = BlazePose(read_tflite(model_file), fixed_above_px=fixed_above_px)
    if checkpoint is not None:
        estimator.load(checkpoint)
    return estimator.eval()
