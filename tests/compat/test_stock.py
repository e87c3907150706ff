"""Every config that MMDetection ships becomes an Experiment, or is refused with a reason."""

from pathlib import Path

import pytest

from fastdet.compat import to_experiment
from fastdet.config.file import load_config
from fastdet.utils.errors import ConfigError, UnsupportedConfig
from tests.config.wheels import unpack_configs

from .stock import FAMILIES

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]

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
    count = 0
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if "_base_/" in name:
            continue
        try:
            config = load_config(path)
        except ConfigError:
            continue  # tests/config/test_stock_configs.py lists them
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
    assert broken.keys() == (BROKEN.keys() if release == "2.28.2" else set())
    assert all(BROKEN[name] in message for name, message in broken.items())
    assert {name for name in refused if name.partition("/")[0] in (*FAMILIES, "pascal_voc")} == OTHERS[release]
