"""GridStage: a second stage whose boxes come from the points of a grid.

Letters: B images, P slots for positives, K detections.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from fastdet.models.criteria.grid import GridCriterion
from fastdet.models.criteria.roi import SampledCriterion
from fastdet.models.grid import boxes_of_heatmaps
from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.heads.standard_roi import StandardRoIHead
from fastdet.models.stages.roi import RoIStage, filled
from fastdet.registry import STAGES
from fastdet.structures import Detections, Targets


@STAGES.register()
class GridStage(nn.Module):
    """A RoIStage for the classes, and heatmaps of grid points for the boxes.

    Training: the positives are jittered, and heatmaps of some of them are trained. Prediction: each detection's box is
    replaced by that of its heatmaps.

    Source: Lu et al., Grid R-CNN, section 3.

    Args:
        boxes: sampling, class loss (and box loss, if the head has deltas), detections.
        grid_criterion: of training the heatmaps; None for a detector that is not trained.
        max_num_grid: positives of a batch whose heatmaps are trained, at most.
        jitter: how far centres and sides of positives are moved, in shares of the sides, at most.
    """

    def __init__(
        self,
        boxes: RoIStage,
        *,
        grid_criterion: GridCriterion | None = None,
        max_num_grid: int = 192,
        jitter: float = 0.15,
    ) -> None:
        super().__init__()
        self.boxes = boxes
        self.grid_criterion = grid_criterion
        self.max_num_grid = max_num_grid
        self.jitter = jitter

    @property
    def criterion(self) -> SampledCriterion | None:
        """That of the classes."""
        return self.boxes.criterion

    @property
    def mask_thr_binary(self) -> float:
        """Least probability of a pixel of an instance."""
        return self.boxes.mask_thr_binary

    def loss(
        self,
        head: StandardRoIHead,
        features: Sequence[Tensor],
        proposals: Detections,
        targets: Targets,
        *,
        image_size: tuple[int, int],
        sizes: Tensor,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The losses of the RoIStage and `loss_grid`; arguments as there.

        Raises:
            ValueError: the stage was built without the parts that training needs.
        """
        if self.grid_criterion is None:
            raise ValueError("this detector was built without train_cfg: it has no losses")
        hardness = self.boxes.class_losses(partial(head, features), targets)
        sampled = self.boxes.sample(proposals.boxes, filled(proposals), targets, generator, hardness)
        losses = self.boxes.bbox_losses(head(features, sampled.boxes, sampled.selection.valid), sampled, targets)
        rois, positive = self.boxes.positives(sampled)
        rois, chosen = self._jittered(rois, sizes, generator), self._chosen(positive, generator)
        fused, unfused = head.grids(features, rois, chosen)
        gt_index = sampled.selection.gt_index[:, : rois.shape[1], None].expand(-1, -1, 4)
        return losses | self.grid_criterion(fused, unfused, rois, targets.boxes.gather(1, gt_index), chosen)

    def read(
        self, head: StandardRoIHead, features: Sequence[Tensor], proposals: Detections, sizes: Tensor
    ) -> tuple[Tensor, BBoxOutput]:
        """As RoIStage's."""
        return self.boxes.read(head, features, proposals, sizes)

    @torch.no_grad()
    def predict(
        self, head: StandardRoIHead, features: Sequence[Tensor], proposals: Detections, sizes: Tensor
    ) -> Detections:
        """Detections of each image; arguments as RoIStage's."""
        detections = self.boxes.predict(head, features, proposals, sizes)
        kept = filled(detections)
        fused, _ = head.grids(features, detections.boxes, kept)
        boxes = boxes_of_heatmaps(fused, detections.boxes)
        return detections._replace(boxes=torch.where(kept[..., None], boxes, 0.0))

    @torch.no_grad()
    def _jittered(self, rois: Tensor, sizes: Tensor, generator: torch.Generator | None) -> Tensor:
        """RoIs [B, P, 4], moved and scaled by chance, within the images' last pixels."""
        offsets = (torch.rand(rois.shape, generator=generator, device=rois.device) * 2 - 1) * self.jitter
        centre, extent = (rois[..., :2] + rois[..., 2:]) / 2, rois[..., 2:] - rois[..., :2]
        centre, half = centre + extent * offsets[..., :2], extent * (1 + offsets[..., 2:]) / 2
        last = (sizes.flip(1) - 1).repeat(1, 2)[:, None].to(rois.dtype)  # [B, 1, 4]: x, y, x, y
        return torch.minimum(torch.cat((centre - half, centre + half), dim=-1).clamp(min=0), last)

    def _chosen(self, positive: Tensor, generator: torch.Generator | None) -> Tensor:
        """At most `max_num_grid` of the positives [B, P], by chance."""
        keys = torch.rand(positive.shape, generator=generator, device=positive.device).masked_fill(~positive, 2.0)
        number = min(self.max_num_grid, positive.numel())
        return positive & (keys <= keys.flatten().topk(number, largest=False).values[-1])
