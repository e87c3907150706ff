"""Small configs in both dialects that say the same, for tests to change."""

from typing import Any

from fastdet.compat import to_experiment
from fastdet.config.configdict import ConfigDict, adopt
from fastdet.config.schema import Experiment
from fastdet.registry import Source

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def model(**changes: Any) -> dict[str, Any]:
    """A RetinaNet without data_preprocessor and sampler, so that it fits both dialects."""
    values = {
        "type": "RetinaNet",
        "backbone": {"type": "ResNet", "depth": 18, "num_stages": 4, "out_indices": (0, 1, 2, 3)},
        "neck": {"type": "FPN", "in_channels": [64, 128, 256, 512], "out_channels": 64, "num_outs": 5},
        "bbox_head": {
            "type": "RetinaHead",
            "num_classes": 3,
            "in_channels": 64,
            "anchor_generator": {
                "type": "AnchorGenerator", "octave_base_scale": 4, "scales_per_octave": 3, "ratios": [0.5, 1.0, 2.0],
                "strides": [4, 8, 16, 32, 64],
            },
            "loss_cls": {"type": "FocalLoss", "use_sigmoid": True},
        },
        "train_cfg": {"assigner": {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.4}},
        "test_cfg": {
            "nms_pre": 1000, "score_thr": 0.05, "nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 100,
        },
    }  # fmt: skip
    return {**values, **changes}


def old_pipelines() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Training and test pipeline of 2.x."""
    norm = {"type": "Normalize", "mean": MEAN, "std": STD, "to_rgb": True}
    pad = {"type": "Pad", "size_divisor": 32}
    train = [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations", "with_bbox": True},
        {"type": "Resize", "img_scale": (640, 480), "keep_ratio": True},
        {"type": "RandomFlip", "flip_ratio": 0.5},
        norm,
        pad,
        {"type": "DefaultFormatBundle"},
        {"type": "Collect", "keys": ["img", "gt_bboxes", "gt_labels"]},
    ]
    inner = [{"type": "Resize", "keep_ratio": True}, {"type": "RandomFlip"}, norm, pad]
    inner += [{"type": "ImageToTensor", "keys": ["img"]}, {"type": "Collect", "keys": ["img"]}]
    flip = {"type": "MultiScaleFlipAug", "img_scale": (640, 480), "flip": False, "transforms": inner}
    return train, [{"type": "LoadImageFromFile"}, flip]


def new_pipelines() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Training and test pipeline of 3.x."""
    resize = {"type": "Resize", "scale": (640, 480), "keep_ratio": True}
    load = [{"type": "LoadImageFromFile", "backend_args": None}, {"type": "LoadAnnotations", "with_bbox": True}]
    train = [*load, resize, {"type": "RandomFlip", "prob": 0.5}, {"type": "PackDetInputs"}]
    return train, [load[0], resize, load[1], {"type": "PackDetInputs", "meta_keys": ("img_id",)}]


def old_config(**changes: Any) -> dict[str, Any]:
    """A whole config of 2.x."""
    train, test = old_pipelines()
    held_out = {"type": "CocoDataset", "ann_file": "d/val.json", "img_prefix": "d/val/", "pipeline": test}
    values = {
        "model": model(),
        "data": {
            "samples_per_gpu": 4,
            "workers_per_gpu": 1,
            "train": {
                "type": "CocoDataset", "ann_file": "d/train.json", "img_prefix": "d/train/", "pipeline": train,
                "classes": ("a", "b", "c"),
            },
            "val": held_out,
            "test": held_out,
        },
        "evaluation": {"interval": 2, "metric": "bbox"},
        "optimizer": {"type": "SGD", "lr": 0.02, "momentum": 0.9},
        "optimizer_config": {"grad_clip": {"max_norm": 35, "norm_type": 2}},
        "lr_config": {
            "policy": "step", "warmup": "linear", "warmup_iters": 500, "warmup_ratio": 0.001, "step": [8, 11],
        },
        "runner": {"type": "EpochBasedRunner", "max_epochs": 12},
        "checkpoint_config": {"interval": 3},
        "log_config": {"interval": 20, "hooks": [{"type": "TextLoggerHook"}]},
        "custom_hooks": [{"type": "NumClassCheckHook"}],
        "dist_params": {"backend": "gloo"},
        "workflow": [("train", 1)],
        "load_from": None,
        "resume_from": None,
    }  # fmt: skip
    return {**values, **changes}


def new_config(**changes: Any) -> dict[str, Any]:
    """The same config in 3.x."""
    train, test = new_pipelines()
    held_out = {
        "batch_size": 1,
        "num_workers": 1,
        "persistent_workers": True,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "dataset": {
            "type": "CocoDataset", "data_root": "d/", "ann_file": "val.json", "data_prefix": {"img": "val/"},
            "test_mode": True, "pipeline": test,
        },
    }  # fmt: skip
    preprocessor = {
        "type": "DetDataPreprocessor", "mean": MEAN, "std": STD, "bgr_to_rgb": True, "pad_size_divisor": 32,
    }  # fmt: skip
    metric = {"type": "CocoMetric", "ann_file": "d/val.json", "metric": "bbox", "format_only": False}
    values = {
        "default_scope": "mmdet",
        "model": model(data_preprocessor=preprocessor),
        "train_dataloader": {
            "batch_size": 4,
            "num_workers": 1,
            "sampler": {"type": "DefaultSampler", "shuffle": True},
            "batch_sampler": {"type": "AspectRatioBatchSampler"},
            "dataset": {
                "type": "CocoDataset", "data_root": "d/", "ann_file": "train.json", "data_prefix": {"img": "train/"},
                "metainfo": {"classes": ("a", "b", "c")}, "filter_cfg": {"filter_empty_gt": True, "min_size": 32},
                "pipeline": train,
            },
        },
        "val_dataloader": held_out,
        "test_dataloader": held_out,
        "val_evaluator": metric,
        "test_evaluator": metric,
        "train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": 12, "val_interval": 2},
        "val_cfg": {"type": "ValLoop"},
        "test_cfg": {"type": "TestLoop"},
        "optim_wrapper": {
            "type": "OptimWrapper",
            "optimizer": {"type": "SGD", "lr": 0.02, "momentum": 0.9},
            "clip_grad": {"max_norm": 35},
        },
        "param_scheduler": [
            {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 500},
            {"type": "MultiStepLR", "begin": 0, "end": 12, "by_epoch": True, "milestones": [8, 11], "gamma": 0.1},
        ],
        "default_hooks": {
            "timer": {"type": "IterTimerHook"},
            "logger": {"type": "LoggerHook", "interval": 20},
            "checkpoint": {"type": "CheckpointHook", "interval": 3},
            "visualization": {"type": "DetVisualizationHook"},
        },
        "env_cfg": {"cudnn_benchmark": False, "dist_cfg": {"backend": "gloo"}},
        "log_level": "INFO",
        "resume": False,
    }  # fmt: skip
    return {**values, **changes}


def written(values: dict[str, Any], line: int = 7, file: str = "config.py") -> ConfigDict:
    """The values as if a file had them, all in one line."""
    result: ConfigDict = adopt(values, Source(file, line))
    return result


def old_experiment(**changes: Any) -> Experiment:
    return to_experiment(written(old_config(**changes)))


def new_experiment(**changes: Any) -> Experiment:
    return to_experiment(written(new_config(**changes)))
