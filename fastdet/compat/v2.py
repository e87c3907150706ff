"""A config with keys of MMDetection 1.x and 2.x rewritten into 3.x form, key by key."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fastdet.config.configdict import ConfigDict, adopt
from fastdet.config.merge import merge
from fastdet.registry import Source

from .dialect import derived, name_of, warn
from .v2_data import SPLITS, join_paths, joined, split_loaders, upgrade_dataset
from .v2_model import is_loop, move_settings, upgrade_model
from .v2_preprocess import Folded, fold, write_preprocessor
from .v2_runtime import checkpoints, custom_hooks, environment, evaluators, logger, randomness
from .v2_schedule import optim_wrapper, schedulers, train_loop

# What 2.x does where nothing is written.
LOADER_DEFAULTS: dict[str, dict[str, Any]] = {
    "train": {
        "batch_size": 2,
        "num_workers": 2,
        "sampler": {"type": "DefaultSampler", "shuffle": True},
        "batch_sampler": {"type": "AspectRatioBatchSampler"},
    },
    "val": {"batch_size": 1, "num_workers": 2, "sampler": {"type": "DefaultSampler", "shuffle": False}},
    "test": {"batch_size": 1, "num_workers": 2, "sampler": {"type": "DefaultSampler", "shuffle": False}},
}
METRIC_KEYS = ("metric", "classwise", "proposal_nums", "iou_thrs", "metric_items")
LOOP_DEFAULTS = {"by_epoch": True, "val_interval": 1}
RUNTIME_KEYS = ("checkpoint_config", "log_config", "dist_params", "seed", "deterministic", "diff_seed")
OLD_KEYS = frozenset(
    {"data", "evaluation", "optimizer", "optimizer_config", "fp16", "lr_config", "momentum_config", "runner",
     "total_epochs", "resume_from", "auto_resume", *RUNTIME_KEYS}
)  # fmt: skip


def upgrade(cfg: ConfigDict) -> ConfigDict:
    """The config in 3.x form, a fresh one; what is in 3.x form already stays as it is.

    A 2.x key beside its 3.x counterpart (a user's file over a 3.x base) is laid over it if the main file wrote the
    2.x key and a base file the 3.x one; otherwise the 3.x key counts. Both cases are warned of.
    """
    cfg = adopt(cfg)
    model = cfg.get("model")
    if isinstance(model, ConfigDict):
        if isinstance(cfg.get("data_preprocessor"), ConfigDict):
            model.setdefault("data_preprocessor", cfg["data_preprocessor"])
        move_settings(cfg, model)
        upgrade_model(model)
    mixer = _Mixer(cfg)
    _data(cfg, mixer)
    _schedule(cfg, mixer)
    _runtime(cfg, mixer)
    for key in OLD_KEYS:
        cfg.pop(key, None)
    folded = _fold_pipelines(cfg)
    if isinstance(model, ConfigDict):
        main = cfg.source.file if cfg.source else None
        write_preprocessor(model, folded["train"], folded["val"] + folded["test"], main=main)
    return cfg


class _Mixer:
    """Lays what 2.x keys say over the 3.x keys of a config."""

    def __init__(self, cfg: ConfigDict) -> None:
        self.cfg = cfg

    def lay(
        self,
        target: str,
        value: Any,
        old: tuple[str, ...],
        *,
        defaults: dict[str, Any] | None = None,
        join: Callable[[ConfigDict, ConfigDict], ConfigDict] = merge,
    ) -> None:
        """Sets `target` to what the 2.x keys `old` say, or merges it over what is there.

        Args:
            defaults: 2.x's, used if there is no 3.x key.
        """
        written = [key for key in old if self.cfg.get(key) is not None]
        if not written or value is None:
            return
        source = self.cfg.place(written[0])
        there = self.cfg.get(target)
        if there is None:
            if defaults is not None:
                value = merge(adopt(defaults), value)
            self.cfg.put(target, value, source)
        elif self._is_nearer(written, target):
            warn(f"{written[0]!r} (2.x) is laid over {target!r} of the base config (3.x)", source)
            both = join(there, value) if isinstance(value, ConfigDict) and isinstance(there, ConfigDict) else value
            self.cfg.put(target, both, source)
        else:
            warn(f"{written[0]!r} (2.x) is not used, as {target!r} (3.x) is given", source)

    def _is_nearer(self, written: list[str], target: str) -> bool:
        main: Source | None = self.cfg.source
        other = self.cfg.place(target)
        places = [self.cfg.place(key) for key in written]
        if main is None or other is None:
            return False
        return other.file != main.file and any(p is not None and p.file == main.file for p in places)


def _data(cfg: ConfigDict, mixer: _Mixer) -> None:
    """data and evaluation into dataloaders and evaluators; 2.x keys inside 3.x dataloaders too."""
    for split in SPLITS:
        key = f"{split}_dataloader"
        loader = cfg.get(key)
        if isinstance(loader, ConfigDict) and isinstance(loader.get("dataset"), ConfigDict):
            loader = ConfigDict(loader)
            dataset = upgrade_dataset(loader["dataset"], is_old=False, training=split == "train")
            loader.put("dataset", dataset, loader.place("dataset"))
            cfg.put(key, loader, cfg.place(key))
    if isinstance(cfg.get("data"), ConfigDict):
        for split, loader in split_loaders(cfg["data"]).items():
            key = f"{split}_dataloader"
            if loader and ("dataset" in loader or cfg.get(key) is not None):
                mixer.lay(key, loader, ("data",), defaults=LOADER_DEFAULTS[split], join=_over_loader)
    for split in ("val", "test"):
        _evaluator(cfg, mixer, split)


def _evaluator(cfg: ConfigDict, mixer: _Mixer, split: str) -> None:
    """The evaluator of a 2.x dataset, or what `evaluation` and `data` change in a 3.x one."""
    evaluation, loader = cfg.get("evaluation"), cfg.get(f"{split}_dataloader")
    target = f"{split}_evaluator"
    there = cfg.get(target)
    if there is None:
        if "data" in cfg and loader is not None:
            source = cfg.place("evaluation") or cfg.place("data")
            cfg.put(target, evaluators(evaluation, loader["dataset"]), source)
        return
    if isinstance(evaluation, ConfigDict):
        change = derived(evaluation, **{key: evaluation[key] for key in METRIC_KEYS if key in evaluation})
        if change:
            mixer.lay(target, change, ("evaluation",))
    dataset = (cfg.get("data") or {}).get(split)
    if isinstance(there, ConfigDict) and "ann_file" in there and isinstance(dataset, ConfigDict) and loader is not None:
        path = loader["dataset"].get("ann_file")
        if "ann_file" in dataset and isinstance(path, str):
            file = joined(loader["dataset"].get("data_root"), path)
            mixer.lay(target, derived(dataset, "ann_file", ann_file=file), ("data",))


def _over_loader(there: ConfigDict, loader: ConfigDict) -> ConfigDict:
    """A 2.x loader over a 3.x one: a dataset with its own pipeline or type replaces the base's, others merge."""
    there = ConfigDict(there)
    dataset, old = loader.get("dataset"), join_paths(there.get("dataset"))
    if isinstance(dataset, ConfigDict) and isinstance(old, ConfigDict):
        is_whole = "type" in dataset and ("pipeline" in dataset or dataset["type"] != old.get("type"))
        there.put("dataset", ConfigDict() if is_whole else old, there.place("dataset"))
    return merge(there, loader)


def _schedule(cfg: ConfigDict, mixer: _Mixer) -> None:
    mixer.lay("optim_wrapper", optim_wrapper(cfg), ("optimizer", "optimizer_config", "fp16"))
    loop_keys: tuple[str, ...] = ("runner", "total_epochs")
    if isinstance(cfg.get("train_cfg"), ConfigDict) and is_loop(cfg["train_cfg"]):
        loop_keys = (*loop_keys, "evaluation")
    loop = train_loop(cfg)
    mixer.lay("train_cfg", loop, loop_keys, defaults=LOOP_DEFAULTS)
    if cfg.get("lr_config") is not None or cfg.get("momentum_config") is not None:
        mixer.lay("param_scheduler", schedulers(cfg, cfg.get("train_cfg") or loop), ("lr_config", "momentum_config"))


def _runtime(cfg: ConfigDict, mixer: _Mixer) -> None:
    by_epoch = bool((cfg.get("train_cfg") or {}).get("by_epoch", True))
    hooks = derived(cfg, "checkpoint_config")
    saved = checkpoints(cfg, cfg.get("val_evaluator"), by_epoch)
    if saved:
        saved.setdefault("type", "CheckpointHook")
        hooks.put("checkpoint", saved, cfg.place("checkpoint_config"))
    if isinstance(cfg.get("log_config"), ConfigDict):
        log = logger(cfg["log_config"])
        log.setdefault("type", "LoggerHook")
        hooks.put("logger", log, cfg.place("log_config"))
    if hooks:
        mixer.lay("default_hooks", hooks, ("checkpoint_config", "log_config", "evaluation"))
    mixer.lay("env_cfg", environment(cfg), ("dist_params",))
    mixer.lay("randomness", randomness(cfg), ("seed", "deterministic", "diff_seed"))
    if cfg.get("custom_hooks") is not None:
        cfg.put("custom_hooks", custom_hooks(cfg["custom_hooks"]), cfg.place("custom_hooks"))
    if cfg.get("resume_from") is not None:
        cfg.put("load_from", cfg["resume_from"], cfg.place("resume_from"))
        cfg.put("resume", True, cfg.place("resume_from"))
    elif cfg.get("auto_resume"):
        cfg.put("resume", True, cfg.place("auto_resume"))


def _fold_pipelines(cfg: ConfigDict) -> dict[str, list[Folded]]:
    """Takes Normalize and Pad out of every pipeline; what they said, by split."""
    found: dict[str, list[Folded]] = {split: [] for split in SPLITS}
    padding: list[ConfigDict] = []
    roi_head = (cfg.get("model") or {}).get("roi_head")
    semantic_head = roi_head.get("semantic_head") if isinstance(roi_head, ConfigDict) else None

    def visit(node: Any, split: str) -> None:
        if isinstance(node, list | tuple):
            for part in node:
                visit(part, split)
        if not isinstance(node, ConfigDict):
            return
        for key in ("dataset", "datasets"):
            visit(node.get(key), split)
        if isinstance(node.get("pipeline"), list):
            pipeline, folded = fold(node["pipeline"])
            padding.extend(t for t in pipeline if name_of(t) == "Pad")
            if isinstance(semantic_head, ConfigDict):
                pipeline = _without_rescaling(pipeline, semantic_head)
            node.put("pipeline", pipeline, node.place("pipeline"))
            if folded is not None:
                found[split].append(folded)

    for split in SPLITS:
        loader = cfg.get(f"{split}_dataloader")
        if isinstance(loader, ConfigDict):
            padding.clear()
            visit(loader.get("dataset"), split)
            found[split] = [replace(folded, is_padded=bool(padding)) for folded in found[split]]
    return found


def _without_rescaling(pipeline: list[ConfigDict], semantic_head: ConfigDict) -> list[ConfigDict]:
    """The pipeline without SegRescale, which 3.x's semantic heads do themselves."""
    for node in pipeline:
        if name_of(node) == "SegRescale":
            semantic_head.put("seg_scale_factor", node.get("scale_factor", 1), node.place("scale_factor"))
    return [node for node in pipeline if name_of(node) != "SegRescale"]
