// What an allocator cannot know: of large results, and of a call whose arrays are all given back together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fastdet {

// Asks for large pages under new memory that is about to be written whole: most of the time that first writes take goes
// into the pages, 4096 bytes each. Changes nothing where the system does not offer them.
inline void prefer_large_pages(void* data, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kPage = uintptr_t{2} << 20;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kPage - 1) / kPage * kPage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / kPage * kPage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

// Arrays that live as long as the arena, not written before they are used. They lie in one piece of memory while that
// is large enough: of many pieces an allocator gives the last back to the system after each call, page by page.
class Arena {
 public:
  explicit Arena(size_t bytes) { add_piece(bytes); }

  template <typename T>
  T* take(int64_t count) {
    constexpr size_t kLine = 64;
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + kLine - 1) / kLine * kLine;
    if (bytes > left_) add_piece(bytes);
    T* const taken = reinterpret_cast<T*>(next_);
    next_ += bytes;
    left_ -= bytes;
    return taken;
  }

  // Makes room for new arrays in the place of all others.
  void clear() {
    pieces_.resize(1);
    next_ = pieces_[0].get();
    left_ = first_bytes_;
  }

 private:
  void add_piece(size_t bytes) {
    if (pieces_.empty()) first_bytes_ = bytes;
    pieces_.emplace_back(new unsigned char[bytes]);
    next_ = pieces_.back().get();
    left_ = bytes;
  }

  std::vector<std::unique_ptr<unsigned char[]>> pieces_;
  size_t first_bytes_ = 0;
  unsigned char* next_ = nullptr;
  size_t left_ = 0;
};

}  // namespace fastdet
