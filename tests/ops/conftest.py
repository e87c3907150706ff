"""The devices that op tests run on."""

import pytest
import torch


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    return request.param


@pytest.fixture
def cuda() -> str:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    return "cuda"
