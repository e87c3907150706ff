"""No result depends on the number of threads."""

import torch

from tests.ops.workloads import run_all


def test_one_and_two_threads_give_the_same_bits() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run_all()
        torch.set_num_threads(2)
        two = run_all()
    finally:
        torch.set_num_threads(threads)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(two[name], tensor), name
