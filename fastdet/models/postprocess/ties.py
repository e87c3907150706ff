"""Switches the post-processing of a built detector."""

from torch import nn

from fastdet.models.postprocess.dense import ProposalPostprocess, Ties


def set_tie_order(detector: nn.Module, ties: Ties) -> None:
    """Makes proposals of equal scores come by prior ("index"), or as `torch.sort` leaves them ("sort").

    The latter is for reproducing figures of MMDetection on the CPU. Post-processing is found as the attributes
    `postprocess` and `train_postprocess` of the detector's modules.
    """
    for module in detector.modules():
        for name in ("postprocess", "train_postprocess"):
            part = getattr(module, name, None)
            if isinstance(part, ProposalPostprocess):
                part.ties = ties
