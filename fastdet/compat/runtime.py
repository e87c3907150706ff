"""Top-level keys: what each is, which ones change no result, and the Runtime of a config in 3.x form."""

import difflib
from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.config.schema import Loop, Runtime
from fastdet.utils.errors import ConfigError

from .dialect import Section, as_list, at, name_of, warn
from .hooks import hooks
from .v2_schedule import validates_loss

# Keys of the top level that are read and change no result.
IGNORED = {
    "default_scope": "names are fastdet's own",
    "visualizer": "how pictures are drawn",
    "vis_backends": "where pictures and curves go",
    "log_processor": "how log lines are smoothed",
    "log_level": "how much is printed",
    "env_cfg": "processes and cuDNN (dist_cfg.backend is read)",
    "cudnn_benchmark": "speed",
    "opencv_num_threads": "speed",
    "mp_start_method": "how workers start",
    "gpu_ids": "devices are chosen on the command line",
    "gpus": "devices are chosen on the command line",
    "device": "devices are chosen on the command line",
    "launcher": "set by the launcher",
    "local_rank": "set by the launcher",
    "experiment_name": "a name",
    "tta_model": "test-time augmentation is not part of an Experiment",
    "tta_pipeline": "test-time augmentation is not part of an Experiment",
}
READ = frozenset(
    {"model", "data_preprocessor", "train_dataloader", "val_dataloader", "test_dataloader", "val_evaluator",
     "test_evaluator", "train_cfg", "val_cfg", "test_cfg", "optim_wrapper", "param_scheduler", "default_hooks",
     "custom_hooks", "custom_imports", "load_from", "reinit_head", "resume", "work_dir", "randomness", "auto_scale_lr",
     "find_unused_parameters", "model_wrapper_cfg", "sync_bn", "workflow"}
)  # fmt: skip
# Packages whose modules a config imports so that their parts are registered.
LIBRARIES = frozenset({"mmpretrain", "mmcls", "mmdet", "mmcv", "mmengine"})
# Names that configs use for their own values by custom; they are alike to keys and mean no mistake.
VARIABLES = frozenset(
    {"train_pipeline", "test_pipeline", "val_pipeline", "train_dataset", "val_dataset", "test_dataset"}
)
# How alike (0 to 1) a free variable's name must be to a known key to be warned of. The stock configs' own variables
# (train_dataset, max_epochs, custom_keys) stay below.
NEAR = 0.85


def warn_of_near_names(cfg: ConfigDict, known: frozenset[str]) -> None:
    """Warns of top-level names that look like misspelt keys; any other name is a free variable."""
    for key in cfg:
        if key in known or key in VARIABLES or any(key.startswith(f"{name}_") for name in known):
            continue
        close = difflib.get_close_matches(key, known, n=3, cutoff=NEAR)
        if close:
            meant = " or ".join(map(repr, close))
            warn(f"the top-level name {key!r} is read as a variable; did you mean {meant}?", cfg.place(key))


def runtime(cfg: ConfigDict, loop: Loop) -> Runtime:
    """The Runtime of a config in 3.x form.

    Raises:
        ConfigError: an unknown key inside one of the sections, or a wrong value.
    """
    section = Section(cfg, "config")
    found = hooks(cfg, loop)
    seed, deterministic = _randomness(cfg.get("randomness"))
    enabled, base_batch_size = _auto_scale(cfg.get("auto_scale_lr"))
    resume = section.take("resume", False)
    load_from = section.text("load_from")
    if isinstance(resume, str):
        resume, load_from = True, resume
    sync = section.take("sync_bn")
    if sync not in (None, "torch", "mmcv"):
        raise section.wrong("sync_bn", sync, "'torch' or None")
    return Runtime(
        work_dir=section.text("work_dir"),
        load_from=load_from,
        reinit_head=section.flag("reinit_head", False),
        resume=bool(resume),
        seed=seed,
        deterministic=deterministic,
        log_interval=found.log_interval,
        checkpoints=found.checkpoints,
        ema=found.ema,
        auto_scale_lr=enabled,
        base_batch_size=base_batch_size,
        val_loss="workflow" in cfg and validates_loss(cfg["workflow"]),
        find_unused_parameters=_finds_unused(cfg),
        sync_batch_norm=sync is not None,
        backend=_backend(cfg.get("env_cfg")),
        hooks=found.others,
        custom_imports=user_imports(cfg),
    )


def _randomness(node: Any) -> tuple[int | None, bool]:
    if not node:
        return None, False
    section = Section(node, "randomness")
    seed, deterministic = section.whole("seed"), section.flag("deterministic", False)
    # Every process always draws from its own stream.
    section.skip("diff_rank_seed")
    section.finish()
    return seed, bool(deterministic)


def _auto_scale(node: Any) -> tuple[bool, int | None]:
    if not node:
        return False, None
    section = Section(node, "auto_scale_lr")
    enabled, size = section.flag("enable", False), section.whole("base_batch_size")
    section.finish()
    return bool(enabled), size


def _finds_unused(cfg: ConfigDict) -> bool:
    wrapper = cfg.get("model_wrapper_cfg")
    if not wrapper:
        return bool(cfg.get("find_unused_parameters", False))
    section = Section(wrapper, "model_wrapper_cfg")
    if name_of(wrapper, "MMDistributedDataParallel") != "MMDistributedDataParallel":
        raise section.unsupported(
            f"{wrapper['type']!r} is not supported", "supported: MMDistributedDataParallel", "type"
        )
    section.skip("type", "broadcast_buffers", "detect_anomalous_params", "static_graph")
    finds = section.flag("find_unused_parameters", cfg.get("find_unused_parameters", False))
    section.finish()
    return bool(finds)


def _backend(node: Any) -> str:
    """The backend of torch.distributed; the port and the rest are the launcher's."""
    settings = node.get("dist_cfg") if isinstance(node, dict) else None
    backend = (settings or {}).get("backend", "nccl")
    if not isinstance(backend, str):
        raise ConfigError(f"env_cfg.dist_cfg.backend must be a name, not {backend!r}")
    return backend


def user_imports(cfg: ConfigDict) -> tuple[str, ...]:
    """The modules of `custom_imports`, but for those of OpenMMLab's libraries, whose parts are built in or refused."""
    node = cfg.get("custom_imports")
    if not node:
        return ()
    section = Section(node, "custom_imports")
    imports = as_list(section.take("imports"))
    if section.flag("allow_failed_imports", False):
        warn("allow_failed_imports=True is not followed: a module that fails to import is an error", section.place())
    section.finish()
    if not all(isinstance(name, str) for name in imports):
        raise ConfigError(f"custom_imports.imports must be module names, not {imports!r}{at(section.place('imports'))}")
    return tuple(name for name in imports if name.split(".")[0] not in LIBRARIES)
