"""Normalize and Pad of a 2.x pipeline, folded into the model's data_preprocessor as 3.x writes it."""

from dataclasses import dataclass
from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.registry import Source
from fastdet.utils.errors import ConfigError, UnsupportedConfig

from .dialect import Section, at, derived, frozen, name_of, place_of, warn

# They move or drop pixels only, so normalising after instead of before them gives the same numbers.
GEOMETRIC = frozenset({"RandomFlip", "RandomCrop", "FilterAnnotations", "SegRescale", "LoadAnnotations"})


@dataclass(frozen=True)
class Folded:
    """What a pipeline says about normalising and padding.

    `size` is (height, width); `is_padded` tells that its split pads images before they are normalised.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    to_rgb: bool = False
    divisor: int | None = None
    size: tuple[int, int] | None = None
    with_mask: bool = False
    is_padded: bool = False
    source: Source | None = None


def fold(pipeline: list[ConfigDict]) -> tuple[list[ConfigDict], Folded | None]:
    """The pipeline (in 3.x form) without Normalize and the Pad after it, and what they said.

    Raises:
        UnsupportedConfig: a transform after Normalize that works on normalised pixels.
    """
    index = next((i for i, node in enumerate(pipeline) if name_of(node) == "Normalize"), None)
    if index is None:
        return pipeline, None
    section = Section(pipeline[index], "Normalize")
    section.skip("type")
    mean, std, to_rgb = section.take("mean"), section.take("std"), section.flag("to_rgb", True)
    section.finish()
    kept = pipeline[:index]
    divisor, size = None, None
    for node in pipeline[index + 1 :]:
        kind = name_of(node)
        if kind == "Pad" and _pads_zeros(node) and node.get("size_divisor"):
            divisor = node["size_divisor"]
        elif kind == "Pad" and _pads_zeros(node) and node.get("size"):
            width, height = node["size"]
            size = (height, width)
        elif kind in GEOMETRIC:
            kept.append(node)
        else:
            raise UnsupportedConfig(
                f"{kind} after Normalize works on normalised pixels{at(place_of(node))}\n"
                f"  put it before Normalize: fastdet normalises on the device, after all transforms"
            )
    masks = any(name_of(node) == "LoadAnnotations" and node.get("with_mask") for node in kept)
    return kept, Folded(frozen(mean), frozen(std), to_rgb, divisor, size, masks, source=section.place())


def _pads_zeros(node: ConfigDict) -> bool:
    value = node.get("pad_val", 0)
    value = value.get("img", 0) if isinstance(value, dict) else value
    zeros = all(v == 0 for v in value) if isinstance(value, list | tuple) else value == 0
    return zeros and not node.get("pad_to_square")


def write_preprocessor(model: ConfigDict, train: list[Folded], tests: list[Folded], *, main: str | None) -> None:
    """Puts what the training and the test pipelines said into model.data_preprocessor.

    Args:
        main: the file that was asked for; its Normalize counts more than a base file's data_preprocessor.

    Raises:
        ConfigError: the model normalises already, with other numbers.
        UnsupportedConfig: pipelines that do not agree.
    """
    everything = train + tests
    if not everything:
        return
    first = everything[0]
    for other in everything[1:]:
        if (other.mean, other.std, other.to_rgb) != (first.mean, first.std, first.to_rgb):
            raise UnsupportedConfig(
                f"two pipelines normalise with different numbers{at(first.source)}{at(other.source)}\n"
                "  fastdet normalises inside the model: use one mean, std and to_rgb"
            )
    sizes = {f.size for f in train}
    if len(sizes) > 1 or any(f.size for f in tests):
        raise UnsupportedConfig(
            f"Pad(size=...) after Normalize is supported in all training pipelines or none{at(first.source)}\n"
            "  in a test pipeline use Pad(size_divisor=...)"
        )
    divisors = {f.divisor or 1 for f in everything if f.size is None and (f.divisor or not f.is_padded)}
    if len(divisors) > 1:
        raise UnsupportedConfig(
            f"two pipelines pad to different multiples: {sorted(divisors)}{at(first.source)}\n"
            "  fastdet pads batches in one way: use one Pad(size_divisor=...)"
        )
    divisor = max(divisors, default=1)
    values: dict[str, Any] = {"mean": first.mean, "std": first.std, "bgr_to_rgb": first.to_rgb}
    old = model.get("data_preprocessor")
    if isinstance(old, ConfigDict) and old.get("mean") is not None:
        if not _is_same(old, values, first.source, main):
            for key, value in values.items():
                old.put(key, value, first.source)
        return
    node = derived(old if isinstance(old, dict) else model, type="DetDataPreprocessor")
    node.source = first.source
    for key, value in values.items():
        node.put(key, value, first.source)
    node.put("pad_size_divisor", divisor, first.source)
    if any(f.with_mask for f in everything):
        node.put("pad_mask", True, first.source)
    if train and train[0].size is not None:
        pad: dict[str, Any] = {"type": "BatchFixedSizePad", "size": train[0].size}
        if train[0].with_mask:
            pad["pad_mask"] = True
        node.put("batch_augments", [derived(node, **pad)], train[0].source)
    if isinstance(old, dict):
        for key, value in old.items():
            node.put(key, value, place_of(old, key))
    model.put("data_preprocessor", node, first.source)


def _is_same(old: ConfigDict, values: dict[str, Any], source: Source | None, main: str | None) -> bool:
    """Whether a data_preprocessor has Normalize's numbers; False if it stands in a base file and has others.

    Raises:
        ConfigError: two different answers, neither nearer than the other.
    """
    found = {"mean": frozen(old["mean"]), "std": frozen(old.get("std")), "bgr_to_rgb": old.get("bgr_to_rgb", False)}
    if found == values:
        return True
    place = old.place("mean")
    if source is not None and place is not None and source.file == main != place.file:
        warn("the pipelines' Normalize is used, not the data_preprocessor of the base config", source)
        return False
    raise ConfigError(
        f"Normalize and model.data_preprocessor give different numbers: {values} and {found}{at(source)}{at(place)}\n"
        "  remove Normalize from the pipelines (3.x) or data_preprocessor from the model (2.x)"
    )
