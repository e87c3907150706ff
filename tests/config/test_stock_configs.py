"""Every config of MMDetection's releases is read as its own reader reads it: the same files load, the same fail."""

import re
from pathlib import Path

import pytest

from fastdet.config.dump import dump_python
from fastdet.config.file import load_config
from fastdet.utils.errors import ConfigError

from .wheels import unpack_configs

# In 3.3.0 these cannot load anywhere: four name a base file that is not there, five need MMPretrain's configs. Three
# more files are no configs but scripts, which import MMEngine.
BROKEN = {
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


def config_files(root: Path) -> dict[str, Path]:
    files = {p.relative_to(root).as_posix(): p for p in sorted(root.rglob("*.py"))}
    return {name: path for name, path in files.items() if not name.startswith("_base_/") and "/_base_/" not in name}


def load_all(files: dict[str, Path]) -> tuple[int, dict[str, str]]:
    """The number of files that load, and the messages of the others."""
    loaded, failed = 0, {}
    for name, path in files.items():
        try:
            load_config(path)
            loaded += 1
        except ConfigError as problem:
            failed[name] = str(problem)
    return loaded, failed


@pytest.mark.slow
def test_all_configs_of_3_3_0_load_but_the_broken_ones(tmp_path: Path) -> None:
    files = config_files(unpack_configs("3.3.0", tmp_path))
    assert len(files) == 823
    configs = {name: path for name, path in files.items() if name not in SCRIPTS}
    loaded, failed = load_all(configs)
    assert loaded == 811
    assert failed.keys() == BROKEN.keys()
    for name, reason in BROKEN.items():
        assert reason in failed[name]


@pytest.mark.slow
def test_all_configs_of_2_28_2_load(tmp_path: Path) -> None:
    loaded, failed = load_all(config_files(unpack_configs("2.28.2", tmp_path)))
    assert failed == {}
    assert loaded == 634


@pytest.mark.parametrize("release", ["3.3.0", "2.28.2"])
def test_resolved_stock_configs_load_back_equal_and_know_their_lines(release: str, tmp_path: Path) -> None:
    root = unpack_configs(release, tmp_path)
    names = ["faster_rcnn/faster-rcnn_r50-caffe_fpn_ms-1x_coco.py", "retinanet/retinanet_r50_fpn_amp-1x_coco.py"]
    if release == "2.28.2":
        names = [
            "faster_rcnn/faster_rcnn_r50_caffe_fpn_mstrain_1x_coco.py",
            "retinanet/retinanet_r50_fpn_fp16_1x_coco.py",
        ]
    for name in names:
        config = load_config(root / name)
        copy = tmp_path / "copy.py"
        copy.write_text(dump_python(config))
        assert load_config(copy) == config
        for key, source in config.model.backbone.sources.items():
            line = Path(source.file).read_text().splitlines()[source.line - 1]
            assert re.search(rf"\b{key}\b", line), f"{source} does not show {key}"
