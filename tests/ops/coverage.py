"""Which test shows which property of which op: `python -m tests.ops.coverage > docs/ops.md` prints the page.

`test_coverage.py` holds the page to this table, and the table to the tests that there are.
"""

COLUMNS = {
    "values": "known values, or equality with the readable reference",
    "gradient": "gradcheck in float64",
    "16 bit": "float16 and bfloat16, against float32 or float64",
    "empty": "no element",
    "finite": "NaN and infinite numbers, degenerate boxes",
    "strides": "arguments that are not contiguous",
    "any": "any input, by hypothesis",
    "range": "an index out of range is an error",
    "large": "more than 2^31 elements",
    "peer": "torchvision's, MMCV's or torch's results",
    "schema": "opcheck: schema, fake kernel, autograd",
    "compile": "torch.compile(fullgraph=True)",
    "export": "torch.export",
    "autocast": "coordinates and scores stay float32",
    "sets": "equal for all instruction sets and numbers of threads",
    "numpy": "fastdet._C gives the same",
}

NO_GRADIENT = "has no gradient"
NO_INDEX = "takes no index"
NO_FEATURES = "takes boxes and scores, which are float32 inside"
SMALL = "such a number of boxes is no use: pairs are compared"
BYTES = "takes bytes"
NO_PEER = "no installed peer has it"

