"""Parts the skin among volumes by which vertices move together: clusters of position and skinning weights.

A bone's skin moves in many ways where it meets other bones. A region is small, or follows few joints in much the same
shares, so that an affine map carries all of it closely (see `bending`). Regions are found once on the body and then
hold for every mesh on its skeleton, so that subjects can be joined in one field.

Dimensions: V vertices, F faces, K regions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.errors import ConfigError, DataError
from posegen.renderer.field.march import MOST_VOLUMES
from posegen.renderer.field.volumes import volume_weights

WEIGHT_M = 0.6  # metres that count as much as a whole skinning weight
FRINGE_M = 0.01  # how softly a region ends: standard deviation, in the same metric
ROUNDS = 40  # of k-means


@dataclass(frozen=True)
class SkinRegions:
    """Where the regions are, and the frames their volumes ride on."""

    centre: Tensor  # (K,27) position in metres, and skinning weights times WEIGHT_M
    joint: Tensor  # (K,) int64
    fraction: Tensor  # (K,) of the joint's own rotation: 1 or 0.5

    def __len__(self) -> int:
        return len(self.joint)


def vertex_areas(vertices_m: Tensor, faces: Tensor) -> Tensor:
    """(V,3), (F,3) -> (V,) m^2: a third of each face to each of its corners."""
    corner = vertices_m[faces]
    area = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]).norm(dim=-1) / 6
    return torch.zeros(len(vertices_m)).index_add_(0, faces.reshape(-1), area.repeat_interleave(3))


def _features(template_m: Tensor, weights: Tensor) -> Tensor:
    return torch.cat([template_m.float(), WEIGHT_M * weights.float()], 1)


def find_regions(template_m: Tensor, weights: Tensor, faces: Tensor, count: int) -> SkinRegions:
    """Clusters a body's vertices by k-means, each weighted by its area. The same input gives the same regions.

    scikit-learn's KMeans gives others (it adds in another order, and moves regions that lost their skin): the package's
    fields, fitted on these, could not be fitted again; and who only renders would need it.

    Args:
        template_m: (V,3) rest vertices; weights: (V,24); faces: (F,3).
        count: of regions, 1 to MOST_VOLUMES.
    """
    if not 1 <= count <= MOST_VOLUMES:
        raise ConfigError(
            f"{count} regions; the skin can be parted in 1 to {MOST_VOLUMES}", where="fit-subject regions"
        )
    features, area = _features(template_m, weights), vertex_areas(template_m, faces)
    if len(features) < count:
        raise DataError(f"{len(features)} vertices cannot be parted in {count} regions", where="fit-subject regions")
    first = int(features[:, 1].argmax())
    distance = (features - features[first]).square().sum(1)
    chosen = [first]
    for _ in range(count - 1):  # each starts where the skin is worst represented
        chosen.append(int((distance * area).argmax()))
        distance = torch.minimum(distance, (features - features[chosen[-1]]).square().sum(1))
    centre = features[chosen]
    total = torch.zeros(count)
    for _ in range(ROUNDS):
        owner = torch.cdist(features, centre).argmin(1)
        total = torch.zeros(count).index_add_(0, owner, area)
        summed = torch.zeros_like(centre).index_add_(0, owner, features * area[:, None])
        centre = torch.where(total[:, None] > 0, summed / total.clamp_min(1e-12)[:, None], centre)
    # the frame that most of a region's skin follows: a joint's, or one turned half as far
    joint = torch.cat([torch.arange(24), torch.arange(1, 24)])
    fraction = torch.cat([torch.ones(24), torch.full((23,), 0.5)])
    follow = volume_weights(weights.float(), joint, fraction) * area[:, None]
    best = torch.zeros(count, len(joint)).index_add_(0, owner, follow).argmax(1)
    return SkinRegions(centre, joint[best], fraction[best])


def region_weights(regions: SkinRegions, template_m: Tensor, weights: Tensor) -> Tensor:
    """How much each vertex of a mesh belongs to each region: (V,K), 1 in its core, falling smoothly to 0 outside."""
    features = _features(template_m, weights)
    owner = torch.cdist(features, regions.centre).argmin(1)
    reach = 4 * FRINGE_M
    out = torch.zeros(len(features), len(regions))
    for k in range(len(regions)):
        core = features[owner == k]
        if len(core) == 0:
            continue
        near = ((features >= core.amin(0) - reach) & (features <= core.amax(0) + reach)).all(1).nonzero()[:, 0]
        distance = torch.cdist(features[near], core, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
        out[near, k] = torch.exp(-0.5 * (distance / FRINGE_M) ** 2)
    return out
