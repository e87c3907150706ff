"""2.x optimizer, fp16, lr_config, momentum_config, runner and workflow keys in 3.x form."""

from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.utils.errors import ConfigError, UnsupportedConfig

from .dialect import Section, at, derived, name_of


def optim_wrapper(cfg: ConfigDict) -> ConfigDict:
    """optimizer, optimizer_config and fp16 as what 3.x writes into optim_wrapper; only what is written.

    Raises:
        ConfigError: an unknown key, or an optimizer hook of the user's own.
    """
    result = derived(cfg, "optimizer")
    optimizer = cfg.get("optimizer")
    if optimizer is not None:
        optimizer = ConfigDict(optimizer)
        for key in ("paramwise_cfg", "constructor"):
            if key in optimizer:
                result.put(key, optimizer[key], optimizer.place(key))
                del optimizer[key]
        result.put("optimizer", optimizer, cfg.place("optimizer"))
    hook = cfg.get("optimizer_config")
    if hook is not None:
        _optimizer_hook(hook, result)
    fp16 = cfg.get("fp16")
    if fp16 is not None:
        section = Section(fp16, "fp16")
        result.put("type", "AmpOptimWrapper", cfg.place("fp16"))
        result.put("loss_scale", _loss_scale(section.take("loss_scale", 512.0)), section.place("loss_scale"))
        section.skip("type", "distributed", "grad_clip", "coalesce", "bucket_size_mb")
        section.finish("loss_scale")
    return result


def _loss_scale(value: Any) -> Any:
    """mmcv took dict(init_scale=..., mode='dynamic') before torch's own scaler."""
    if isinstance(value, ConfigDict):
        value = ConfigDict(value)
        value.pop("mode", None)
    return value


def _optimizer_hook(hook: ConfigDict, result: ConfigDict) -> None:
    section = Section(hook, "optimizer_config")
    kind = name_of(hook, "OptimizerHook")
    section.skip("type", "distributed", "coalesce", "bucket_size_mb", "detect_anomalous_params")
    if kind in ("GradientCumulativeOptimizerHook", "GradientCumulativeFp16OptimizerHook"):
        result.put("accumulative_counts", section.whole("cumulative_iters", 1), section.place("cumulative_iters"))
    elif kind not in ("OptimizerHook", "Fp16OptimizerHook"):
        raise UnsupportedConfig(
            f"the optimizer hook {kind!r} is not supported{at(section.place())}\n"
            "  supported: OptimizerHook, Fp16OptimizerHook and their GradientCumulative forms"
        )
    if "Fp16" in kind:
        result.put("type", "AmpOptimWrapper", section.place("type"))
        result.put("loss_scale", _loss_scale(section.take("loss_scale", 512.0)), section.place("loss_scale"))
    if "grad_clip" in section:
        result.put("clip_grad", section.take("grad_clip"), section.place("grad_clip"))
    section.finish("grad_clip", "cumulative_iters", "loss_scale")


def train_loop(cfg: ConfigDict) -> ConfigDict:
    """runner or total_epochs, and the interval of `evaluation`, as what 3.x writes into train_cfg.

    Raises:
        ConfigError: runner and total_epochs differ.
        UnsupportedConfig: another runner than the two of 2.x.
    """
    result = derived(cfg, "runner")
    if "total_epochs" in cfg:
        result.put("by_epoch", True, cfg.place("total_epochs"))
        result.put("max_epochs", cfg["total_epochs"], cfg.place("total_epochs"))
    if cfg.get("runner") is not None:
        section = Section(cfg["runner"], "runner")
        kind = name_of(cfg["runner"], "EpochBasedRunner")
        section.skip("type", "meta")
        if kind not in ("EpochBasedRunner", "IterBasedRunner"):
            raise UnsupportedConfig(
                f"the runner {kind!r} is not supported{at(section.place('type'))}\n"
                "  supported: EpochBasedRunner(max_epochs), IterBasedRunner(max_iters)"
            )
        key = "max_epochs" if kind == "EpochBasedRunner" else "max_iters"
        length = section.whole(key)
        if key == "max_epochs" and result.get("max_epochs", length) != length:
            raise ConfigError(
                f"total_epochs={cfg['total_epochs']} and runner.max_epochs={length} contradict each other"
                f"{at(cfg.place('total_epochs'))}{at(section.place(key))}"
            )
        section.finish()
        result.put("by_epoch", key == "max_epochs", section.place("type"))
        if length is not None:
            result.put(key, length, section.place(key))
    evaluation = cfg.get("evaluation")
    if isinstance(evaluation, ConfigDict):
        for old, new in (("interval", "val_interval"), ("start", "val_begin"), ("dynamic_intervals",) * 2):
            if evaluation.get(old) is not None:
                result.put(new, evaluation[old], evaluation.place(old))
    return result