TESTS: dict[str, dict[str, str]] = {
    "nms": {
        "values": "test_nms.test_known_boxes_are_kept",
        "16 bit": "test_nms.test_low_precision_boxes_equal_their_float32_values",
        "empty": "test_nms.test_no_box_and_one_box",
        "finite": "test_nms.test_nan_coordinates_never_suppress_and_are_never_suppressed",
        "strides": "test_nms.test_non_contiguous_inputs",
        "any": "test_properties.test_nms_of_enough_boxes_for_a_grid",
        "peer": "test_nms.test_agrees_with_torchvision",
        "numpy": "test_python_module.test_nms_equals_the_torch_op",
    },
    "batched_nms": {
        "values": "test_nms.test_boxes_of_other_groups_survive",
        "16 bit": "test_nms.test_low_precision_boxes_equal_their_float32_values",
        "empty": "test_nms.test_no_box_and_one_box",
        "finite": "test_nms.test_equals_the_reference_where_numbers_are_not_finite",
        "strides": "test_nms.test_non_contiguous_inputs",
        "any": "test_nms.test_equals_the_reference_on_grid_boxes",
        "peer": "test_nms.test_agrees_with_torchvision",
        "numpy": "test_python_module.test_nms_equals_the_torch_op",
    },
    "nms_padded": {
        "values": "test_nms_padded.test_equals_the_reference",
        "empty": "test_nms_padded.test_empty_sizes",
        "finite": "test_nms_padded.test_nan_scores_come_before_boxes_that_are_not_valid",
        "strides": "test_nms_padded.test_non_contiguous_inputs",
        "any": "test_properties.test_nms_padded_and_nms_match",
        "peer": NO_PEER,
        "numpy": "test_python_module.test_nms_padded_equals_the_torch_op",
    },
    "soft_nms": {
        "values": "test_soft_nms.test_known_boxes_have_mmcvs_scores",
        "empty": "test_soft_nms.test_no_boxes_and_no_valid_box",
        "finite": "test_soft_nms.test_scores_and_boxes_that_are_not_finite",
        "strides": "test_soft_nms.test_non_contiguous_inputs",
        "any": "test_soft_nms.test_equals_the_reference_on_grid_boxes",
        "peer": "test_soft_nms.test_soft_nms_agrees_with_mmcv",
        "numpy": "test_python_module.test_soft_nms_and_pasted_masks_equal_the_torch_ops",
    },
    "soft_nms_padded": {
        "values": "test_soft_nms.test_padded_cuts_and_pads_what_the_other_gives",
        "empty": "test_soft_nms.test_no_boxes_and_no_valid_box",
        "finite": "test_soft_nms.test_scores_and_boxes_that_are_not_finite",
        "strides": "test_soft_nms.test_non_contiguous_inputs",
        "any": "test_soft_nms.test_equals_the_reference_on_grid_boxes",
        "peer": NO_PEER,
        "numpy": "test_python_module.test_soft_nms_and_pasted_masks_equal_the_torch_ops",
    },
    "nms_match": {
        "values": "test_soft_nms.test_every_box_knows_its_owner",
        "empty": "test_soft_nms.test_no_box_has_no_owner",
        "finite": "test_soft_nms.test_matches_equal_the_reference",
        "strides": "test_soft_nms.test_non_contiguous_inputs",
        "any": "test_properties.test_nms_padded_and_nms_match",
        "peer": NO_PEER,
        "numpy": "test_python_module.test_nms_match_equals_the_torch_op",
    },
    "roi_align": {
        "values": "test_roi_align.test_known_values",
        "gradient": "test_roi_align.test_gradcheck",
        "16 bit": "test_roi_align.test_error_is_bounded_by_the_rounding_of_the_result",
        "empty": "test_roi_align.test_empty_inputs",
        "finite": "test_roi_align.test_degenerate_rois_give_zeros",
        "strides": "test_roi_align.test_strided_features_are_read_as_they_lie",
        "any": "test_properties.test_roi_align",
        "range": "test_roi_align.test_an_image_out_of_range_is_an_error_on_the_cpu",
        "large": "test_large.test_pooling_of_the_last_image",
        "peer": "test_roi_align.test_agrees_with_torchvision_per_level",
        "autocast": "test_registration.test_autocast_keeps_features_and_widens_coordinates",
        "numpy": "test_python_module.test_roi_align_equals_the_torch_op",
    },
    "roi_pool": {
        "values": "test_roi_max_pool.test_the_largest_cell_of_each_bin_is_taken",
        "gradient": "test_roi_max_pool.test_gradcheck",
        "16 bit": "test_roi_max_pool.test_half_features_are_rounded_once",
        "empty": "test_roi_max_pool.test_no_rois_and_a_bad_batch_index",
        "finite": "test_roi_max_pool.test_rois_without_cells_or_not_finite_give_zeros",
        "strides": "test_roi_max_pool.test_strided_features_are_read_as_they_lie",
        "any": "test_properties.test_roi_pool",
        "range": "test_roi_max_pool.test_no_rois_and_a_bad_batch_index",
        "large": "test_large.test_pooling_of_the_last_image",
        "peer": "test_roi_max_pool.test_roi_pool_equals_torchvision",
        "autocast": "test_registration.test_autocast_keeps_features_of_maximum_pooling",
        "numpy": "test_python_module.test_maximum_poolings_equal_the_torch_ops",
    },
    "deform_conv2d": {
        "values": "test_deform_conv2d.test_known_values_of_version_1",
        "gradient": "test_deform_conv2d.test_gradcheck",
        "16 bit": "test_deform_conv2d.test_low_precision_errs_by_the_rounding_of_the_result_alone",
        "empty": "test_deform_conv2d.test_no_image_and_one_cell",
        "finite": "test_deform_conv2d.test_offsets_that_are_not_numbers_or_far_away_sample_zero",
        "strides": "test_deform_conv2d.test_non_contiguous_arguments",
        "any": "test_deform_conv2d.test_equals_a_convolution_of_the_shifted_image",
        "large": "test_large.test_deformable_convolution_of_the_last_image",
        "peer": "test_deform_conv2d.test_agrees_with_torchvision",
        "autocast": "test_deform_conv2d.test_autocast_keeps_offsets_in_float32",
        "numpy": "test_python_module.test_deform_conv2d_equals_the_torch_op",
    },
    "ms_deform_attn": {
        "values": "test_ms_deform_attn.test_known_values",
        "gradient": "test_ms_deform_attn.test_gradcheck",
        "16 bit": "test_ms_deform_attn.test_low_precision_errs_by_the_rounding_of_the_result_alone",
        "empty": "test_ms_deform_attn.test_empty_inputs",
        "finite": "test_ms_deform_attn.test_locations_that_are_not_numbers_or_far_away_count_nothing",
        "strides": "test_ms_deform_attn.test_non_contiguous_arguments",
        "any": "test_ms_deform_attn.test_equals_grid_sample_for_any_sizes",
        "large": "test_large.test_attention_to_the_last_image",
        "peer": "test_ms_deform_attn.test_equals_grid_sample_for_any_sizes",
        "autocast": "test_ms_deform_attn.test_autocast_keeps_locations_in_float32",
        "numpy": "test_python_module.test_ms_deform_attn_equals_the_torch_op",
    },
    "grid_anchors": {
        "values": "test_grid_anchors.test_order_is_level_row_column_base",
        "empty": "test_grid_anchors.test_levels_without_cells",
        "finite": "adds numbers as they are",
        "strides": "test_grid_anchors.test_strided_base_anchors",
        "any": "test_properties.test_grid_anchors",
        "large": "so many anchors take 32 GiB",
        "peer": NO_PEER,
        "numpy": "test_python_module.test_grid_anchors_equal_the_torch_op",
    },
    "dense_postprocess": {
        "values": "test_dense_postprocess.test_known_detections",
        "16 bit": "test_dense_postprocess.test_low_precision_is_read_as_it_is",
        "empty": "test_dense_postprocess.test_nothing_gives_empty_slots",
        "finite": "test_dense_postprocess.test_nan_and_infinite_numbers",
        "strides": "test_dense_postprocess.test_tensors_that_are_not_contiguous",
        "any": "test_dense_postprocess.test_any_lattice_equals_the_reference",
        "large": "test_large.test_a_candidate_behind_all_others",
        "peer": "compared with torchvision's RetinaNet and region proposals where they are timed, in `benchmarks/ops`",
        "numpy": "test_python_module.test_dense_postprocess_equals_the_torch_op",
    },
    "assign_max_iou": {
        "values": "test_assign_max_iou.test_known_assignments",
        "empty": "test_assign_max_iou.test_no_candidate_and_no_image",
        "finite": "test_assign_max_iou.test_nan_boxes_and_objects_overlap_nothing",
        "strides": "test_assign_max_iou.test_boxes_may_be_shared_by_the_images",
        "any": "test_assign_max_iou.test_equals_the_reference_on_grid_boxes",
        "peer": NO_PEER,
        "numpy": "test_python_module.test_assign_max_iou_equals_the_torch_op",
    },
    "box_iou": {
        "values": "test_box_iou.test_values_computed_by_hand",
        "gradient": "paired_box_iou has it",
        "empty": "test_box_iou.test_no_boxes_and_no_partners",
        "finite": "test_box_iou.test_boxes_that_are_empty_inverted_or_not_finite_do_no_harm",
        "strides": "test_box_iou.test_shapes_strides_and_low_precision",
        "any": "test_properties.test_box_iou",
        "large": "such a matrix takes 8 GiB",
        "peer": "test_box_iou.test_agrees_with_torchvision",
        "numpy": "test_python_module.test_overlaps_equal_the_torch_ops",
    },
    "paired_box_iou": {
        "values": "test_box_iou.test_values_computed_by_hand",
        "gradient": "test_box_iou.test_gradcheck",
        "empty": "test_box_iou.test_no_boxes_and_no_partners",
        "finite": "test_box_iou.test_boxes_that_are_empty_inverted_or_not_finite_do_no_harm",
        "strides": "test_box_iou.test_shapes_strides_and_low_precision",
        "any": "test_properties.test_box_iou",
        "large": "so many pairs take 64 GiB",
        "peer": "test_box_iou.test_agrees_with_torchvision",
        "numpy": "test_python_module.test_overlaps_equal_the_torch_ops",
    },
    "sigmoid_focal_loss": {
        "values": "test_sigmoid_focal_loss.test_values_computed_by_hand",
        "gradient": "test_sigmoid_focal_loss.test_gradcheck",
        "16 bit": "test_sigmoid_focal_loss.test_half_logits_are_computed_in_float32",
        "empty": "test_sigmoid_focal_loss.test_no_rows_no_classes_and_one_row_without_others",
        "finite": "test_sigmoid_focal_loss.test_infinite_logits_have_their_limits_and_nan_stays",
        "strides": "test_sigmoid_focal_loss.test_leading_dimensions_and_strides_do_not_matter",
        "any": "test_properties.test_sigmoid_focal_loss",
        "range": "a label out of range is a row that is left out",
        "large": "computing so many losses takes half a minute",
        "peer": "test_sigmoid_focal_loss.test_equals_torchvision_with_one_hot_targets",
        "numpy": "test_python_module.test_sigmoid_focal_loss_equals_the_torch_op",
    },
    "fit_images": {
        "values": "test_fit_images.test_equals_the_reference",
        "16 bit": BYTES,
        "empty": "test_fit_images.test_no_pictures_are_no_images",
        "finite": BYTES,
        "strides": "pictures lie in one row of bytes, read from its start",
        "any": "test_fit_images.test_equals_opencv_at_drawn_sizes",
        "range": "test_fit_images.test_a_picture_out_of_bounds_is_named",
        "large": "more than 2 GiB of pictures",
        "peer": "test_fit_images.test_equals_opencv_at_sizes_of_note",
        "autocast": BYTES,
        "numpy": "test_python_module.test_fitted_images_equal_the_torch_op",
    },
    "paste_masks": {
        "values": "test_paste_masks.test_a_full_mask_fills_the_pixels_whose_centres_lie_in_the_box",
        "16 bit": "test_paste_masks.test_low_precision_and_strided_masks",
        "empty": "test_paste_masks.test_no_instances_and_no_pixels",
        "finite": "test_paste_masks.test_boxes_outside_the_image_inverted_or_not_finite_give_empty_masks",
        "strides": "test_paste_masks.test_low_precision_and_strided_masks",
        "any": "test_properties.test_paste_masks",
        "large": "test_large.test_bitmaps_of_more_pixels",
        "peer": "test_paste_masks.test_equals_sampling_at_every_pixel",
        "numpy": "test_python_module.test_soft_nms_and_pasted_masks_equal_the_torch_ops",
    },
    "crop_masks": {
        "values": "test_crop_masks.test_a_box_on_its_own_mask_returns_the_mask",
        "empty": "test_crop_masks.test_no_boxes_and_no_masks",
        "finite": "test_crop_masks.test_strided_arguments_and_boxes_that_are_not_finite",
        "strides": "test_crop_masks.test_strided_arguments_and_boxes_that_are_not_finite",
        "any": "test_properties.test_crop_masks",
        "range": "test_crop_masks.test_a_mask_out_of_range_is_an_error_on_the_cpu",
        "large": "test_large.test_a_mask_behind_all_others",
        "peer": "test_crop_masks.test_equals_torchvision_bit_for_bit",
        "numpy": "test_python_module.test_crop_masks_equal_the_torch_op",
    },
}

