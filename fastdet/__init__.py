"""fastdet trains, tests and deploys object detectors."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastdet.api import Detector, inference_detector, init_detector

__version__ = "0.1.0"
__all__ = ["Detector", "__version__", "inference_detector", "init_detector"]


def __getattr__(name: str) -> Any:
    """Loads the Python API on first use, so that `fastdet --help` needs no torch."""
    if name in ("Detector", "inference_detector", "init_detector"):
        from fastdet import api

        return getattr(api, name)
    raise AttributeError(f"module 'fastdet' has no attribute {name!r}")
