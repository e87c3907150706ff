"""A config in MMDetection 3.x form as an Experiment."""

from dataclasses import replace

from fastdet.config.configdict import ConfigDict
from fastdet.config.schema import Experiment
from fastdet.utils.errors import ConfigError

from . import models
from .data import classes_of, data, with_annotations
from .dialect import at
from .evaluators import metrics
from .runtime import runtime, user_imports
from .schedule import check_loop, loop, optimizer, schedule


def experiment(cfg: ConfigDict) -> Experiment:
    """The Experiment that a config in 3.x form describes.

    Raises:
        ConfigError: a key or value that does not fit, with file, line and near names.
        UnsupportedConfig: a component or setting that no Experiment can hold.
    """
    model = cfg.get("model")
    if not isinstance(model, ConfigDict) or "type" not in model:
        raise ConfigError(f"a config needs model=dict(type=...){at(cfg.source)}")
    tree, weights = models.translate_model(model, own_parts=bool(user_imports(cfg)))
    splits = data(cfg)
    training = loop(cfg.get("train_cfg"))
    settings = runtime(cfg, training)
    if settings.val_loss and splits.train is not None and splits.val is not None:
        splits = replace(splits, val=with_annotations(splits.val, splits.train))
    check_loop(cfg, "val_cfg", ("ValLoop",))
    check_loop(cfg, "test_cfg", ("TestLoop",))
    return Experiment(
        model=tree,
        weights=weights,
        classes=classes_of(splits),
        data=splits,
        optimizer=optimizer(cfg.get("optim_wrapper")),
        schedule=schedule(cfg.get("param_scheduler"), training),
        loop=training,
        val_metrics=metrics(cfg.get("val_evaluator"), "val_evaluator"),
        test_metrics=metrics(cfg.get("test_evaluator"), "test_evaluator"),
        runtime=settings,
    )
