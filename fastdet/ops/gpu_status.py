"""Which CUDA kernels were run on a GPU; the others compile, and nothing more is known of them."""

import torch

# Ops whose tests (`pytest -m cuda tests/ops`) passed on a GPU, with the GPU's name. Whoever runs them adds a line.
RUN_ON_A_GPU: dict[str, str] = {}


# TensorRT's plugins, which are kernels of their own (csrc/plugins). Those whose tests (`pytest -m cuda
# tests/deploy/test_plugins_on_gpu.py`) passed on a GPU leave the list.
PLUGINS_NEVER_RUN_ON_A_GPU = ("deform_columns", "nms", "roi_align")


def never_run_on_a_gpu() -> tuple[str, ...]:
    """The ops of `torch.ops.fastdet` that have a CUDA kernel here which is not known to have run, in order."""
    names = {name.split(".")[0] for name in torch._C._dispatch_get_all_op_names() if name.startswith("fastdet::")}
    built = {name for name in names if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA")}
    return tuple(sorted({name.removeprefix("fastdet::") for name in built} - set(RUN_ON_A_GPU)))
