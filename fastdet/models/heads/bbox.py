"""ConvFCBBoxHead: class scores and box deltas of each RoI.

Letters: R RoIs, C classes, S side of the pooled square.
"""

from typing import NamedTuple

from torch import Tensor, nn

from fastdet.models.layers import ConvFactory, ConvModule, NormFactory
from fastdet.models.layers.masked_norm import conv_valid
from fastdet.models.layers.normed import LinearFactory
from fastdet.registry import HEADS


class BBoxOutput(NamedTuple):
    """What a box head says of each RoI."""

    logits: Tensor  # [R, C + 1], the background last; or [R, C + 2], object and background last
    deltas: Tensor  # [R, C * 4], or [R, 4] if the head is class-agnostic


@HEADS.register()
class ConvFCBBoxHead(nn.Module):
    """Shared convolutions and linear layers, then a branch each for class and box.

    ```text
                                /-> cls convs -> cls fcs -> fc_cls
    shared convs -> shared fcs
                                \\-> reg convs -> reg fcs -> fc_reg
    ```
    Without any linear layer before it, a predictor sees the flattened or averaged square. Two shared linear layers are
    MMDetection's Shared2FCBBoxHead, four shared convolutions and one linear layer its Shared4Conv1FCBBoxHead, and no
    layer at all with `with_avg_pool` its BBoxHead.

    Source: Ren et al., Faster R-CNN; Lin et al., Feature Pyramid Networks, section 4.2 (the two linear layers);
    Wu and He, Group Normalization (four convolutions and one linear layer).

    Args:
        num_classes: without the background.
        in_channels: of the pooled features.
        roi_feat_size: side of the pooled square.
        reg_class_agnostic: one box for all classes.
        with_avg_pool: average the square instead of flattening it.
        with_reg: whether there are deltas; without, they are 0, which leaves the RoIs as they are.
        objectness: the class scores end with two for object and background, instead of one for the background.
        cls_predictor, reg_predictor: factories of the last layers; None for linear ones.
        conv, norm: factories of the convolutions' layers; without norm they have a bias.

    Raises:
        ValueError: convolutions in a branch after shared linear layers.
    """

    def __init__(
        self,
        num_classes: int = 80,
        in_channels: int = 256,
        *,
        roi_feat_size: int = 7,
        num_shared_convs: int = 0,
        num_shared_fcs: int = 0,
        num_cls_convs: int = 0,
        num_cls_fcs: int = 0,
        num_reg_convs: int = 0,
        num_reg_fcs: int = 0,
        conv_out_channels: int = 256,
        fc_out_channels: int = 1024,
        reg_class_agnostic: bool = False,
        with_avg_pool: bool = False,
        with_reg: bool = True,
        objectness: bool = False,
        cls_predictor: LinearFactory | None = None,
        reg_predictor: LinearFactory | None = None,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        if num_shared_fcs > 0 and (num_cls_convs > 0 or num_reg_convs > 0):
            raise ValueError(
                f"num_shared_fcs is {num_shared_fcs}, so num_cls_convs and num_reg_convs must be 0 (they are "
                f"{num_cls_convs} and {num_reg_convs}): a convolution cannot follow a linear layer"
            )
        self.num_classes = num_classes
        self.reg_class_agnostic = reg_class_agnostic
        self.with_avg_pool = with_avg_pool
        area = 1 if with_avg_pool else roi_feat_size * roi_feat_size

        def branch(width: int, num_convs: int, num_fcs: int, flat: bool) -> tuple[nn.ModuleList, nn.ModuleList, int]:
            convs, fcs = nn.ModuleList(), nn.ModuleList()
            for _ in range(num_convs):
                convs.append(ConvModule(width, conv_out_channels, 3, padding=1, conv=conv, norm=norm))
                width = conv_out_channels
            for index in range(num_fcs):
                fcs.append(nn.Linear(width if flat or index else width * area, fc_out_channels))
                width = fc_out_channels
            return convs, fcs, width

        flat = num_shared_fcs > 0
        self.shared_convs, self.shared_fcs, width = branch(in_channels, num_shared_convs, num_shared_fcs, False)
        self.cls_convs, self.cls_fcs, cls_width = branch(width, num_cls_convs, num_cls_fcs, flat)
        self.reg_convs, self.reg_fcs, reg_width = branch(width, num_reg_convs, num_reg_fcs, flat)
        self.fc_cls = (cls_predictor or nn.Linear)(
            cls_width if flat or num_cls_fcs else cls_width * area, num_classes + (2 if objectness else 1)
        )
        self.fc_reg: nn.Module | None = None
        if with_reg:
            self.fc_reg = (reg_predictor or nn.Linear)(
                reg_width if flat or num_reg_fcs else reg_width * area, 4 if reg_class_agnostic else 4 * num_classes
            )
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier (uniform) for the linear layers, a normal distribution of 0.01 and 0.001 for the predictors."""
        for linear in (*self.shared_fcs, *self.cls_fcs, *self.reg_fcs):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        for linear, std in ((self.fc_cls, 0.01), (self.fc_reg, 0.001)):
            if linear is None:
                continue
            assert isinstance(linear, nn.Linear)
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> BBoxOutput:
        """Scores and deltas.

        Args:
            x: pooled features [R, in_channels, S, S].
            valid: which rows hold a RoI, bool [R]; None if all do. Only batch statistics ask for it.
        """
        x = self._branch(x, self.shared_convs, self.shared_fcs, valid)
        cls = self._flat(self._branch(x, self.cls_convs, self.cls_fcs, valid))
        logits = self.fc_cls(cls)
        if self.fc_reg is None:
            return BBoxOutput(logits, logits.new_zeros(logits.shape[0], 4))
        reg = self._flat(self._branch(x, self.reg_convs, self.reg_fcs, valid))
        return BBoxOutput(logits, self.fc_reg(reg))

    def _branch(self, x: Tensor, convs: nn.ModuleList, fcs: nn.ModuleList, valid: Tensor | None) -> Tensor:
        for conv in convs:
            x = conv_valid(conv, x, valid)
        if len(fcs) > 0:
            x = self._flat(x)
        for fc in fcs:
            x = fc(x).relu()
        return x

    def _flat(self, x: Tensor) -> Tensor:
        """[R, C, S, S] -> [R, C] averaged or [R, C * S * S]; what is flat already stays."""
        if x.dim() == 2:
            return x
        return x.mean(dim=(2, 3)) if self.with_avg_pool else x.flatten(1)
