"""Deployment: exported graphs, the proof that they compute the same detections, and what runs them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastdet.deploy.runtime import BucketedDetector, DeployedDetector, load

__all__ = ["BucketedDetector", "DeployedDetector", "load"]


def __getattr__(name: str) -> Any:
    """Loads the runtime on first use, so that a look into the package needs no onnx."""
    if name in __all__:
        from fastdet.deploy import runtime

        return getattr(runtime, name)
    raise AttributeError(f"module 'fastdet.deploy' has no attribute {name!r}")
