// dense_postprocess on the GPU.
#include "cuda_common.h"
#include "dense_postprocess.h"

namespace fastdet {
namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor> dense_postprocess(
    const Tensor& logits, const Tensor& codes, std::optional<Tensor> quality, const Tensor& priors,
    const Tensor& image_sizes, std::vector<int64_t> level_sizes, std::vector<int64_t> cell_priors,
    std::vector<double> strides, int64_t code, std::vector<double> code_numbers, bool clips, int64_t limit,
    double score_threshold, double min_size, int64_t rivals, double iou_threshold, int64_t max_output,
    bool best_class) {
  const DeviceGuard guard(logits.get_device_index());
  const DensePostprocessArguments arguments(logits, codes, quality, priors, image_sizes, level_sizes, cell_priors,
                                            strides, code, code_numbers, clips, limit, score_threshold, min_size,
                                            rivals, iou_threshold, max_output, best_class);
  int error = cudaSuccess;
  const size_t bytes = dense_postprocess_cuda_workspace(arguments.args, &error);
  check_cuda("dense_postprocess workspace", error);
  Tensor workspace = new_tensor({static_cast<int64_t>(bytes)}, ScalarType::Byte, logits);
  check_cuda("dense_postprocess", dense_postprocess_cuda(arguments.args, workspace.mutable_data_ptr(), bytes,
                                                         current_stream(logits)));
  return arguments.results();
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CUDA, m) { m.impl("dense_postprocess", TORCH_BOX(&fastdet::dense_postprocess)); }
