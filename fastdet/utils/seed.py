"""Seeds: one number from which every random state of a run follows."""

import os
import random
import secrets

import numpy as np
import torch

_MASK = (1 << 64) - 1


def choose_seed() -> int:
    """A fresh seed in [0, 2**31), for runs that were given none."""
    return secrets.randbelow(2**31)


def derive_seed(*numbers: int) -> int:
    """A seed in [0, 2**63) from whole numbers such as (seed, step, rank); order matters.

    Neighbouring inputs give unrelated outputs, so streams of successive steps or ranks do not overlap.
    Source: the finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
    """
    mixed = 0
    for number in numbers:
        mixed = (mixed + (number & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        mixed ^= mixed >> 31
    return mixed >> 1


def seed_everything(seed: int) -> None:
    """Seeds the global generators of Python, NumPy and torch (CPU and every CUDA device)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - users' models may draw from the global state
    torch.manual_seed(seed)


def use_deterministic_algorithms() -> None:
    """Makes torch choose deterministic kernels, and raise where there is none.

    cuBLAS needs its workspace fixed before the first CUDA call; a value that is set already is kept.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True)
