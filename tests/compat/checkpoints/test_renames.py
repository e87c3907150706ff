"""Names of older releases become the model's, and others stay."""

from fastdet.compat.checkpoints.renames import renamed


def test_offsets_of_deformable_convolutions_get_their_own_module() -> None:
    names = ["layer.conv2.weight", "layer.conv2_offset.weight", "layer.conv2_offset.bias"]
    model = ["layer.conv2.weight", "layer.conv2.conv_offset.weight", "layer.conv2.conv_offset.bias"]
    assert renamed(names, model) == dict(zip(names[1:], model[1:], strict=True))


def test_predictors_of_anchor_free_heads_get_their_common_names() -> None:
    names = ["bbox_head.fcos_cls.weight", "bbox_head.fcos_reg.bias", "bbox_head.fcos_centerness.bias"]
    model = ["bbox_head.conv_cls.weight", "bbox_head.conv_reg.bias", "bbox_head.conv_centerness.bias"]
    assert renamed(names, model) == dict(zip(names, model, strict=True))


def test_names_that_the_model_has_stay() -> None:
    names = ["bbox_head.atss_cls.weight", "layer.conv2_offset.weight"]
    assert renamed(names, [*names, "bbox_head.conv_cls.weight", "layer.conv2.conv_offset.weight"]) == {}


def test_a_name_that_the_file_has_already_is_not_written_over() -> None:
    names = ["bbox_head.fcos_cls.weight", "bbox_head.conv_cls.weight"]
    assert renamed(names, ["bbox_head.conv_cls.weight"]) == {}
