// TensorRT's plugin for nms_padded and nms_levels: a block an image. Compiled by fastdet/deploy/plugins with
//   FASTDET_IOU_THRESHOLD, FASTDET_MAX_OUTPUT  the node's attributes
//   FASTDET_SHARED_GROUPS                      1: `groups` is [size], the same for all images
#include "plugins/nms.cuh"

extern "C" __global__ void __launch_bounds__(fastdet::kWalkThreads)
    fastdet_nms(const float* boxes, const float* scores, const int* groups, const int* valid, int size, int* kept,
                int* counts, int* exact, float* kept_boxes, int* kept_groups) {
  fastdet::NmsPluginArgs args;
  args.boxes = boxes;
  args.scores = scores;
  args.groups = groups;
  args.valid = valid;
  args.size = size;
  args.max_output = FASTDET_MAX_OUTPUT;
  args.threshold = FASTDET_IOU_THRESHOLD;
  args.shared_groups = FASTDET_SHARED_GROUPS != 0;
  args.kept = kept;
  args.counts = counts;
  args.exact = exact;
  args.kept_boxes = kept_boxes;
  args.kept_groups = kept_groups;
  fastdet::nms_plugin(args);
}