FOR_ALL = {
    "schema": "test_registration.test_opcheck",
    "compile": "test_registration.test_compiles_as_one_graph_with_gradients",
    "export": "test_registration.test_exports",
    "autocast": "test_registration.test_autocast_leaves_coordinates_and_scores_in_float32",
    "sets": "test_instruction_sets.test_every_set_gives_what_the_chosen_one_gives",
}
HERE = {"nms": "test_registration.test_results_of_unknown_size_compile_as_one_graph"}
HERE["batched_nms"] = HERE["soft_nms"] = HERE["nms"]

WITHOUT = {
    "gradient": NO_GRADIENT,
    "16 bit": NO_FEATURES,
    "range": NO_INDEX,
    "large": SMALL,
}

HEAD = """# What is tested of each op

Printed by `python -m tests.ops.coverage > docs/ops.md` from the table in `tests/ops/coverage.py`, which names a test
for each cell. `nms_levels` and `top_indices` are made of torch's ops and have tests of their own; `rpn_proposals` is
`dense_postprocess`.
"""


def test_of(op: str, column: str) -> str:
    """ "file.test", or why there is none."""
    if column == "compile" and op in HERE:
        return HERE[op]
    own = TESTS[op].get(column)
    return own or FOR_ALL.get(column) or WITHOUT[column]


def is_test(cell: str) -> bool:
    return cell.startswith("test_")


def page() -> str:
    """The page: what the columns mean, the table, and the reasons of empty cells."""
    lines = [HEAD, *(f"- {name}: {meaning}" for name, meaning in COLUMNS.items()), ""]
    lines += ["| op | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    reasons: dict[str, int] = {}
    for op in TESTS:
        cells = [test_of(op, column) for column in COLUMNS]
        marks = ["yes" if is_test(cell) else f"({reasons.setdefault(cell, len(reasons) + 1)})" for cell in cells]
        lines.append(f"| `{op}` | " + " | ".join(marks) + " |")
    lines += ["", *(f"({number}) {reason}." for reason, number in reasons.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
