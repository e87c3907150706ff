// The schemas of torch.ops.fastdet and the module fastdet._ops, whose import registers them.
#include <Python.h>
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(fastdet, m) {
  m.def("nms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor");
  m.def("batched_nms(Tensor boxes, Tensor scores, Tensor groups, float iou_threshold) -> Tensor");
  m.def(
      "nms_padded(Tensor boxes, Tensor scores, Tensor? groups, Tensor? valid, float iou_threshold, "
      "SymInt max_output) -> (Tensor, Tensor)");
  m.def(
      "roi_align(Tensor[] features, Tensor rois, Tensor? levels, float[] spatial_scales, SymInt output_h, "
      "SymInt output_w, int sampling_ratio, bool aligned, float finest_scale, bool channels_last) -> Tensor");
  m.def(
      "roi_align_backward(Tensor grad, Tensor rois, Tensor? levels, float[] spatial_scales, SymInt batch, "
      "SymInt[] sizes, int sampling_ratio, bool aligned, float finest_scale, bool channels_last) -> Tensor[]");
  m.def("grid_anchors(Tensor base_anchors, SymInt[] sizes, float[] strides) -> Tensor");
  m.def(
      "crop_masks(Tensor bits, Tensor offsets, Tensor windows, Tensor mask_index, Tensor boxes, "
      "SymInt output_size, SymInt image_h, SymInt image_w) -> Tensor");
  m.def(
      "deform_conv2d(Tensor input, Tensor offset, Tensor? mask, Tensor weight, Tensor? bias, int[] stride, "
      "int[] padding, int[] dilation, bool channels_last) -> Tensor");
  m.def(
      "deform_conv2d_backward(Tensor grad, Tensor input, Tensor offset, Tensor? mask, Tensor weight, int[] stride, "
      "int[] padding, int[] dilation, bool channels_last, bool deterministic) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "assign_max_iou(Tensor boxes, Tensor objects, Tensor valid, Tensor? candidates, Tensor? blocked, "
      "float positive, float negative_low, float negative_high, float min_positive, bool match_low_quality, "
      "bool all_ties) -> (Tensor, Tensor)");
  m.def("ms_deform_attn(Tensor value, SymInt[] sizes, Tensor locations, Tensor weights) -> Tensor");
  m.def(
      "ms_deform_attn_backward(Tensor grad, Tensor value, SymInt[] sizes, Tensor locations, Tensor weights) -> "
      "(Tensor, Tensor, Tensor)");
  m.def(
      "dense_postprocess(Tensor logits, Tensor codes, Tensor? quality, Tensor priors, Tensor image_sizes, "
      "SymInt[] level_sizes, SymInt[] cell_priors, float[] strides, int code, float[] code_numbers, bool clips, "
      "int limit, float score_threshold, float min_size, int rivals, float iou_threshold, SymInt max_output, "
      "bool best_class) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "sigmoid_focal_loss(Tensor logits, Tensor labels, Tensor? weight, float positive, float negative, float gamma, "
      "bool reduce) -> Tensor");
  m.def(
      "sigmoid_focal_loss_backward(Tensor grad, Tensor logits, Tensor labels, Tensor? weight, float positive, "
      "float negative, float gamma) -> Tensor");
  m.def("box_iou(Tensor first, Tensor second, int kind, float eps) -> Tensor");
  m.def("paired_box_iou(Tensor first, Tensor second, int kind, float eps) -> Tensor");
  m.def(
      "paired_box_iou_backward(Tensor grad, Tensor first, Tensor second, int kind, float eps) -> (Tensor, Tensor)");
  m.def(
      "soft_nms(Tensor boxes, Tensor scores, Tensor? groups, int method, float iou_threshold, float sigma, "
      "float min_score) -> (Tensor, Tensor)");
  m.def(
      "soft_nms_padded(Tensor boxes, Tensor scores, Tensor? groups, Tensor? valid, int method, float iou_threshold, "
      "float sigma, float min_score, SymInt max_output) -> (Tensor, Tensor, Tensor)");
  m.def("nms_match(Tensor boxes, float iou_threshold) -> Tensor");
  m.def(
      "roi_max_pool(Tensor[] features, Tensor rois, Tensor? levels, float[] spatial_scales, SymInt output_h, "
      "SymInt output_w, int mode, int sampling_ratio, bool aligned, float finest_scale, bool channels_last) "
      "-> (Tensor, Tensor)");
  m.def(
      "roi_max_pool_backward(Tensor grad, Tensor chosen, Tensor rois, Tensor? levels, float[] spatial_scales, "
      "SymInt batch, SymInt[] sizes, int mode, int sampling_ratio, bool aligned, float finest_scale, "
      "bool channels_last) -> Tensor[]");
  m.def(
      "fit_images(Tensor pixels, Tensor pictures, Tensor sizes, SymInt height, SymInt width, bool channels_first) "
      "-> Tensor");
  m.def("paste_masks(Tensor masks, Tensor boxes, SymInt height, SymInt width, float threshold) -> Tensor");
}

static PyModuleDef module_definition = {PyModuleDef_HEAD_INIT, "_ops", "Registers torch.ops.fastdet for the CPU.", -1,
                                        nullptr};

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__ops(void) {
  return PyModule_Create(&module_definition);
}
