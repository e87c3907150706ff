// dense_postprocess on the CPU.
#include "dense_postprocess.h"

namespace fastdet {
namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor> dense_postprocess(
    const Tensor& logits, const Tensor& codes, std::optional<Tensor> quality, const Tensor& priors,
    const Tensor& image_sizes, std::vector<int64_t> level_sizes, std::vector<int64_t> cell_priors,
    std::vector<double> strides, int64_t code, std::vector<double> code_numbers, bool clips, int64_t limit,
    double score_threshold, double min_size, int64_t rivals, double iou_threshold, int64_t max_output,
    bool best_class) {
  const DensePostprocessArguments arguments(logits, codes, quality, priors, image_sizes, level_sizes, cell_priors,
                                            strides, code, code_numbers, clips, limit, score_threshold, min_size,
                                            rivals, iou_threshold, max_output, best_class);
  dense_postprocess_cpu(arguments.args, run_in_torch_pool);
  return arguments.results();
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CPU, m) { m.impl("dense_postprocess", TORCH_BOX(&fastdet::dense_postprocess)); }
