// For NVRTC, which knows CUDA's built-ins without a header.
#pragma once