def schedulers(cfg: ConfigDict, loop: ConfigDict) -> list[ConfigDict]:
    """lr_config (warm-up and policy) and momentum_config as 3.x's param_scheduler.

    Args:
        loop: the 3.x train_cfg, whose length ends the policy.

    Raises:
        ConfigError: an unknown key or policy.
        UnsupportedConfig: a setting that no 3.x schedule has.
    """
    result: list[ConfigDict] = []
    for key, suffix in (("lr_config", "LR"), ("momentum_config", "Momentum")):
        if cfg.get(key) is not None:
            result += _policy(cfg[key], key, suffix, loop)
    return result


def _policy(node: ConfigDict, key: str, suffix: str, loop: ConfigDict) -> list[ConfigDict]:
    section = Section(node, key)
    policy = section.text("policy")
    if policy is None:
        raise ConfigError(f"{key} needs a policy, such as 'step'{at(section.place())}")
    counts_epochs = bool(loop.get("by_epoch", True))
    by_epoch = section.flag("by_epoch", counts_epochs)
    extra = _warmup(section, suffix)
    known = {"begin": 0, "end": loop.get("max_epochs" if counts_epochs else "max_iters"), "by_epoch": counts_epochs}
    if by_epoch != counts_epochs:
        if policy.lower() == "step":
            known.update(end=None, by_epoch=by_epoch)
        elif counts_epochs:
            # Every iteration gets its own rate, on a course whose length is known in epochs.
            known["convert_to_iter_based"] = True
        else:
            raise section.wrong("by_epoch", by_epoch, "False with a runner that counts iterations")
    main = POLICIES.get(policy.lower())
    if main is None:
        raise section.unsupported(
            f"the policy {policy!r} is not supported", f"known: {', '.join(sorted(POLICIES))}", "policy"
        )
    for values in main(section, known):
        entry = derived(node, **{**values, "type": values["type"] + suffix})
        if entry.get("end") is None:
            entry.pop("end", None)
        extra.append(entry)
    section.finish("warmup", "warmup_iters", "warmup_ratio", "warmup_by_epoch", "by_epoch", "policy")
    return extra


def _warmup(section: Section, suffix: str) -> list[ConfigDict]:
    """The warm-up of any policy but YOLOX, which has its own."""
    if str(section.node.get("policy", "")).lower() == "yolox":
        return []
    warmup = section.text("warmup")
    length, ratio = section.whole("warmup_iters", 0), section.number("warmup_ratio", 0.1)
    by_epoch = section.flag("warmup_by_epoch", False)
    if warmup is None:
        return []
    values: dict[str, Any] = {"by_epoch": by_epoch, "begin": 0, "end": length}
    if warmup == "linear":
        values.update(type="Linear" + suffix, start_factor=ratio)
    elif warmup == "constant":
        values.update(type="Constant" + suffix, factor=ratio)
    elif warmup == "exp":
        # MMEngine has no warm-up of this form; the name is fastdet's own.
        values.update(type="ExponentialWarmup" + suffix, start_factor=ratio)
    else:
        raise section.wrong("warmup", warmup, "'linear', 'constant' or 'exp'")
    return [derived(section.node, "warmup", **values)]


def _step(section: Section, known: dict[str, Any]) -> list[dict[str, Any]]:
    section.only("min_lr", None)
    step, gamma = section.take("step"), section.number("gamma", 0.1)
    if isinstance(step, int):
        return [{"type": "Step", "step_size": step, "gamma": gamma, **known}]
    return [{"type": "MultiStep", "milestones": step, "gamma": gamma, **known}]


def _minimum(section: Section) -> dict[str, Any]:
    """eta_min or eta_min_ratio from min_lr and min_lr_ratio (min_momentum in momentum_config)."""
    ratio = section.number("min_lr_ratio", section.number("min_momentum_ratio"))
    if ratio is not None:
        return {"eta_min_ratio": ratio}
    return {"eta_min": section.number("min_lr", section.number("min_momentum", 0))}


def _cosine(section: Section, known: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "CosineAnnealing", "T_max": known["end"], **_minimum(section), **known}]


