"""Which CUDA kernels were run on a GPU; the others compile, and nothing more is known of them."""

import torch

# Ops whose tests (`pytest -m cuda tests/ops`) passed on a GPU, with the GPU's name. Whoever runs them adds a line.
RUN_ON_A_GPU: dict[str, str] = {}


def never_run_on_a_gpu() -> tuple[str, ...]:
    """The ops of `torch.ops.fastdet` that have a CUDA kernel here which is not known to have run, in order."""
    names = {name.split(".")[0] for name in torch._C._dispatch_get_all_op_names() if name.startswith("fastdet::")}
    built = {name for name in names if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA")}
    return tuple(sorted({name.removeprefix("fastdet::") for name in built} - set(RUN_ON_A_GPU)))
