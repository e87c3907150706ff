"""The 2.x `data` section as 3.x dataloaders: batch sizes, wrappers, prefixes, filters."""

import os.path
from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.utils.errors import ConfigError

from .dialect import Section, as_list, at, derived, name_of, place_of, rename
from .v2_pipeline import upgrade_pipeline

SPLITS = ("train", "val", "test")
# Datasets in VOC's layout: one root holds JPEGImages/ and Annotations/.
XML_DATASETS = frozenset({"XMLDataset", "VOCDataset", "WIDERFaceDataset"})
# 2.x leaves out training images whose shorter side is below this; 3.x writes it as filter_cfg.min_size.
OLD_MIN_SIZE = 32
OLD_LEAF_KEYS = ("img_prefix", "seg_prefix", "filter_empty_gt", "classes", "min_size", "seg_suffix")


def split_loaders(data: ConfigDict) -> dict[str, ConfigDict]:
    """What a 2.x `data` dict says about each dataloader, in 3.x keys; only what is written, no defaults.

    Raises:
        ConfigError: an unknown key.
        UnsupportedConfig: a sampler that fastdet lacks.
    """
    section = Section(data, "data")
    samples = section.take("imgs_per_gpu", section.take("samples_per_gpu"))
    workers = section.take("workers_per_gpu")
    section.skip("persistent_workers", "pin_memory")
    loaders = {split: _loader(section.take(f"{split}_dataloader"), split) for split in SPLITS}
    if samples is not None:
        key = "imgs_per_gpu" if "imgs_per_gpu" in data else "samples_per_gpu"
        loaders["train"].put("batch_size", samples, data.place(key))
    for split, loader in loaders.items():
        if workers is not None:
            loader.put("num_workers", workers, data.place("workers_per_gpu"))
        dataset = section.take(split)
        if dataset is None:
            continue
        batch_sizes = [_pop_samples(d) for d in as_list(dataset)]
        if any(batch_sizes):
            loader.put("batch_size", max(b for b in batch_sizes if b), place_of(dataset))
        loader.put("dataset", upgrade_dataset(dataset, is_old=True, training=split == "train"), data.place(split))
    section.finish()
    return loaders


def _pop_samples(dataset: Any) -> int | None:
    return dataset.pop("samples_per_gpu", None) if isinstance(dataset, ConfigDict) else None


def _loader(node: ConfigDict | None, split: str) -> ConfigDict:
    """`data.train_dataloader` and its like in 3.x keys."""
    result = derived(node)
    section = Section(node or {}, f"data.{split}_dataloader")
    section.skip("persistent_workers", "pin_memory", "prefetch_factor")
    for old, new in (("samples_per_gpu", "batch_size"), ("workers_per_gpu", "num_workers"), ("drop_last", "drop_last")):
        if old in section:
            result.put(new, section.take(old), section.place(old))
    if "shuffle" in section:
        sampler = derived(node, "shuffle", type="DefaultSampler", shuffle=section.flag("shuffle"))
        result.put("sampler", sampler, section.place("shuffle"))
    balanced = section.take("class_aware_sampler")
    if balanced is not None:
        sampler = derived(node, "class_aware_sampler", type="ClassAwareSampler", _delete_=True, **balanced)
        result.put("sampler", sampler, None)
        result.put("batch_sampler", None, None)  # it does not group by orientation in 2.x
    section.finish("samples_per_gpu", "workers_per_gpu", "drop_last", "shuffle")
    return result


def upgrade_dataset(dataset: Any, *, is_old: bool, training: bool) -> Any:
    """A dataset dict, wrapped or not, with every 2.x key in 3.x form.

    Args:
        is_old: it stands in a 2.x `data` section, where defaults are 2.x's; otherwise a leaf is read as 2.x only if
            one of its keys is.
        training: False makes the leaves test datasets if they are 2.x's.
    """
    if isinstance(dataset, list | tuple):
        parts = [upgrade_dataset(part, is_old=is_old, training=training) for part in dataset]
        return derived(dataset[0] if dataset else None, type="ConcatDataset", datasets=parts)
    if not isinstance(dataset, ConfigDict):
        raise ConfigError(f"a dataset must be a dict, not {dataset!r}")
    node = ConfigDict(dataset)
    if "pipeline" in node and isinstance(node["pipeline"], list | tuple):
        name = f"{name_of(node, 'dataset')}.pipeline"
        pipeline = upgrade_pipeline(node["pipeline"], is_old=is_old or _is_old_leaf(node), name=name)
        node.put("pipeline", pipeline, node.place("pipeline"))
    if "datasets" in node:
        parts = [upgrade_dataset(part, is_old=is_old, training=training) for part in as_list(node["datasets"])]
        node.put("datasets", parts, node.place("datasets"))
        node.pop("separate_eval", None)
    elif "dataset" in node:
        inner = upgrade_dataset(node["dataset"], is_old=is_old, training=training)
        node.put("dataset", inner, node.place("dataset"))
    elif isinstance(node.get("ann_file"), list | tuple):
        return _concatenated(node, is_old=is_old, training=training)
    elif is_old or _is_old_leaf(node):
        return _leaf(node, training)
    return node