def _flat_cosine(section: Section, known: dict[str, Any]) -> list[dict[str, Any]]:
    start = int(_length(section, known) * section.number("start_percent", 0.75))
    values = {"begin": start, "T_max": known["end"] - start}
    return [{"type": "CosineAnnealing", **_minimum(section), **known, **values}]


def _restart(section: Section, known: dict[str, Any]) -> list[dict[str, Any]]:
    periods, weights = section.take("periods"), section.take("restart_weights", [1])
    return [{"type": "CosineRestart", "periods": periods, "restart_weights": weights, **_minimum(section), **known}]


def _poly(section: Section, known: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "Poly", "power": section.number("power", 1.0), **_minimum(section), **known}]


def _exponential(section: Section, known: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "Exponential", "gamma": section.number("gamma"), **known}]


def _inverse(section: Section, known: dict[str, Any]) -> list[dict[str, Any]]:
    # No MMEngine schedule divides by (1 + gamma * t) ** power; the name is fastdet's own.
    gamma, power = section.number("gamma"), section.number("power", 1.0)
    return [{"type": "Inverse", "gamma": gamma, "power": power, **known}]


def _linear(section: Section, known: dict[str, Any]) -> list[dict[str, Any]]:
    minimum = _minimum(section)
    if minimum.get("eta_min") not in (None, 0):
        raise section.unsupported("min_lr of LinearAnnealing has no equal in 3.x", "write min_lr_ratio", "min_lr")
    return [
        {"type": "Linear", "start_factor": 1.0, "end_factor": minimum.get("eta_min_ratio", 0.0), **known},
    ]


def _one_cycle(section: Section, known: dict[str, Any]) -> list[dict[str, Any]]:
    values = {"type": "OneCycle", "eta_max": section.take("max_lr"), **known}
    for key in ("total_steps", "pct_start", "anneal_strategy", "div_factor", "final_div_factor", "three_phase"):
        if key in section:
            values[key] = section.take(key)
    return [values]


def _cyclic(section: Section, known: dict[str, Any]) -> list[dict[str, Any]]:
    # No MMEngine schedule goes up and down several times; the name is fastdet's own.
    values = {"type": "Cyclic", **known}
    for key, default in (
        ("target_ratio", (10, 1e-4)),
        ("cyclic_times", 1),
        ("step_ratio_up", 0.4),
        ("anneal_strategy", "cos"),
        ("gamma", 1),
    ):
        values[key] = section.take(key, default)
    return [values]


def _yolox(section: Section, known: dict[str, Any]) -> list[dict[str, Any]]:
    """Quadratic warm-up, cosine, and a constant end, as 3.x spells YOLOX's policy."""
    section.only("warmup", "exp")
    section.only("warmup_by_epoch", True)
    section.only("warmup_ratio", 1)
    warm, last = section.whole("warmup_iters", 0), section.whole("num_last_epochs", 0)
    length = _length(section, known)
    turn = length - last
    return [
        {"type": "QuadraticWarmup", **known, "end": warm},
        {"type": "CosineAnnealing", **_minimum(section), **known, "begin": warm, "T_max": turn, "end": turn},
        {"type": "Constant", "factor": 1, "begin": turn, "end": length, "by_epoch": known["by_epoch"]},
    ]


def _length(section: Section, known: dict[str, Any]) -> int:
    length = known["end"]
    if length is None:
        raise ConfigError(f"this lr_config needs the length of the training (runner){at(section.place())}")
    return int(length)


POLICIES = {
    "step": _step,
    "fixed": lambda section, known: [],
    "cosineannealing": _cosine,
    "flatcosineannealing": _flat_cosine,
    "cosinerestart": _restart,
    "poly": _poly,
    "exp": _exponential,
    "inv": _inverse,
    "linearannealing": _linear,
    "onecycle": _one_cycle,
    "cyclic": _cyclic,
    "yolox": _yolox,
}


def validates_loss(workflow: Any) -> bool:
    """True if a 2.x workflow has a ('val', n) phase: the loss on the validation set is wanted.

    Raises:
        ConfigError: a workflow of another form.
    """
    names = [phase[0] for phase in workflow] if isinstance(workflow, list | tuple) else None
    if names not in (["train"], ["train", "val"]):
        raise ConfigError(f"workflow must be [('train', 1)] or [('train', 1), ('val', 1)], not {workflow!r}")
    return len(names) > 1
