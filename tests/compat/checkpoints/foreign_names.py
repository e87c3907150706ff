"""Names and shapes of other programs' weights, as their releases have them, for files that tests make."""

from collections.abc import Iterator

Shapes = dict[str, tuple[int, ...]]
DEPTHS = {"res2": 3, "res3": 4, "res4": 6, "res5": 3}
STATISTICS = ("weight", "bias", "running_mean", "running_var")


def bottlenecks() -> Iterator[tuple[str, int, dict[str, tuple[int, ...]]]]:
    """Stage, block, and the convolutions of each bottleneck of a ResNet-50, shortcuts included."""
    inputs, width = 64, 64
    for stage, blocks in DEPTHS.items():
        for block in range(blocks):
            convs: dict[str, tuple[int, ...]] = {
                "conv1": (width, inputs, 1, 1),
                "conv2": (width, width, 3, 3),
                "conv3": (4 * width, width, 1, 1),
            }
            if block == 0:
                convs["shortcut"] = (4 * width, inputs, 1, 1)
            yield stage, block, convs
            inputs = 4 * width
        width *= 2


def caffe2_resnet50() -> Shapes:
    """MSRA's R-50.pkl of Detectron's model zoo."""
    shapes: Shapes = {"conv1_w": (64, 3, 7, 7), "res_conv1_bn_s": (64,), "res_conv1_bn_b": (64,)}
    branches = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}
    for stage, block, convs in bottlenecks():
        for conv, shape in convs.items():
            name = f"{stage}_{block}_{branches[conv]}"
            shapes |= {f"{name}_w": shape, f"{name}_bn_s": shape[:1], f"{name}_bn_b": shape[:1]}
    return shapes | {"fc1000_w": (1000, 2048), "fc1000_b": (1000,)}


def _conv(name: str, shape: tuple[int, ...]) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _detectron2_body() -> Shapes:
    body = "backbone.bottom_up."
    shapes: Shapes = {f"{body}stem.conv1.weight": (64, 3, 7, 7)}
    shapes |= {f"{body}stem.conv1.norm.{kind}": (64,) for kind in STATISTICS}
    for stage, block, convs in bottlenecks():
        for conv, shape in convs.items():
            shapes[f"{body}{stage}.{block}.{conv}.weight"] = shape
            shapes |= {f"{body}{stage}.{block}.{conv}.norm.{kind}": shape[:1] for kind in STATISTICS}
    return shapes


def detectron2_mask_rcnn(classes: int = 80) -> Shapes:
    """model_final_a54504.pkl of mask_rcnn_R_50_FPN_1x."""
    shapes: Shapes = {"pixel_mean": (3, 1, 1), "pixel_std": (3, 1, 1)}
    for level, channels in zip(range(2, 6), (256, 512, 1024, 2048), strict=True):
        shapes |= _conv(f"backbone.fpn_lateral{level}", (256, channels, 1, 1))
        shapes |= _conv(f"backbone.fpn_output{level}", (256, 256, 3, 3))
    shapes |= _detectron2_body()
    rpn = "proposal_generator."
    shapes |= {f"{rpn}anchor_generator.cell_anchors.{i}": (3, 4) for i in range(5)}
    shapes |= _conv(f"{rpn}rpn_head.conv", (256, 256, 3, 3)) | _conv(f"{rpn}rpn_head.objectness_logits", (3, 256, 1, 1))
    shapes |= _conv(f"{rpn}rpn_head.anchor_deltas", (12, 256, 1, 1))
    shapes |= _conv("roi_heads.box_head.fc1", (1024, 12544)) | _conv("roi_heads.box_head.fc2", (1024, 1024))
    shapes |= _conv("roi_heads.box_predictor.cls_score", (classes + 1, 1024))
    shapes |= _conv("roi_heads.box_predictor.bbox_pred", (4 * classes, 1024))
    for i in range(1, 5):
        shapes |= _conv(f"roi_heads.mask_head.mask_fcn{i}", (256, 256, 3, 3))
    shapes |= {"roi_heads.mask_head.deconv.weight": (256, 256, 2, 2), "roi_heads.mask_head.deconv.bias": (256,)}
    return shapes | _conv("roi_heads.mask_head.predictor", (classes, 256, 1, 1))


def detectron2_faster_rcnn() -> Shapes:
    """model_final_b275ba.pkl of faster_rcnn_R_50_FPN_1x."""
    return {name: shape for name, shape in detectron2_mask_rcnn().items() if "mask_head" not in name}


def detectron2_retinanet(classes: int = 80) -> Shapes:
    """model_final_bfca0b.pkl of retinanet_R_50_FPN_1x."""
    shapes: Shapes = {"pixel_mean": (3, 1, 1), "pixel_std": (3, 1, 1)}
    for level, channels in zip(range(3, 6), (512, 1024, 2048), strict=True):
        shapes |= _conv(f"backbone.fpn_lateral{level}", (256, channels, 1, 1))
        shapes |= _conv(f"backbone.fpn_output{level}", (256, 256, 3, 3))
    shapes |= _conv("backbone.top_block.p6", (256, 2048, 3, 3)) | _conv("backbone.top_block.p7", (256, 256, 3, 3))
    shapes |= _detectron2_body() | {f"anchor_generator.cell_anchors.{i}": (9, 4) for i in range(5)}
    for tower in ("cls_subnet", "bbox_subnet"):
        for i in range(0, 8, 2):
            shapes |= _conv(f"head.{tower}.{i}", (256, 256, 3, 3))
    return shapes | _conv("head.cls_score", (9 * classes, 256, 3, 3)) | _conv("head.bbox_pred", (36, 256, 3, 3))
