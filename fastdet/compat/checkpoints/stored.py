"""The config that a checkpoint holds."""

from collections.abc import Sequence

from fastdet.compat.checkpoints.load import Checkpoint
from fastdet.config.configdict import ConfigDict
from fastdet.config.literal import read_literal
from fastdet.config.overrides import apply_overrides, parse_overrides
from fastdet.utils.errors import CheckpointError


def stored_config(checkpoint: Checkpoint, overrides: Sequence[str] = ()) -> ConfigDict:
    """The config in a checkpoint of 2.x (`meta.config`), 3.x or fastdet (`meta.cfg`). Its text is read, not run.

    Args:
        overrides: "a.b.0.c=value" strings, as --cfg-options takes them.

    Raises:
        CheckpointError: the file holds no config.
        ConfigError: its config is not made of plain values, or an override is refused.
    """
    text = checkpoint.config_text
    if not text:
        raise CheckpointError(f"{checkpoint.path} does not hold its config: give the config file beside it")
    config = read_literal(text, f"{checkpoint.path}:config")
    return apply_overrides(config, parse_overrides(overrides)) if overrides else config
