"""CascadeStage: boxes are refined step by step, each step trained on what the one before it made.

Letters: B images, K proposals or detections, S sampled slots, P slots for positives, C classes.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from fastdet.models.coders import RoICoder
from fastdet.models.criteria.roi import of_class
from fastdet.models.criteria.semantic import SemanticCriterion
from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.heads.cascade_roi import CascadeFeatures, CascadeRoIHead
from fastdet.models.stages.roi import RoIStage, SampledRoIs, filled, with_masks
from fastdet.registry import STAGES
from fastdet.structures import Detections, Targets


@STAGES.register()
class CascadeStage(nn.Module):
    """Steps with coders, assigners and samplers of their own, one after another.

    Training: a step's head is trained on RoIs that its assigner and sampler choose from the boxes of the step before;
    then it moves those RoIs, by the class of their object or else the likeliest one, and they are the next step's
    proposals. Objects that joined as RoIs do not go on. Prediction: boxes go through all steps; the last step's deltas
    count, with the mean of all steps' logits, and the mean of all steps' mask probabilities.

    Source: Cai and Vasconcelos, Cascade R-CNN, sections 4 and 5.1; the interleaved order: Chen et al., Hybrid Task
    Cascade, section 3.2.

    Args:
        steps: coder, assigner, sampler and criteria of each step; the last one's post-processing makes the detections.
        step_weights: factor of each step's losses.
        interleaved: a step's masks are trained on the boxes that the same step has refined, sampled anew.
        semantic_criterion: of a semantic branch, if the head has one.

    Raises:
        ValueError: another number of weights than of steps.
    """

    def __init__(
        self,
        steps: Sequence[RoIStage],
        step_weights: Sequence[float],
        *,
        interleaved: bool = False,
        semantic_criterion: SemanticCriterion | None = None,
    ) -> None:
        super().__init__()
        if len(steps) != len(step_weights):
            raise ValueError(f"there are {len(steps)} steps, but {len(step_weights)} weights: each step needs one")
        self.steps = nn.ModuleList(steps)
        self.step_weights = tuple(step_weights)
        self.interleaved = interleaved
        self.semantic_criterion = semantic_criterion

    @property
    def mask_thr_binary(self) -> float:
        """Least probability of a pixel of an instance."""
        return self._steps()[-1].mask_thr_binary

    def loss(
        self,
        head: CascadeRoIHead,
        features: Sequence[Tensor],
        proposals: Detections,
        targets: Targets,
        *,
        image_size: tuple[int, int],
        sizes: Tensor,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The losses of step i as `s<i>.loss_cls` and so on, and `s<i>.acc` in percent.

        Args:
            features: pyramid levels, finest first.
            proposals: of the first stage; their scores play no part.
            image_size: (H, W) of the padded batch.
            sizes: (H, W) of each image without padding, [B, 2]: refined boxes are clipped to it.
            generator: of the samplers, on the tensors' device.

        Raises:
            ValueError: the stage was built without the parts that training needs.
        """
        seen = head.prepare(features)
        losses: dict[str, Tensor] = {}
        if self.semantic_criterion is not None:
            assert seen.semantic_logits is not None, "a semantic criterion needs a semantic head"
            losses |= self.semantic_criterion(seen.semantic_logits, targets)
        boxes, valid = proposals.boxes, filled(proposals)
        steps = self._steps()
        for index, (step, weight) in enumerate(zip(steps, self.step_weights, strict=True)):
            run = partial(head, seen, step=index)
            hardness = step.class_losses(run, targets)
            sampled = step.sample(boxes, valid, targets, generator, hardness)
            output = run(sampled.boxes, sampled.selection.valid)
            named = step.bbox_losses(output, sampled, targets)
            if index + 1 < len(steps) or self.interleaved:
                boxes = _refined(output, sampled, step, targets, sizes)
                valid = sampled.selection.valid & ~sampled.is_object
            if head.with_masks:
                if self.interleaved:
                    sampled = step.sample(boxes, valid, targets, generator, hardness)
                logits = head.masks(seen, *step.positives(sampled), step=index)
                named |= step.mask_losses(logits, sampled, targets, image_size)
            losses |= {f"s{index}.{name}": v * weight if "loss" in name else v for name, v in named.items()}
        return losses

    def read(
        self, head: CascadeRoIHead, features: Sequence[Tensor], proposals: Detections, sizes: Tensor
    ) -> tuple[Tensor, BBoxOutput]:
        """The last step's RoIs [B, K, 4] with its deltas and the mean logits of all steps."""
        return self._read(head, head.prepare(features), proposals, sizes)

    @torch.no_grad()
    def predict(
        self, head: CascadeRoIHead, features: Sequence[Tensor], proposals: Detections, sizes: Tensor
    ) -> Detections:
        """Detections of each image, with mask probabilities if the head has masks.

        Args:
            features: pyramid levels, finest first.
            proposals: of the first stage.
            sizes: (H, W) of each image without padding, [B, 2].
        """
        seen, last = head.prepare(features), self._steps()[-1]
        boxes, output = self._read(head, seen, proposals, sizes)
        detections = last.postprocess(output, boxes, filled(proposals), last.coder, sizes)
        if not head.with_masks:
            return detections
        return with_masks(detections, head.predicted_masks(seen, detections.boxes, filled(detections)))

    def _read(
        self, head: CascadeRoIHead, seen: CascadeFeatures, proposals: Detections, sizes: Tensor
    ) -> tuple[Tensor, BBoxOutput]:
        boxes, valid = proposals.boxes, filled(proposals)
        output = head(seen, boxes, valid, step=0)
        logits = [output.logits]
        for index, before in enumerate(self._steps()[:-1], start=1):
            boxes = _moved(boxes, output.deltas, _likeliest(output, before), before.coder, sizes)
            output = head(seen, boxes, valid, step=index)
            logits.append(output.logits)
        return boxes, BBoxOutput(torch.stack(logits).mean(dim=0), output.deltas)

    def _steps(self) -> list[RoIStage]:
        return [step for step in self.steps if isinstance(step, RoIStage)]


@torch.no_grad()
def _refined(output: BBoxOutput, sampled: SampledRoIs, step: RoIStage, targets: Targets, sizes: Tensor) -> Tensor:
    """Sampled RoIs [B, S, 4], moved by the deltas of their object's class, or of the likeliest one."""
    labels = targets.labels.gather(1, sampled.selection.gt_index)
    classes = torch.where(sampled.selection.positive, labels, _likeliest(output, step))
    return _moved(sampled.boxes, output.deltas, classes, step.coder, sizes)


def _likeliest(output: BBoxOutput, step: RoIStage) -> Tensor:
    """The class [B, S] with the highest score, the background aside."""
    return step.postprocess.class_logits(output.logits).argmax(dim=-1)


def _moved(boxes: Tensor, deltas: Tensor, classes: Tensor, coder: RoICoder, sizes: Tensor) -> Tensor:
    """Boxes [B, S, 4] moved by the deltas [B, S, C * D] or [B, S, D] of the given classes [B, S]."""
    with torch.autocast(boxes.device.type, enabled=False):
        return coder.decode(boxes, of_class(deltas.unflatten(-1, (-1, coder.width)), classes), sizes)
