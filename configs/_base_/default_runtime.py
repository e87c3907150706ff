"""Logging, checkpoints and logs that the shipped configs share."""

default_scope = "mmdet"
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=20),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=2, save_best="auto"),
)
load_from = None
resume = False
randomness = dict(seed=0)
