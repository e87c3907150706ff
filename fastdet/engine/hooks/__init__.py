"""Hooks: what is optional in a training, at five points."""

from fastdet.engine.hooks.base import Hook, build_hooks

__all__ = ["Hook", "build_hooks"]
