"""Hooks: what is optional in a training, at five points."""

from fastdet.engine.hooks.base import Hook, build_hooks
from fastdet.engine.hooks.switches import PipelineSwitchHook, YOLOXModeSwitchHook

__all__ = ["Hook", "PipelineSwitchHook", "YOLOXModeSwitchHook", "build_hooks"]
