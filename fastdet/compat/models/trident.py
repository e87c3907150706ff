"""TridentNet: a two-stage detector whose backbone has branches while training."""

from fastdet.compat.dialect import Section
from fastdet.compat.models.dense import Translated
from fastdet.compat.models.two_stage import translate_two_stage
from fastdet.config.configdict import ConfigDict

BRANCHES = ("num_branch", "test_branch_idx")


def translate_trident(model: Section) -> Translated:
    """TridentFasterRCNN as a two-stage detector: its backbone alone has branches.

    Raises:
        UnsupportedConfig: all branches are to be tested.
        ConfigError: backbone and second stage have different branches.
    """
    roi, backbone = Section(model.take("roi_head"), "roi_head"), Section(model.take("backbone"), "backbone")
    roi.only("type", "TridentRoIHead", "mmdet.TridentRoIHead")
    for key in BRANCHES:
        wanted, found = backbone.take(key), roi.take(key)
        if found != wanted:
            raise roi.wrong(key, found, f"the backbone's, {wanted!r}")
        if found == -1:
            raise roi.unsupported(
                "testing all branches is not supported", "name the one that is tested: test_branch_idx=1", key
            )
    head = ConfigDict(roi.node)
    for key in BRANCHES:
        del head[key]
    head.put("type", "StandardRoIHead", roi.place("type"))
    node = ConfigDict(model.node)
    node.put("roi_head", head, model.place("roi_head"))
    plain = Section(node, model.name)
    plain.take("type")
    return translate_two_stage(plain)
