"""Every config that MMDetection ships is read as by its own reader, and becomes an Experiment or is refused."""

from pathlib import Path

import pytest

from fastdet.compat import to_experiment
from fastdet.config.file import load_config
from fastdet.utils.errors import ConfigError, UnsupportedConfig
from tests.config.wheels import unpack_configs

from .stock import FAMILIES

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]

# In 3.3.0 these cannot load anywhere: four name a base file that is not there, five need MMPretrain's configs. Three
# more files are no configs but scripts, which import MMEngine.
UNREADABLE = {
    "bytetrack/bytetrack_yolox_x_8xb4-amp-80e_crowdhuman-mot17halftrain_test-mot17test.py": "config file not found",
    "sort/faster-rcnn_r50_fpn_8xb2-4e_mot17train_test-mot17train.py": "config file not found",
    "sort/faster-rcnn_r50_fpn_8xb2-8e_mot20halftrain_test-mot20halfval.py": "config file not found",
    "sort/faster-rcnn_r50_fpn_8xb2-8e_mot20train_test-mot20train.py": "config file not found",
    **{
        f"rtmdet/classification/cspnext-{size}_8xb256-rsb-a1-600e_in1k.py": "of the package 'mmpretrain'"
        for size in ("l", "m", "s", "tiny", "x")
    },
}
SCRIPTS = {f"{family}/odinw/override_category.py" for family in ("glip", "grounding_dino", "mm_grounding_dino")}
FILES = {"2.28.2": 634, "3.3.0": 823}
# Runnable configs of 2.28.2 that MMDetection itself refuses to build.
BROKEN = {
    "objects365/retinanet_r50_fpn_syncbn_1350k_obj365v1.py": "unknown argument 'bbox_head' for FasterRCNN",
    "rfnext/rfnext_fixed_multi_branch_cascade_mask_rcnn_hrnetv2p_w18_20e_coco.py": "custom_hooks: expected a dict",
}
# Other families' parts in the folders that fastdet covers.
OTHERS = {
    "2.28.2": {
        "retinanet/ascend_retinanet_r18_fpn_1x8_1x_coco.py",
    },
    "3.3.0": {
        "faster_rcnn/faster-rcnn_r50_fpn_fcos-rpn_1x_coco.py",
    },
}  # fmt: skip


@pytest.mark.parametrize(("release", "runnable"), [("2.28.2", 628), ("3.3.0", 795)])
def test_every_runnable_config_is_translated_or_refused(release: str, runnable: int, tmp_path: Path) -> None:
    root = unpack_configs(release, tmp_path)
    refused: set[str] = set()
    broken: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.py"))]
    names = [name for name in names if "_base_/" not in name]
    assert len(names) == FILES[release]
    count = 0
    for name in names:
        if name in SCRIPTS:
            continue
        try:
            config = load_config(root / name)
        except ConfigError as problem:
            unreadable[name] = str(problem)
            continue
        if "model" not in config or not config.keys() & {"data", "train_dataloader", "test_dataloader"}:
            continue
        count += 1
        try:
            to_experiment(config)
        except UnsupportedConfig:
            refused.add(name)
        except ConfigError as problem:
            broken[name] = str(problem)
    assert count == runnable
    assert unreadable.keys() == (UNREADABLE.keys() if release == "3.3.0" else set())
    assert all(UNREADABLE[name] in message for name, message in unreadable.items())
    assert broken.keys() == (BROKEN.keys() if release == "2.28.2" else set())
    assert all(BROKEN[name] in message for name, message in broken.items())
    assert {name for name in refused if name.partition("/")[0] in (*FAMILIES, "pascal_voc")} == OTHERS[release]
