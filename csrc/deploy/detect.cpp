// Runs an engine that `python -m fastdet.export` built, without Python: pictures in, one line a detection out.
//
//   detect MODEL.engine [--threshold 0.3] [--batch N] PICTURE.ppm...
//
// Pictures are binary PPM files (P6), as `convert a.jpg a.ppm` or `djpeg a.jpg > a.ppm` write them. Each is resized to
// fill the engine's input as far as its shape allows, by the kernel that equals OpenCV's bilinear resize; for the test
// scale of a config, resize the pictures before. Lines are: picture, label, score, x1 y1 x2 y2 in the picture's pixels.
#include <NvInfer.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/fit_images.h"

namespace {

[[noreturn]] void fail(const std::string& message) { throw std::runtime_error(message); }

void succeed(cudaError_t code, const char* what) {
  if (code != cudaSuccess) fail(std::string(what) + ": " + cudaGetErrorString(code));
}

class Logger : public nvinfer1::ILogger {
  void log(Severity severity, const char* message) noexcept override {
    if (severity <= Severity::kERROR) std::cerr << message << '\n';
  }
};

// Memory on the GPU.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : bytes_(bytes) { succeed(cudaMalloc(&data_, std::max<size_t>(bytes, 1)), "cudaMalloc"); }
  ~Buffer() { cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

struct Picture {
  std::string name;
  int64_t height = 0;
  int64_t width = 0;
  std::vector<uint8_t> pixels;  // BGR
};

int64_t header_number(std::istream& file) {
  while (file >> std::ws && file.peek() == '#') file.ignore(1 << 20, '\n');
  int64_t number = 0;
  file >> number;
  return number;
}

Picture read_ppm(const std::string& name) {
  std::ifstream file(name, std::ios::binary);
  std::string magic(2, ' ');
  file.read(magic.data(), 2);
  Picture picture{name, 0, 0, {}};
  picture.width = header_number(file);
  picture.height = header_number(file);
  const int64_t most = header_number(file);
  constexpr int64_t kLargestSide = 1 << 16;
  if (!file || magic != "P6" || most != 255 || picture.width < 1 || picture.height < 1 ||
      picture.width > kLargestSide || picture.height > kLargestSide) {
    fail(name + " is no binary PPM file of 8 bits a channel");
  }
  file.get();
  picture.pixels.resize(static_cast<size_t>(picture.width * picture.height * fastdet::kPictureChannels));
  file.read(reinterpret_cast<char*>(picture.pixels.data()), static_cast<std::streamsize>(picture.pixels.size()));
  if (!file) fail(name + " ends too early");
  for (size_t i = 0; i < picture.pixels.size(); i += 3) std::swap(picture.pixels[i], picture.pixels[i + 2]);
  return picture;
}

std::vector<char> read_file(const std::string& name) {
  std::ifstream file(name, std::ios::binary);
  if (!file) fail(name + " cannot be read");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

size_t bytes_of(nvinfer1::DataType type) {
  switch (type) {
    case nvinfer1::DataType::kFLOAT:
    case nvinfer1::DataType::kINT32:
      return 4;
    case nvinfer1::DataType::kUINT8:
      return 1;
    default:
      fail("the engine has a tensor of a type that fastdet's engines do not have");
  }
}

struct Detection {
  int32_t label;
  float score;
  float box[4];  // pixels of the picture
};

// An engine with one context; its buffers are kept between batches.
class Detector {
 public:
  explicit Detector(const std::string& file) {
    const std::vector<char> content = read_file(file);
    runtime_.reset(nvinfer1::createInferRuntime(logger_));
    engine_.reset(runtime_->deserializeCudaEngine(content.data(), content.size()));
    if (!engine_) fail(file + " is no engine of this TensorRT version and GPU: build it again here");
    context_.reset(engine_->createExecutionContext());
    if (!context_) fail("the engine's memory does not fit on this GPU");
    const nvinfer1::Dims most = engine_->getProfileShape("images", 0, nvinfer1::OptProfileSelector::kMAX);
    if (most.nbDims != 4) fail(file + " has no input `images`: it is no engine of fastdet's");
    channels_first_ = most.d[1] == fastdet::kPictureChannels;
    height_ = most.d[channels_first_ ? 2 : 1];
    width_ = most.d[channels_first_ ? 3 : 2];
    largest_ = most.d[0];
    least_ = engine_->getProfileShape("images", 0, nvinfer1::OptProfileSelector::kMIN).d[0];
    succeed(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  }
  ~Detector() { cudaStreamDestroy(stream_); }
  Detector(const Detector&) = delete;
  Detector& operator=(const Detector&) = delete;

  int64_t largest_batch() const { return largest_; }

  std::vector<std::vector<Detection>> detect(const std::vector<Picture>& pictures) {
    const int64_t batch = std::max<int64_t>(least_, static_cast<int64_t>(pictures.size()));
    reshape(batch);
    const std::vector<double> scales = upload(pictures, batch);
    if (!context_->enqueueV3(stream_)) fail("the engine refuses to run");
    for (auto& [name, values] : results_) {
      const Buffer& buffer = *buffers_.at(name);
      values.resize(buffer.bytes());
      succeed(cudaMemcpyAsync(values.data(), buffer.data(), buffer.bytes(), cudaMemcpyDeviceToHost, stream_), "copy");
    }
    succeed(cudaStreamSynchronize(stream_), "the run");
    return results_of(scales);
  }

 private:
  template <typename T>
  const T* result(const char* name) const {
    return reinterpret_cast<const T*>(results_.at(name).data());
  }

  // Buffers and shapes for a number of pictures.
  void reshape(int64_t batch) {
    if (batch == batch_) return;
    batch_ = batch;
    for (int32_t i = 0; i < engine_->getNbIOTensors(); ++i) {
      const char* name = engine_->getIOTensorName(i);
      if (engine_->getTensorIOMode(name) != nvinfer1::TensorIOMode::kINPUT) continue;
      nvinfer1::Dims shape = engine_->getTensorShape(name);
      shape.d[0] = batch;
      if (!context_->setInputShape(name, shape)) fail("the engine takes no batch of " + std::to_string(batch));
    }
    for (int32_t i = 0; i < engine_->getNbIOTensors(); ++i) {
      const char* name = engine_->getIOTensorName(i);
      const nvinfer1::Dims shape = context_->getTensorShape(name);
      size_t bytes = bytes_of(engine_->getTensorDataType(name));
      for (int32_t d = 0; d < shape.nbDims; ++d) bytes *= static_cast<size_t>(shape.d[d]);
      buffers_[name] = std::make_unique<Buffer>(bytes);
      if (!context_->setTensorAddress(name, buffers_[name]->data())) fail(std::string("no place for ") + name);
      if (engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kOUTPUT) results_[name];
    }
    for (const char* name : {"boxes", "scores", "labels", "num"}) {
      if (results_.count(name) == 0) fail(std::string("the engine has no output ") + name);
    }
  }

  // Resizes the pictures into the input; returns the scale of each.
  std::vector<double> upload(const std::vector<Picture>& pictures, int64_t batch) {
    std::vector<uint8_t> pixels;
    std::vector<int64_t> places, sizes;
    std::vector<int32_t> input_sizes;
    std::vector<double> scales;
    for (const Picture& picture : pictures) {
      const double scale = std::min(static_cast<double>(height_) / static_cast<double>(picture.height),
                                    static_cast<double>(width_) / static_cast<double>(picture.width));
      const auto side = [scale](int64_t length, int64_t most) {
        return std::clamp<int64_t>(static_cast<int64_t>(static_cast<double>(length) * scale + 0.5), 1, most);
      };
      const int64_t height = side(picture.height, height_), width = side(picture.width, width_);
      places.insert(places.end(), {static_cast<int64_t>(pixels.size()), picture.height, picture.width});
      sizes.insert(sizes.end(), {height, width});
      input_sizes.insert(input_sizes.end(), {static_cast<int32_t>(height), static_cast<int32_t>(width)});
      scales.push_back(scale);
      pixels.insert(pixels.end(), picture.pixels.begin(), picture.pixels.end());
    }
    const int64_t count = static_cast<int64_t>(pictures.size());
    input_sizes.resize(static_cast<size_t>(batch) * 2, 1);
    const Buffer& images = *buffers_.at("images");
    succeed(cudaMemsetAsync(images.data(), 0, images.bytes(), stream_), "cudaMemset");
    pixels_ = std::make_unique<Buffer>(pixels.size());
    places_ = std::make_unique<Buffer>(places.size() * sizeof(int64_t));
    sizes_ = std::make_unique<Buffer>(sizes.size() * sizeof(int64_t));
    copy_in(*pixels_, pixels.data());
    copy_in(*places_, places.data());
    copy_in(*sizes_, sizes.data());
    if (buffers_.count("sizes") != 0) copy_in(*buffers_.at("sizes"), input_sizes.data());
    const int64_t channels = fastdet::kPictureChannels;
    const fastdet::FitImagesArgs args{static_cast<const uint8_t*>(pixels_->data()),
                                      static_cast<int64_t>(pixels.size()),
                                      static_cast<const int64_t*>(places_->data()),
                                      static_cast<const int64_t*>(sizes_->data()),
                                      count,
                                      height_,
                                      width_,
                                      channels_first_ ? width_ : width_ * channels,
                                      channels_first_ ? 1 : channels,
                                      channels_first_ ? height_ * width_ : 1,
                                      static_cast<uint8_t*>(images.data())};
    succeed(static_cast<cudaError_t>(fastdet::fit_images_cuda(args, stream_)), "the resize");
    return scales;
  }

  void copy_in(const Buffer& buffer, const void* values) {
    succeed(cudaMemcpyAsync(buffer.data(), values, buffer.bytes(), cudaMemcpyHostToDevice, stream_), "copy");
  }

  std::vector<std::vector<Detection>> results_of(const std::vector<double>& scales) const {
    const int64_t slots = static_cast<int64_t>(results_.at("scores").size() / sizeof(float)) / batch_;
    std::vector<std::vector<Detection>> found(scales.size());
    for (size_t image = 0; image < scales.size(); ++image) {
      if (results_.count("exact") != 0 && result<int32_t>("exact")[image] == 0) {
        std::cerr << "picture " << image << ": not proven to be the detector's own detections\n";
      }
      for (int64_t i = 0; i < result<int32_t>("num")[image]; ++i) {
        const int64_t slot = static_cast<int64_t>(image) * slots + i;
        Detection detection{result<int32_t>("labels")[slot], result<float>("scores")[slot], {}};
        for (int64_t side = 0; side < 4; ++side) {
          detection.box[side] = static_cast<float>(result<float>("boxes")[slot * 4 + side] / scales[image]);
        }
        found[image].push_back(detection);
      }
    }
    return found;
  }

  Logger logger_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  std::map<std::string, std::unique_ptr<Buffer>> buffers_;
  std::map<std::string, std::vector<char>> results_;
  std::unique_ptr<Buffer> pixels_, places_, sizes_;
  cudaStream_t stream_ = nullptr;
  int64_t height_ = 0, width_ = 0, least_ = 1, largest_ = 1, batch_ = 0;
  bool channels_first_ = false;
};

void run(int argc, char** argv) {
  std::vector<std::string> names;
  double threshold = 0.3;
  int64_t batch = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--threshold" && i + 1 < argc) threshold = std::strtod(argv[++i], nullptr);
    else if (word == "--batch" && i + 1 < argc) batch = std::strtol(argv[++i], nullptr, 10);
    else names.push_back(word);
  }
  if (names.size() < 2) fail("usage: detect MODEL.engine [--threshold 0.3] [--batch N] PICTURE.ppm...");
  Detector detector(names[0]);
  batch = std::clamp<int64_t>(batch, 1, detector.largest_batch());
  for (size_t start = 1; start < names.size(); start += static_cast<size_t>(batch)) {
    std::vector<Picture> pictures;
    for (size_t i = start; i < std::min(names.size(), start + static_cast<size_t>(batch)); ++i) {
      pictures.push_back(read_ppm(names[i]));
    }
    const std::vector<std::vector<Detection>> found = detector.detect(pictures);
    for (size_t i = 0; i < pictures.size(); ++i) {
      for (const Detection& d : found[i]) {
        if (d.score < threshold) continue;
        std::printf("%s %d %.4f %.1f %.1f %.1f %.1f\n", pictures[i].name.c_str(), d.label, d.score, d.box[0], d.box[1],
                    d.box[2], d.box[3]);
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc, argv);
  } catch (const std::exception& problem) {
    std::cerr << "error: " << problem.what() << '\n';
    return 1;
  }
  return 0;
}
