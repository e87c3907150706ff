// Grid anchors and mask crops on small hand-made inputs.
#include "kernels/anchors.h"
#include "kernels/crop_masks.h"
#include "testing.h"

namespace {

void anchors_are_ordered_by_level_row_column_base() {
  const std::vector<float> base = {-1, -1, 1, 1, -2, -2, 2, 2};
  std::vector<float> anchors(3 * 4);
  fastdet::GridAnchorsArgs args{};
  args.levels[0] = {1, 2, 4.0f, 5.0f, 0};
  args.levels[1] = {1, 1, 8.0f, 8.0f, 2};
  args.num_levels = 2;
  args.num_base = 1;
  args.base = base.data();
  args.anchors = anchors.data();
  args.total = 3;
  fastdet::grid_anchors_cpu(args, testing::run_on_two_threads);
  EXPECT((anchors == std::vector<float>{-1, -1, 1, 1, 3, -1, 5, 1, -2, -2, 2, 2}));
}

void a_box_on_its_mask_returns_the_mask() {
  const std::vector<uint8_t> bits = {1, 0, 1, 1};
  const std::vector<int64_t> offsets = {0, 3}, index = {0, -1, 0};
  const std::vector<int32_t> windows = {3, 2, 2, 2, 0, 0, 2, 1};
  const std::vector<float> boxes = {3, 2, 5, 4, 0, 0, 1, 1, -1e9f, -1e9f, 1e9f, 1e9f};
  std::vector<float> crops(3 * 4, -1.0f);
  fastdet::CropMasksArgs args{bits.data(), 4,  offsets.data(), windows.data(), 2, index.data(), boxes.data(), 3, 2,
                              10,          10, crops.data()};
  EXPECT(fastdet::crop_masks_first_bad_box(args) == -1);
  fastdet::crop_masks_cpu(args, testing::run_on_two_threads);
  EXPECT(crops[0] == 1 && crops[1] == 0 && crops[2] == 1 && crops[3] == 1);
  for (int i = 4; i < 8; ++i) EXPECT(crops[i] == 0);
  for (int i = 8; i < 12; ++i) EXPECT(std::isfinite(crops[i]));
  const std::vector<int64_t> outside = {0, 2, 1};
  args.mask_index = outside.data();
  EXPECT(fastdet::crop_masks_first_bad_box(args) == 1);
  const std::vector<int64_t> cut = {0, 0, 1};
  args.mask_index = cut.data();
  EXPECT(fastdet::crop_masks_first_bad_box(args) == 2);
}

}  // namespace

int main() {
  anchors_are_ordered_by_level_row_column_base();
  a_box_on_its_mask_returns_the_mask();
  return testing::report();
}