def _is_old_leaf(node: ConfigDict) -> bool:
    return any(key in node for key in OLD_LEAF_KEYS)


def _concatenated(node: ConfigDict, *, is_old: bool, training: bool) -> ConfigDict:
    """One dataset of several annotation files, as a ConcatDataset of one dataset each."""
    node.pop("separate_eval", None)
    files = list(node["ann_file"])
    parts = []
    for index, file in enumerate(files):
        part = ConfigDict(node)
        part.put("ann_file", file, node.place("ann_file"))
        for key in ("img_prefix", "seg_prefix", "proposal_file"):
            if isinstance(node.get(key), list | tuple):
                if len(node[key]) != len(files):
                    raise ConfigError(
                        f"{len(files)} annotation files but {len(node[key])} values in {key}{at(node.place(key))}\n"
                        "  give one for each, or one string for all"
                    )
                part.put(key, node[key][index], node.place(key))
        parts.append(upgrade_dataset(part, is_old=is_old, training=training))
    return derived(node, type="ConcatDataset", datasets=parts)


def _leaf(node: ConfigDict, training: bool) -> ConfigDict:
    """One dataset's 2.x keys as data_prefix, metainfo and filter_cfg.

    A dict without `type` overrides parts of a base's dataset: no defaults are filled in then.
    """
    kind = name_of(node)
    prefix, filters = ConfigDict(node.get("data_prefix") or {}), ConfigDict(node.get("filter_cfg") or {})
    image_key = "sub_data_root" if kind in XML_DATASETS else "img"
    for old, new in (("img_prefix", image_key), ("seg_prefix", "seg")):
        if old in node:
            source = node.place(old)
            prefix.put(new, node.pop(old) or "", source)
    if prefix:
        node.put("data_prefix", prefix, prefix.place(next(iter(prefix))))
    if node.get("classes") is not None:
        metainfo = ConfigDict(node.get("metainfo") or {})
        metainfo.put("classes", node["classes"], node.place("classes"))
        node.put("metainfo", metainfo, node.place("classes"))
    node.pop("classes", None)
    if "seg_suffix" in node:
        rename(node, "seg_suffix", "seg_map_suffix")
    if "filter_empty_gt" in node:
        source = node.place("filter_empty_gt")
        filters.put("filter_empty_gt", node.pop("filter_empty_gt"), source)
    if "min_size" in node and kind in XML_DATASETS:
        source = node.place("min_size")
        filters.put("bbox_min_size", node.pop("min_size"), source)
    # Open Images is not filtered, in neither release.
    if "type" in node and training and not node.get("test_mode") and not kind.startswith("OpenImages"):
        filters.setdefault("filter_empty_gt", True)
        filters.setdefault("min_size", OLD_MIN_SIZE)
    if filters and not (training is False or node.get("test_mode")):
        node.put("filter_cfg", filters, node.place("filter_empty_gt"))
    if not training:
        node.pop("filter_cfg", None)
        node.put("test_mode", True, node.source)
    return node


def join_paths(dataset: Any) -> Any:
    """A 3.x dataset dict with data_root joined into its paths, so that 2.x paths can be laid over it."""
    if isinstance(dataset, list | tuple):
        return [join_paths(part) for part in dataset]
    if not isinstance(dataset, ConfigDict):
        return dataset
    node = ConfigDict(dataset)
    for key in ("dataset", "datasets"):
        if key in node:
            node.put(key, join_paths(node[key]), node.place(key))
    root = node.pop("data_root", None)
    if not root:
        return node
    for key in ("ann_file", "proposal_file"):
        if isinstance(node.get(key), str) and node[key]:
            node.put(key, joined(root, node[key]), node.place(key))
    if isinstance(node.get("data_prefix"), dict):
        old = ConfigDict(node["data_prefix"])
        prefix = ConfigDict(old)
        for key, value in old.items():
            prefix.put(key, joined(root, value), old.place(key))
        node.put("data_prefix", prefix, node.place("data_prefix"))
    return node


def joined(root: str | None, path: str | None) -> str:
    """`path` under `root` unless it is absolute or an address; without superfluous slashes and dots."""
    path = path or ""
    if root and "://" not in path and not os.path.isabs(path):
        path = os.path.join(root, path)
    return path if not path or "://" in path else os.path.normpath(path)
