"""The Mask R-CNN config that a tutorial on MMDetection 2.6 prints in full."""

from pathlib import Path

from fastdet.compat import load_experiment
from fastdet.config.schema import Pretrained
from fastdet.registry import Spec

FILE = Path(__file__).parents[1] / "config" / "data" / "seed004_mask_rcnn.py"


def test_the_printed_config_means_what_it_says() -> None:
    found = load_experiment(FILE)
    assert found.weights == (Pretrained(module="backbone", checkpoint="torchvision://resnet50"),)
    assert found.optimizer is not None
    assert found.optimizer.algorithm == Spec.of("SGD", lr=0.02, momentum=0.9, weight_decay=0.0001)
    assert found.optimizer.clip is None
    assert (found.loop.unit, found.loop.length, found.loop.val_interval) == ("epoch", 12, 1)
    warmup, steps = found.schedule
    assert warmup == Spec.of("LinearLR", begin=0, end=500, by_epoch=False, start_factor=0.001, end_factor=1.0)
    assert steps == Spec.of("MultiStepLR", begin=0, end=12, by_epoch=True, milestones=(8, 11), gamma=0.1)
    metric = Spec.of("CocoMetric", ann_file="data/coco/annotations/instances_val2017.json", metric=("bbox", "segm"))
    assert found.val_metrics == found.test_metrics == (metric,)
    assert found.runtime.work_dir == "work_dir"
    assert not found.runtime.resume


def test_its_pictures_are_prepared_as_printed() -> None:
    data = load_experiment(FILE).data
    assert data.train is not None
    assert data.test is not None
    assert data.train.dataset == Spec.of(
        "CocoDataset",
        ann_file="data/coco/annotations/instances_train2017.json",
        image_dir="data/coco/train2017",
        filter_empty_gt=True,
        min_size=32,
        test_mode=False,
        transforms=(
            Spec.of("LoadImageFromFile"),
            Spec.of("LoadAnnotations", with_mask=True, poly2mask=False),
            Spec.of("Resize", scale=(1333, 800), keep_ratio=True),
            Spec.of("RandomFlip", prob=0.5),
        ),
    )
    assert (data.train.batch_size, data.train.num_workers, data.train.group_by_aspect_ratio) == (2, 2, True)
    assert data.test.batch_size == 2
    assert [t.type for t in data.test.dataset.args["transforms"]] == ["LoadImageFromFile", "Resize"]


def test_its_model_is_a_mask_rcnn() -> None:
    model = load_experiment(FILE).model
    assert model.type == "TwoStageDetector"
    assert model.args["preprocess"] == Spec.of(
        "Preprocess", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), to_rgb=True, pad_divisor=32
    )
    text = str(model)
    for fact in ("'iou_threshold': 0.7", "'iou_threshold': 0.5", "FCNMaskHead", "'nms_pre': 2000"):
        assert fact in text, fact
