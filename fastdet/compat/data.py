"""3.x dataloaders and datasets as DataSplits: paths joined, filters and classes in one form."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.config.schema import Data, DataSplit
from fastdet.registry import FrozenDict, Spec
from fastdet.utils.errors import ConfigError

from .dialect import Section, at, name_of, place_of, spec
from .pipeline import transforms
from .v2_data import SPLITS, XML_DATASETS, joined

# Loader settings that change speed or memory, never a result.
LOADER_SPEED = ("persistent_workers", "pin_memory", "prefetch_factor", "timeout", "worker_init_fn")
# Dataset settings of the same kind; `max_refetch` only bounds retries.
DATASET_SPEED = ("lazy_init", "serialize_data", "max_refetch")
# Files beside the annotations, joined with the data root as they are.
BESIDE = ("proposal_file", "label_file", "hierarchy_file", "meta_file", "image_level_ann_file")
VIEW_METAINFO = ("palette", "PALETTE", "dataset_type", "task_name", "dataset_name")


def data(cfg: ConfigDict) -> Data:
    """The three splits of a config in 3.x form; a missing or empty dataloader gives None."""
    splits = {}
    for name in SPLITS:
        loader = cfg.get(f"{name}_dataloader")
        if loader:
            splits[name] = split(loader, f"{name}_dataloader", training=name == "train")
    return Data(**splits)


def split(loader: Any, name: str, *, training: bool) -> DataSplit:
    """One dataloader.

    Raises:
        ConfigError: an unknown key or a wrong value.
        UnsupportedConfig: samplers and collations that fastdet lacks.
    """
    section = Section(loader, name)
    section.skip(*LOADER_SPEED)
    node = section.take("dataset")
    if not isinstance(node, ConfigDict):
        raise ConfigError(f"{name} needs a dataset{at(section.place())}")
    shuffle, per_class = _sampler(section, training)
    groups, drops = _batch_sampler(section)
    collate = section.take("collate_fn")
    if collate is not None and name_of(collate if isinstance(collate, Mapping) else {"type": collate}) not in (
        "pseudo_collate", "default_collate",
    ):  # fmt: skip
        raise section.unsupported(f"collate_fn={collate!r} is not supported", "leave it out", "collate_fn")
    section.only("num_batch_per_epoch", None)
    values = {
        "dataset": dataset(node, training=training),
        "batch_size": section.whole("batch_size", 1),
        "num_workers": section.whole("num_workers", 0),
        "shuffle": shuffle,
        "images_per_class": per_class,
        "group_by_aspect_ratio": groups,
        "drop_last": section.flag("drop_last", False) or drops,
    }
    section.finish()
    try:
        return DataSplit(**values)
    except ValueError as problem:
        raise ConfigError(f"{name}: {problem}{at(section.place())}") from problem


def _sampler(section: Section, training: bool) -> tuple[bool, int | None]:
    """Whether the samples are shuffled, and how many of a class follow one another if classes take turns.

    An infinite sampler reads as the default one: loops counted in iterations go on.
    """
    node = section.take("sampler")
    if node is None:
        return training, None
    inner = Section(node, f"{section.name}.sampler")
    kind = name_of(node, "DefaultSampler")
    if kind == "ClassAwareSampler":
        inner.skip("type")
        inner.only("seed", None)
        per_class = inner.whole("num_sample_class", 1)
        inner.finish()
        return True, per_class
    if kind not in ("DefaultSampler", "InfiniteSampler"):
        raise inner.unsupported(
            f"the sampler {kind!r} is not supported", "supported: DefaultSampler, InfiniteSampler, ClassAwareSampler"
        )
    # `round_up` repeats samples so that every process has as many; fastdet's evaluation counts each image once.
    inner.skip("type", "round_up")
    inner.only("seed", None)
    shuffle = inner.flag("shuffle", True)
    inner.finish()
    return bool(shuffle), None


def _batch_sampler(section: Section) -> tuple[bool, bool]:
    """Whether batches hold images of one orientation, and whether a last smaller one is dropped."""
    node = section.take("batch_sampler")
    if node is None:
        return False, False
    inner = Section(node, f"{section.name}.batch_sampler")
    kind = name_of(node)
    if kind not in ("AspectRatioBatchSampler", "BatchSampler"):
        raise inner.unsupported(f"the batch sampler {kind!r} is not supported", "supported: AspectRatioBatchSampler")
    inner.skip("type")
    drops = inner.flag("drop_last", False)
    inner.finish()
    return kind == "AspectRatioBatchSampler", bool(drops)


def dataset(node: ConfigDict, *, training: bool) -> Spec:
    """The Spec of a dataset in 3.x form, its wrapped datasets inside."""
    kind = name_of(node)
    if not kind:
        raise ConfigError(f"a dataset needs a type{at(place_of(node))}")
    if "datasets" in node or "dataset" in node:
        return _wrapper(node, kind, training)
    return _leaf(node, kind, training)


def _wrapper(node: ConfigDict, kind: str, training: bool) -> Spec:
    section = Section(node, kind)
    # MMEngine's ConcatDataset compares metainfo; fastdet compares the class names.
    section.skip("type", "lazy_init", "ignore_keys", "verify_meta")
    values: dict[str, Any] = {}
    if "datasets" in section:
        parts = section.take("datasets")
        if not isinstance(parts, list | tuple) or not parts:
            raise section.wrong("datasets", parts, "a list of datasets")
        values["datasets"] = tuple(dataset(part, training=training) for part in parts)
        if kind == "ConcatDataset" and len(values["datasets"]) == 1:
            return values["datasets"][0]
    else:
        values["dataset"] = dataset(section.take("dataset"), training=training)
    if "pipeline" in section:
        values["transforms"] = transforms(section.take("pipeline"), f"{kind}.pipeline", training=True)
    values.update(section.left())
    return spec(kind, values, node)


def _leaf(node: ConfigDict, kind: str, training: bool) -> Spec:
    """One dataset. Known arguments get fastdet's names; further ones stay, for the dataset to check."""
    section = Section(node, kind)
    section.local_files()
    section.skip("type", *DATASET_SPEED)
    root = section.text("data_root", "")
    values: dict[str, Any] = {"ann_file": _file(section, root)}
    values.update(_prefixes(section, kind, root))
    for key in BESIDE:
        path = section.text(key) if key in section else None
        if path:
            values[key] = joined(root, path)
    values.update(_metainfo(section))
    filters = section.take("filter_cfg")
    test_mode = section.flag("test_mode", None)
    if test_mode is None:
        test_mode = not training and not filters
    values.update(_filters(section, filters, test_mode), test_mode=test_mode)
    if section.take("indices") is not None:
        values["indices"] = node["indices"]
    if kind in XML_DATASETS:
        for old, new, default in (
            ("img_subdir", "image_dir", "JPEGImages"), ("ann_subdir", "ann_dir", "Annotations"),
        ):  # fmt: skip
            if section.text(old, default) != default:
                values[new] = node[old]
    pipeline = section.take("pipeline", [])
    values["transforms"] = transforms(pipeline, f"{kind}.pipeline", training=training and not test_mode)
    values.update(section.left())
    result = spec(kind, values, node)
    if isinstance(filters, ConfigDict):
        places = {key: place for key in filters if key in values and (place := filters.place(key))}
        result = replace(result, arg_sources=FrozenDict({**result.arg_sources, **places}))
    return result


