"""fastdet's CUDA kernels as plugins inside of TensorRT engines, in the place of function bodies.

A node of the domain `fastdet` that a kernel exists for becomes a plugin's node (`rewriting`). The plugin is described
to `tensorrt.plugin` (`registering`), which asks for PTX; NVRTC makes it from `csrc/plugins` (`compiling`). The PTX lies
in the engine, which needs nothing of fastdet to run.
"""
