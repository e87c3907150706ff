// Dense post-processing on the GPU: chunks of a level give their best candidates, each level takes its best of those
// and decodes them, NMS thins them, and the kept ones are copied out. The host is never waited for; every step takes
// candidates in the order of their pairs, so that results are deterministic.
#include "best_class.cuh"
#include "cuda_common.cuh"
#include "cut.cuh"
#include "dense_postprocess.h"
#include "nms.h"

namespace fastdet {
namespace {

constexpr int kThreads = kCutThreads;
constexpr int kWarps = kThreads / 32;
constexpr int kChunk = 8192;  // pairs of prior and class that a block searches

// Chunks of all levels of an image, numbered one level after the other.
struct ChunkTable {
  int64_t first[kMaxAnchorLevels + 1];  // chunks before a level; at the end: of all levels
  int64_t slot[kMaxAnchorLevels + 1];   // candidates before a level, as far as there is room
  int64_t room;                         // candidates that a chunk can give
};

ChunkTable chunk_table(const DensePostprocessArgs& args) {
  ChunkTable table{};
  int64_t most = 0;
  for (int l = 0; l < args.num_levels; ++l) {
    const int64_t pairs = level_pairs(args, l);
    table.first[l + 1] = table.first[l] + (pairs + kChunk - 1) / kChunk;
    table.slot[l + 1] = table.slot[l] + level_room(args, l);
    most = level_room(args, l) > most ? level_room(args, l) : most;
  }
  table.room = most < kChunk ? most : kChunk;
  return table;
}

// Where each array starts in the workspace; every start is a multiple of 256 bytes.
struct Workspace {
  size_t found, found_counts, taken, boxes, scores, labels, levels, valid, kept, best_scores, best_labels, nms, nms_bytes,
      total;
};

Workspace plan_workspace(const DensePostprocessArgs& args, const ChunkTable& table, int* error) {
  const size_t chunks = static_cast<size_t>(args.batch * table.first[args.num_levels]);
  const size_t slots = static_cast<size_t>(args.batch * table.slot[args.num_levels]);
  Workspace plan{};
  const auto take = [&plan](size_t bytes) {
    const size_t start = plan.total;
    plan.total += (bytes + 255) / 256 * 256;
    return start;
  };
  plan.found = take(chunks * table.room * sizeof(uint64_t));
  plan.found_counts = take(chunks * sizeof(uint32_t));
  plan.taken = take(chunks * 2 * sizeof(uint32_t));
  plan.boxes = take(slots * sizeof(float4));
  plan.scores = take(slots * sizeof(float));
  plan.labels = take(slots * sizeof(int64_t));
  plan.levels = take(slots * sizeof(int64_t));
  plan.valid = take(slots * sizeof(bool));
  plan.kept = take(static_cast<size_t>(args.batch * args.max_output) * sizeof(int64_t));
  const size_t priors = args.best_class ? static_cast<size_t>(args.batch * args.num_priors) : 0;
  plan.best_scores = take(priors * sizeof(float));
  plan.best_labels = take(priors * sizeof(int32_t));
  plan.nms_bytes = nms_cuda_workspace(args.batch, table.slot[args.num_levels], args.max_output, error);
  plan.nms = take(plan.nms_bytes);
  return plan;
}

// A block owns one chunk of one level of one image: it writes the chunk's best candidates, at most a level's room, in
// the order of their pairs, as (score key, pair). Shared memory: the keys of the chunk.
__global__ void __launch_bounds__(kThreads)
    search_chunks_kernel(const __grid_constant__ DensePostprocessArgs args, const __grid_constant__ ChunkTable table,
                         const BestClasses best, uint64_t* all_found, uint32_t* found_counts) {
  __shared__ uint32_t keys[kChunk];
  __shared__ CutMemory memory;
  __shared__ uint32_t warp_sums[kWarps][2];
  __shared__ uint32_t total;
  const int64_t chunks = table.first[args.num_levels];
  const int64_t image = blockIdx.x / chunks;
  const int64_t chunk = blockIdx.x % chunks;
  int level = 0;
  while (chunk >= table.first[level + 1]) ++level;
  const int64_t pairs = level_pairs(args, level);
  const int64_t begin = (chunk - table.first[level]) * kChunk;
  const int size = static_cast<int>(pairs - begin < kChunk ? pairs - begin : kChunk);
  const int64_t base = (image * args.num_priors + args.levels[level].first) * classes_of_prior(args) + begin;
  const int64_t level_most = level_room(args, level);
  const uint32_t room = static_cast<uint32_t>(level_most < table.room ? level_most : table.room);

  if (threadIdx.x == 0) total = 0;
  __syncthreads();
  uint32_t own = 0;
  for (int i = threadIdx.x; i < kChunk; i += kThreads) {
    uint32_t key = kInvalidScoreKey;
    if (i < size) {
      if (args.best_class) {
        const float score = best.scores[base + i];
        if (score >= args.score_threshold) key = score_key(score);
      } else {
        const float logit = read(args.logits, args.logits_dtype, base + i);
        const float score = sigmoid(logit);
        if (logit > -INFINITY && score > args.score_threshold) key = score_key(score);
      }
    }
    keys[i] = key;
    own += key != kInvalidScoreKey;
  }
  if (own > 0) atomicAdd(&total, own);
  __syncthreads();

  Cut cut{kInvalidScoreKey, 0};
  if (total > room) {
    cut = find_cut(
        [&](const auto& take) {
          for (int i = threadIdx.x; i < size; i += kThreads) {
            if (keys[i] != kInvalidScoreKey) take(keys[i]);
          }
        },
        room, &memory);
  }
  uint64_t* found = all_found + blockIdx.x * table.room;
  uint32_t less = 0;
  uint32_t equal = 0;
  for (int start = 0; start < kChunk; start += kThreads) {
    const int i = start + threadIdx.x;
    const uint32_t key = keys[i];
    const PairSum sums = exclusive_sums(key < cut.key, key == cut.key && cut.ties > 0, warp_sums);
    const uint32_t tie = equal + sums.second;  // ties before this one
    if (key < cut.key || (key == cut.key && tie < cut.ties)) {
      const uint32_t at = less + sums.first + (tie < cut.ties ? tie : cut.ties);
      found[at] = static_cast<uint64_t>(key) << 32 | static_cast<uint32_t>(begin + i);
    }
    less += sums.first_total;
    equal += sums.second_total;
  }
  if (threadIdx.x == 0) found_counts[blockIdx.x] = less + (equal < cut.ties ? equal : cut.ties);
}

// Where the candidates of the levels go, [batch, slots].
struct CandidateArrays {
  float* boxes;
  float* scores;
  int64_t* labels;
  int64_t* levels;
  bool* valid;
  int64_t slots;
};

__device__ void decode_candidate(const DensePostprocessArgs& args, const BestClasses& best, const CandidateArrays& out,
                                 int64_t image, int level, int64_t pair, int64_t slot) {
  const int64_t number = args.levels[level].first + pair / classes_of_prior(args);
  const int64_t row = image * args.num_priors + number;
  float prior[4];
  float box[4];
  prior_at(args, image, level, number, prior);
  decode_box(args.code, prior, [&](int64_t i) { return read(args.codes, args.codes_dtype, row * args.code.numbers + i); },
             args.image_sizes[image * 2], args.image_sizes[image * 2 + 1], box);
  for (int k = 0; k < 4; ++k) out.boxes[slot * 4 + k] = box[k];
  if (args.best_class) {
    out.scores[slot] = best.scores[row];
    out.labels[slot] = best.labels[row];
  } else {
    const int64_t label = pair % args.num_classes;
    const float score = sigmoid(read(args.logits, args.logits_dtype, row * args.num_classes + label));
    out.scores[slot] = exact_mul(score, quality_of(args, row));
    out.labels[slot] = label;
  }
  out.levels[slot] = level;
  out.valid[slot] = is_large(args, box);
}

// A block owns one level of one image. Warps take the chunks in turn: the cut needs no order, and then each chunk
// knows how many candidates the chunks before it give.
__global__ void __launch_bounds__(kThreads)
    take_levels_kernel(const __grid_constant__ DensePostprocessArgs args, const __grid_constant__ ChunkTable table,
                       const BestClasses best, const uint64_t* all_found, const uint32_t* all_counts,
                       uint32_t* all_taken, const CandidateArrays out) {
  __shared__ CutMemory memory;
  __shared__ uint32_t total;
  __shared__ uint32_t end;
  const int64_t image = blockIdx.x / args.num_levels;
  const int level = static_cast<int>(blockIdx.x % args.num_levels);
  const int64_t first = image * table.first[args.num_levels] + table.first[level];
  const int64_t chunks = table.first[level + 1] - table.first[level];
  const uint64_t* found = all_found + first * table.room;
  const uint32_t* counts = all_counts + first;
  uint32_t* less = all_taken + first * 2;  // of each chunk: keys below the cut, and keys that equal it
  uint32_t* equal = less + chunks;
  const int64_t room = table.slot[level + 1] - table.slot[level];
  const int64_t slot = image * out.slots + table.slot[level];
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;

  if (threadIdx.x == 0) total = 0;
  __syncthreads();
  uint32_t own = 0;
  for (int64_t c = threadIdx.x; c < chunks; c += kThreads) own += counts[c];
  if (own > 0) atomicAdd(&total, own);
  __syncthreads();
  Cut cut{kInvalidScoreKey, 0};
  if (total > room) {
    cut = find_cut(
        [&](const auto& take) {
          for (int64_t c = warp; c < chunks; c += kWarps) {
            for (uint32_t i = lane; i < counts[c]; i += 32) take(static_cast<uint32_t>(found[c * table.room + i] >> 32));
          }
        },
        static_cast<uint32_t>(room), &memory);
  }
  for (int64_t c = warp; c < chunks; c += kWarps) {
    uint32_t below = 0;
    uint32_t same = 0;
    for (uint32_t i = lane; i < counts[c]; i += 32) {
      const uint32_t key = static_cast<uint32_t>(found[c * table.room + i] >> 32);
      below += key < cut.key;
      same += key == cut.key;
    }
    for (int offset = 16; offset > 0; offset /= 2) {
      below += __shfl_xor_sync(kAllLanes, below, offset);
      same += __shfl_xor_sync(kAllLanes, same, offset);
    }
    if (lane == 0) {
      less[c] = below;
      equal[c] = same;
    }
  }
  __syncthreads();
  if (warp == 0) {  // sums over the chunks before each, 32 chunks at a time
    uint32_t all_less = 0;
    uint32_t all_equal = 0;
    for (int64_t start = 0; start < chunks; start += 32) {
      const int64_t c = start + lane;
      const uint32_t own_less = c < chunks ? less[c] : 0;
      const uint32_t own_equal = c < chunks ? equal[c] : 0;
      uint32_t up_to_less = own_less;
      uint32_t up_to_equal = own_equal;
      for (int offset = 1; offset < 32; offset *= 2) {
        const uint32_t other_less = __shfl_up_sync(kAllLanes, up_to_less, offset);
        const uint32_t other_equal = __shfl_up_sync(kAllLanes, up_to_equal, offset);
        if (lane >= offset) {
          up_to_less += other_less;
          up_to_equal += other_equal;
        }
      }
      if (c < chunks) {
        less[c] = all_less + up_to_less - own_less;
        equal[c] = all_equal + up_to_equal - own_equal;
      }
      all_less += __shfl_sync(kAllLanes, up_to_less, 31);
      all_equal += __shfl_sync(kAllLanes, up_to_equal, 31);
    }
    if (lane == 0) end = all_less + (all_equal < cut.ties ? all_equal : cut.ties);
  }
  __syncthreads();
  for (int64_t c = warp; c < chunks; c += kWarps) {
    uint32_t below = less[c];
    uint32_t same = equal[c];
    const uint32_t count = counts[c];
    for (uint32_t start = 0; start < count; start += 32) {
      const uint32_t i = start + lane;
      const uint64_t item = i < count ? found[c * table.room + i] : ~uint64_t{0};
      const uint32_t key = static_cast<uint32_t>(item >> 32);
      const unsigned belows = __ballot_sync(kAllLanes, i < count && key < cut.key);
      const unsigned sames = __ballot_sync(kAllLanes, i < count && key == cut.key);
      const unsigned lower = (1u << lane) - 1;
      const uint32_t tie = same + __popc(sames & lower);
      const bool taken = i < count && (key < cut.key || (key == cut.key && tie < cut.ties));
      if (taken) {
        const uint32_t at = below + __popc(belows & lower) + (tie < cut.ties ? tie : cut.ties);
        decode_candidate(args, best, out, image, level, static_cast<uint32_t>(item), slot + at);
      }
      below += __popc(belows);
      same += __popc(sames);
    }
  }
  for (int64_t i = end + threadIdx.x; i < room; i += kThreads) {  // slots without a candidate
    for (int k = 0; k < 4; ++k) out.boxes[(slot + i) * 4 + k] = 0.0f;
    out.scores[slot + i] = 0.0f;
    out.labels[slot + i] = 0;
    out.levels[slot + i] = level;
    out.valid[slot + i] = false;
  }
}

// A thread copies one kept candidate, or zeros behind the count.
__global__ void copy_kept_kernel(const __grid_constant__ DensePostprocessArgs args, const CandidateArrays found,
                                 const int64_t* kept) {
  const int64_t total = args.batch * args.max_output;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += step) {
    const int64_t image = i / args.max_output;
    const bool is_kept = i % args.max_output < args.counts[image];
    const int64_t from = is_kept ? image * found.slots + kept[i] : 0;
    for (int k = 0; k < 4; ++k) args.boxes[i * 4 + k] = is_kept ? found.boxes[from * 4 + k] : 0.0f;
    args.scores[i] = is_kept ? found.scores[from] : 0.0f;
    args.labels[i] = is_kept ? found.labels[from] : 0;
  }
}

constexpr int64_t kMostBlocks = 0x7FFFFFFF;  // of a grid in x

}  // namespace