def _file(section: Section, root: str) -> Any:
    file = section.take("ann_file", "")
    if isinstance(file, list | tuple):
        return tuple(joined(root, f) for f in file)
    if not isinstance(file, str):
        raise section.wrong("ann_file", file, "a path")
    return joined(root, file) if file else ""


def _prefixes(section: Section, kind: str, root: str) -> dict[str, str]:
    """data_prefix as image_dir (or VOC's root), seg_dir and so on, joined with the data root."""
    prefixes = section.take("data_prefix") or {}
    if isinstance(prefixes, str):
        prefixes = {"img": prefixes}
    if kind in XML_DATASETS:
        # WIDER Face's root is written as the folder of images.
        return {"root": joined(root, prefixes.get("sub_data_root") or prefixes.get("img", ""))}
    result = {"image_dir": joined(root, prefixes.get("img", prefixes.get("img_path", "")))}
    for key, value in prefixes.items():
        # VOC's key, left over in a COCO dataset that was made from it.
        if key not in ("img", "img_path", "sub_data_root"):
            result[f"{key}_dir"] = joined(root, value)
    return result


def _metainfo(section: Section) -> dict[str, Any]:
    """The class names, from the config or a text file, and what else describes the data beyond drawing."""
    metainfo = section.take("metainfo") or {}
    if not isinstance(metainfo, Mapping):
        raise section.wrong("metainfo", metainfo, "a dict")
    result: dict[str, Any] = {}
    names = metainfo.get("classes", metainfo.get("CLASSES"))
    if names is not None:
        result["classes"] = class_names(names, section)
    others = {k: v for k, v in metainfo.items() if k not in ("classes", "CLASSES", *VIEW_METAINFO)}
    if others:
        result["metainfo"] = others
    return result


