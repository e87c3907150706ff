"""Several processes: who we are, and the few collectives the engine needs. torch.distributed does the work."""

import os
import subprocess
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastdet.utils.errors import EnvironmentProblem

T = TypeVar("T")


class Placement(NamedTuple):
    """A process among its peers: rank in all, rank on this machine, number of all."""

    rank: int
    local_rank: int
    world_size: int


def find_placement(launcher: str = "none", environment: Mapping[str, str] | None = None) -> Placement:
    """Reads what torchrun, SLURM or Open MPI have set.

    `launcher` "none" takes torchrun's variables if they are there, and else a single process: a SLURM allocation
    alone does not make a distributed run.

    Raises:
        EnvironmentProblem: a launcher was named whose variables are missing.
    """
    env = os.environ if environment is None else environment
    names = {
        "pytorch": ("RANK", "LOCAL_RANK", "WORLD_SIZE"),
        "slurm": ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS"),
        "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE"),
    }
    if launcher == "none":
        if not all(name in env for name in names["pytorch"]):
            return Placement(0, 0, 1)
        launcher = "pytorch"
    missing = [name for name in names[launcher] if name not in env]
    if missing:
        start = {"pytorch": "torchrun --nproc_per_node N", "slurm": "srun", "mpi": "mpirun"}[launcher]
        raise EnvironmentProblem(
            f"--launcher {launcher}: the environment lacks {', '.join(missing)}\n  start the processes with {start}"
        )
    rank, local_rank, world_size = (int(env[name]) for name in names[launcher])
    return Placement(rank, local_rank, world_size)


def start(placement: Placement, device: torch.device, *, launcher: str = "none", backend: str = "nccl") -> None:
    """Joins the process group; nothing for a single process. CPU runs use gloo, CUDA runs the named backend."""
    if placement.world_size == 1 or dist.is_initialized():
        return
    if launcher == "slurm" and "MASTER_ADDR" not in os.environ:
        nodes = os.environ["SLURM_NODELIST"]
        shown = subprocess.run(["scontrol", "show", "hostname", nodes], capture_output=True, text=True, check=True)
        os.environ["MASTER_ADDR"] = shown.stdout.split()[0]
    elif launcher == "mpi":
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")
    os.environ.update(RANK=str(placement.rank), WORLD_SIZE=str(placement.world_size))
    if device.type == "cuda":
        torch.cuda.set_device(device)
        # Objects (metrics, seeds) are gathered through the CPU backend, tensors through the other.
        dist.init_process_group(f"cpu:gloo,cuda:{backend}" if backend != "gloo" else "gloo")
    else:
        dist.init_process_group("gloo")


def stop() -> None:
    """Leaves the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def get_rank() -> int:
    """This process's rank; 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def get_world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes files and prints."""
    return get_rank() == 0


def barrier() -> None:
    """Waits until every process is here."""
    if get_world_size() > 1:
        dist.barrier()


def broadcast_object(value: T) -> T:
    """Rank 0's value, on every rank; any picklable object."""
    if get_world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def gather_objects(value: T) -> list[T]:
    """Every rank's value, in rank order, on every rank."""
    if get_world_size() == 1:
        return [value]
    gathered: list[Any] = [None] * get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def maximum_(values: Tensor) -> Tensor:
    """The element-wise maximum over ranks, in place."""
    if get_world_size() > 1:
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return values


def mean_(values: Tensor) -> Tensor:
    """The element-wise mean over ranks, in place."""
    if get_world_size() > 1:
        dist.all_reduce(values, op=dist.ReduceOp.SUM)
        values /= get_world_size()
    return values


def sum_(values: Tensor) -> Tensor:
    """The element-wise sum over ranks, in place."""
    if get_world_size() > 1:
        dist.all_reduce(values, op=dist.ReduceOp.SUM)
    return values


def broadcast_buffers(model: nn.Module) -> None:
    """Gives every rank the running statistics of rank 0, so that all evaluate the same model."""
    if get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def wrap(module: nn.Module, *, find_unused_parameters: bool = False) -> nn.Module:
    """DistributedDataParallel around a module that lies on its device already; the module itself for one process.

    Buffers are broadcast from rank 0 before each forward, so that ranks agree on running statistics and a resumed
    run continues exactly.
    """
    if get_world_size() == 1:
        return module
    return nn.parallel.DistributedDataParallel(
        module, broadcast_buffers=True, find_unused_parameters=find_unused_parameters
    )