size_t dense_postprocess_cuda_workspace(const DensePostprocessArgs& args, int* error) {
  *error = cudaSuccess;
  return plan_workspace(args, chunk_table(args), error).total;
}

int dense_postprocess_cuda(const DensePostprocessArgs& args, void* workspace, size_t workspace_bytes,
                           void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  if (args.batch == 0) return cudaSuccess;
  const ChunkTable table = chunk_table(args);
  int plan_error = cudaSuccess;
  const Workspace plan = plan_workspace(args, table, &plan_error);
  if (plan_error != cudaSuccess) return plan_error;
  const int64_t chunks = args.batch * table.first[args.num_levels];
  if (workspace_bytes < plan.total || chunks > kMostBlocks) return cudaErrorInvalidValue;
  char* memory = static_cast<char*>(workspace);
  uint64_t* found = reinterpret_cast<uint64_t*>(memory + plan.found);
  uint32_t* found_counts = reinterpret_cast<uint32_t*>(memory + plan.found_counts);
  uint32_t* taken = reinterpret_cast<uint32_t*>(memory + plan.taken);
  int64_t* kept = reinterpret_cast<int64_t*>(memory + plan.kept);
  const CandidateArrays candidates{reinterpret_cast<float*>(memory + plan.boxes),
                                   reinterpret_cast<float*>(memory + plan.scores),
                                   reinterpret_cast<int64_t*>(memory + plan.labels),
                                   reinterpret_cast<int64_t*>(memory + plan.levels),
                                   reinterpret_cast<bool*>(memory + plan.valid),
                                   table.slot[args.num_levels]};
  const BestClasses best{reinterpret_cast<float*>(memory + plan.best_scores),
                         reinterpret_cast<int32_t*>(memory + plan.best_labels)};
  if (chunks > 0) {
    if (args.best_class) {
      best_class_kernel<<<grid_blocks(args.batch * args.num_priors * 32), kBlockThreads, 0, stream>>>(args, best);
      const cudaError_t error = cudaGetLastError();
      if (error != cudaSuccess) return error;
    }
    search_chunks_kernel<<<static_cast<unsigned>(chunks), kThreads, 0, stream>>>(args, table, best, found,
                                                                                 found_counts);
    cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) return error;
    take_levels_kernel<<<static_cast<unsigned>(args.batch * args.num_levels), kThreads, 0, stream>>>(
        args, table, best, found, found_counts, taken, candidates);
    error = cudaGetLastError();
    if (error != cudaSuccess) return error;
  }
  const int64_t* groups[] = {candidates.labels, candidates.levels, nullptr};
  const NmsInput input{candidates.boxes,
                       candidates.scores,
                       groups[static_cast<int>(args.rivals)],
                       candidates.valid,
                       args.batch,
                       candidates.slots,
                       args.iou_threshold};
  const int error =
      nms_cuda(input, args.max_output, kept, args.counts, memory + plan.nms, plan.nms_bytes, stream_pointer);
  if (error != cudaSuccess || args.max_output == 0) return error;
  copy_kept_kernel<<<grid_blocks(args.batch * args.max_output), kBlockThreads, 0, stream>>>(args, candidates, kept);
  return cudaGetLastError();
}

}  // namespace fastdet
