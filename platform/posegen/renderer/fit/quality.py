"""How well a fitted field repeats pictures it was not fitted to: PSNR, SSIM, IoU, and pictures side by side."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from posegen.renderer.composite import over
from posegen.renderer.fit.views import FitViews
from posegen.scene import Renderer


@dataclass(frozen=True)
class FitQuality:
    """Means over views, on a white background."""

    psnr_db: float  # over all pixels
    foreground_psnr_db: float  # over pixels that the person touches in the true picture
    ssim: float  # Wang et al. 2004, 7 x 7 windows, over all pixels
    iou: float  # of the masks at alpha 0.5
    views: int
    size_px: int

    def __str__(self) -> str:
        return (
            f"foreground PSNR {self.foreground_psnr_db:.2f} dB, PSNR {self.psnr_db:.2f} dB, SSIM {self.ssim:.3f}, "
            f"IoU {self.iou:.3f} over {self.views} held-out views at {self.size_px} px"
        )

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def _psnr(square_error: Tensor) -> Tensor:
    return -10 * torch.log10(square_error.clamp_min(1e-10))


@torch.no_grad()
def measure(
    renderer: Renderer, views: FitViews, batch: int = 16, device: str | torch.device = "cpu"
) -> tuple[FitQuality, Tensor]:
    """Renders the views on the renderer's device and compares. Also returns the images (V,3,H,W) on white, CPU."""
    from skimage.metrics import structural_similarity

    images, alphas = [], []
    for start in range(0, len(views), batch):
        rgb, alpha = renderer(views.scene[start : start + batch].to(device))
        images.append(over(rgb, alpha, torch.ones(3, 1, 1, device=device)).cpu())
        alphas.append(alpha.cpu())
    image, alpha = torch.cat(images).clamp(0, 1), torch.cat(alphas)
    truth = over(views.rgb, views.alpha, torch.ones(3, 1, 1))
    error = (image - truth) ** 2
    touched = (views.alpha > 0.01).float()
    foreground = (error * touched).sum((1, 2, 3)) / (3 * touched.sum((1, 2, 3))).clamp_min(1)
    mine, true = alpha > 0.5, views.alpha > 0.5
    iou = (mine & true).sum((1, 2, 3)) / (mine | true).sum((1, 2, 3)).clamp_min(1)
    pairs = zip(image.numpy(), truth.numpy(), strict=True)
    ssim = [structural_similarity(a, b, channel_axis=0, data_range=1.0) for a, b in pairs]
    quality = FitQuality(
        float(_psnr(error.mean((1, 2, 3))).mean()), float(_psnr(foreground).mean()), float(np.mean(ssim)),
        float(iou.float().mean()), len(views), image.shape[-1],
    )  # fmt: skip
    return quality, image


def save_side_by_side(images: Tensor, views: FitViews, path: Path, columns: int = 8, scale: int = 2) -> Path:
    """Truth above, the field below, for the first views."""
    from PIL import Image

    truth = over(views.rgb, views.alpha, torch.ones(3, 1, 1))
    rows = [torch.cat(list(part[:columns]), 2) for part in (truth, images)]
    grid = (torch.cat(rows, 1).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(grid)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(path)
    return path