def class_names(names: Any, section: Section) -> tuple[str, ...]:
    """Class names given as a list, or as the path of a text file with one a line."""
    if isinstance(names, str):
        try:
            lines = Path(names).read_text(encoding="utf-8").splitlines()
        except OSError as problem:
            raise ConfigError(
                f"{section.name}: classes={names!r} must be a file with a name a line, or a tuple such as ({names!r},)"
                f"{at(section.place())}\n  {problem}"
            ) from problem
        names = [line.strip() for line in lines if line.strip()]
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
        raise section.wrong("classes", names, "a list of names")
    return tuple(names)


def _filters(section: Section, filters: Any, test_mode: bool) -> dict[str, Any]:
    """Which images are left out: none in test mode."""
    inner = Section(filters or {}, f"{section.name}.filter_cfg")
    values = {"filter_empty_gt": inner.flag("filter_empty_gt", False), "min_size": inner.number("min_size", 0)}
    smallest = inner.number("bbox_min_size")
    others = inner.left()
    if test_mode:
        return {"filter_empty_gt": False, "min_size": 0, **others}
    if smallest is not None:
        values["bbox_min_size"] = smallest
    return {**values, **others}


def with_annotations(split: DataSplit, train: DataSplit) -> DataSplit:
    """A validation split whose images come with targets, for the loss: it loads annotations as the training does."""
    loading = _first_loading(train.dataset)
    return split if loading is None else replace(split, dataset=_loading(split.dataset, loading))


def _first_loading(node: Spec) -> Spec | None:
    for inner in (node, *_inner(node)):
        for transform in inner.args.get("transforms", ()):
            if transform.type == "LoadAnnotations":
                return transform
    return next((found for inner in _inner(node) if (found := _first_loading(inner))), None)


def _loading(node: Spec, loading: Spec) -> Spec:
    if "dataset" in node.args:
        return node.replace(dataset=_loading(node.args["dataset"], loading))
    if "datasets" in node.args:
        return node.replace(datasets=[_loading(part, loading) for part in node.args["datasets"]])
    steps = [step for step in node.args.get("transforms", ()) if step.type != "LoadAnnotations"]
    index = 1 + next((i for i, step in enumerate(steps) if step.type.startswith("LoadImage")), -1)
    return node.replace(transforms=(*steps[:index], loading, *steps[index:]))


def _inner(node: Spec) -> tuple[Spec, ...]:
    """The datasets inside a wrapper."""
    return tuple(d for d in (node.args.get("dataset"), *node.args.get("datasets", ())) if isinstance(d, Spec))


def classes_of(found: Data) -> tuple[str, ...]:
    """The class names that the config gives: the training set's, else another's, else none."""
    for name in SPLITS:
        part = getattr(found, name)
        names = _first_classes(part.dataset) if part else ()
        if names:
            return names
    return ()


def _first_classes(node: Spec) -> tuple[str, ...]:
    if "classes" in node.args:
        return tuple(node.args["classes"])
    return next((names for inner in _inner(node) if (names := _first_classes(inner))), ())
