"""A world small enough for unit tests: the real body and mocap, a soft-splat renderer, a linear estimator."""

import torch

from posegen.body.joint_sets import SMPL24
from posegen.body.model import load_body
from posegen.body.rotations import aa_to_matrix
from posegen.renderer.surroundings.backgrounds import Backgrounds
from posegen.renderer.surroundings.looks import Degrade
from posegen.scene import Prediction
from posegen.scenes.world import World

SIZE = 24


class Splats:
    """Each joint is a soft blob: differentiable in pose, betas and camera, and quick."""

    def __init__(self, body):
        self.body = body

    def __call__(self, scene):
        joints = self.body.joints(aa_to_matrix(scene.pose), scene.betas, scene.transl)
        px = scene.camera.project(joints)
        grid = torch.arange(scene.camera.width) + 0.5
        u = torch.exp(-((grid[None, None] - px[..., :1]) ** 2) / 4)
        v = torch.exp(-((grid[None, None] - px[..., 1:]) ** 2) / 4)
        colour = torch.linspace(0.2, 1.0, 24)
        blobs = v[..., :, None] * u[..., None, :]
        alpha = 1 - torch.exp(-blobs.sum(1, keepdim=True))
        grey = (blobs * colour[None, :, None, None]).sum(1, keepdim=True) / (blobs.sum(1, keepdim=True) + 1e-3)
        return (grey * alpha).expand(-1, 3, -1, -1), alpha


class LinearEstimator(torch.nn.Module):
    """Joints as a linear map of the pixels."""

    name, joint_set, differentiable, image_size = "linear", "smpl24", True, SIZE

    def __init__(self, seed=0):
        super().__init__()
        self.map = torch.nn.Linear(3 * SIZE * SIZE, 72)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.map.weight.copy_(torch.randn(72, 3 * SIZE * SIZE, generator=generator) * 0.002)
            self.map.bias.zero_()

    def forward(self, images):
        return Prediction(SMPL24.centred(self.map(images.flatten(1)).view(-1, 24, 3)), "smpl24")

    def train_mode(self, frozen_batchnorm=True):
        return self.train()


def small_world() -> World:
    body = load_body(resolution="low").requires_grad_(False)
    return World(
        body, Splats(body), 2, Backgrounds("train", kinds={"noise": 1.0}), Degrade(), SIZE, torch.device("cpu")
    )
