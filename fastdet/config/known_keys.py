"""Keys that MMDetection's configs usually have, so that an override may add them to a config that lacks them.

Only sections without a `type` need a table: the arguments of parts are checked by the parts.
"""

_TOP_LEVEL = """
    model dataset_type data_root data train_pipeline test_pipeline img_norm_cfg evaluation optimizer optimizer_config
    lr_config momentum_config runner total_epochs checkpoint_config log_config custom_hooks dist_params log_level
    load_from reinit_head resume_from auto_resume workflow work_dir opencv_num_threads mp_start_method auto_scale_lr
    fp16 seed deterministic gpu_ids device cudnn_benchmark find_unused_parameters custom_imports file_client_args
    classes metainfo train_dataloader val_dataloader test_dataloader train_cfg val_cfg test_cfg val_evaluator
    test_evaluator optim_wrapper param_scheduler default_scope default_hooks env_cfg vis_backends visualizer
    log_processor resume backend_args randomness experiment_name launcher tta_model tta_pipeline model_wrapper_cfg cfg
    sync_bn compile
"""

_DATASET = "type ann_file img_prefix seg_prefix proposal_file data_root data_prefix pipeline classes metainfo"
_DATASET += " filter_empty_gt filter_cfg test_mode samples_per_gpu indices times dataset datasets"
_LOADER = "batch_size num_workers persistent_workers pin_memory drop_last sampler batch_sampler collate_fn dataset"
_LOADER += " prefetch_factor samples_per_gpu workers_per_gpu shuffle seed"
_CLIP = "max_norm norm_type clip_value"
_PARAMWISE = "custom_keys norm_decay_mult bias_lr_mult bias_decay_mult dwconv_decay_mult dcn_offset_lr_mult"
_PARAMWISE += " bypass_duplicate flat_decay_mult decay_rate decay_type num_layers"
_DENSE_TRAIN = "assigner sampler allowed_border pos_weight debug center_ratio ignore_ratio mask_size"
_PROPOSALS = "nms_pre nms_post max_per_img max_num nms_thr nms min_bbox_size nms_across_levels"
_DENSE_TEST = f"{_PROPOSALS} score_thr mask_thr_binary"

_SECTIONS = {
    "data": "samples_per_gpu workers_per_gpu persistent_workers train val test train_dataloader val_dataloader"
    " test_dataloader shuffle",
    **dict.fromkeys(["data.train", "data.val", "data.test"], _DATASET),
    **dict.fromkeys(["data.train_dataloader", "data.val_dataloader", "data.test_dataloader"], _LOADER),
    **dict.fromkeys(["train_dataloader", "val_dataloader", "test_dataloader"], _LOADER),
    "evaluation": "interval metric classwise proposal_nums iou_thrs iou_thr save_best rule start dynamic_intervals"
    " metric_items jsonfile_prefix format_only",
    "optimizer.paramwise_cfg": _PARAMWISE,
    "optimizer_config": "type grad_clip cumulative_iters loss_scale detect_anomalous_params",
    "optimizer_config.grad_clip": _CLIP,
    "optim_wrapper": "type optimizer clip_grad paramwise_cfg accumulative_counts constructor loss_scale dtype",
    "optim_wrapper.clip_grad": _CLIP,
    "optim_wrapper.paramwise_cfg": _PARAMWISE,
    "lr_config": "policy step gamma warmup warmup_iters warmup_ratio warmup_by_epoch by_epoch min_lr min_lr_ratio"
    " power num_last_epochs",
    "runner": "type max_epochs max_iters",
    "checkpoint_config": "interval by_epoch max_keep_ckpts save_optimizer save_last out_dir",
    "log_config": "interval hooks",
    "dist_params": "backend port",
    "auto_scale_lr": "enable base_batch_size",
    "fp16": "loss_scale",
    "randomness": "seed deterministic diff_rank_seed",
    "env_cfg": "cudnn_benchmark mp_cfg dist_cfg resource_limit",
    "env_cfg.mp_cfg": "mp_start_method opencv_num_threads",
    "env_cfg.dist_cfg": "backend timeout",
    "default_hooks": "timer logger param_scheduler checkpoint sampler_seed visualization runtime_info early_stopping",
    "custom_imports": "imports allow_failed_imports",
    "train_cfg": f"type by_epoch max_epochs max_iters val_interval val_begin dynamic_intervals {_DENSE_TRAIN}"
    " rpn rpn_proposal rcnn",
    "test_cfg": f"type fp16 rpn rcnn {_DENSE_TEST}",
    "val_cfg": "type fp16",
    "model.train_cfg": f"{_DENSE_TRAIN} rpn rpn_proposal rcnn",
    "model.test_cfg": f"{_DENSE_TEST} rpn rcnn",
}
_SECTIONS |= {
    f"{p}train_cfg.{s}": k
    for p in ("", "model.")
    for s, k in (("rpn", _DENSE_TRAIN), ("rcnn", _DENSE_TRAIN), ("rpn_proposal", _PROPOSALS))
}
_SECTIONS |= {f"{p}test_cfg.{s}": _DENSE_TEST for p in ("", "model.") for s in ("rpn", "rcnn")}

_KNOWN = {tuple(name.split(".")): frozenset(keys.split()) for name, keys in {"": _TOP_LEVEL, **_SECTIONS}.items()}
# `"".split(".")` is [""]: the top level's own path is the empty tuple.
_KNOWN[()] = _KNOWN.pop(("",))


def is_known(path: tuple[str, ...]) -> bool:
    """Whether MMDetection's configs (2.x or 3.x) use that key path; free variables are not known."""
    return bool(path) and path[-1] in _KNOWN.get(path[:-1], frozenset())


def known_under(path: tuple[str, ...]) -> frozenset[str]:
    """The keys that MMDetection's configs use at a key path, empty where parts decide."""
    return _KNOWN.get(path, frozenset())
