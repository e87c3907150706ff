"""Which costs of an object are low: a mixture of two normal distributions says it. PAA.

Letters: N objects, K candidates of an object.
"""

import math

import torch
from torch import Tensor

_STEPS = 100  # of expectation and maximisation at most
_TOLERANCE = 1e-3  # change of the mean log likelihood at which an object's fit ends
_LEAST_VARIANCE = 1e-6
_LEAST_COUNT = 10 * torch.finfo(torch.float32).eps


def low_costs(costs: Tensor) -> Tensor:
    """Fits two normal distributions to each object's costs; low are those of the lower one up to the likeliest of them.

    The fit starts at the lowest and the highest cost with a variance of 1, as in MMDetection (scikit-learn's mixture).
    Objects with fewer than two candidates have no low cost.

    Source: Kim and Lee, Probabilistic Anchor Assignment, section 3.1 and figure 2 (c).

    Args:
        costs: [N, K], ascending, with infinity for candidates that are not there.

    Returns:
        bool [N, K].
    """
    present = costs.isfinite()
    count = present.sum(-1, keepdim=True)  # [N, 1]
    x = torch.where(present, costs, 0.0).double()
    means = torch.stack((x[:, 0], x.amax(-1)), dim=-1)  # [N, 2]
    variances, shares = torch.ones_like(means), torch.full_like(means, 0.5)
    previous = means.new_full((len(x),), -torch.inf)
    fitting = torch.ones_like(previous, dtype=torch.bool)
    for _ in range(_STEPS):
        of_each, of_both = _log_likelihoods(x, means, variances, shares)
        belongs = torch.where(present[..., None], (of_each - of_both[..., None]).exp(), 0.0)  # [N, K, 2]
        number = belongs.sum(1) + _LEAST_COUNT
        mean = (belongs * x[..., None]).sum(1) / number
        variance = (belongs * x[..., None].square()).sum(1) / number - mean.square() + _LEAST_VARIANCE
        going_on = fitting[:, None]
        means, variances = torch.where(going_on, mean, means), torch.where(going_on, variance, variances)
        shares = torch.where(going_on, number / number.sum(-1, keepdim=True), shares)
        bound = torch.where(present, of_both, 0.0).sum(-1) / count[:, 0].clamp(min=1)
        fitting = fitting & ((bound - previous).abs() >= _TOLERANCE)
        previous = bound
    of_each, of_both = _log_likelihoods(x, means, variances, shares)
    low = present & (of_each[..., 0] >= of_each[..., 1]) & (count >= 2)
    likeliest = torch.where(low, of_both, -torch.inf).argmax(-1, keepdim=True)
    return low & (torch.arange(x.shape[1], device=x.device) <= likeliest)


def _log_likelihoods(x: Tensor, means: Tensor, variances: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Log likelihood of values [N, K] under each distribution times its share, [N, K, 2], and under both [N, K]."""
    squares = (x[..., None] - means[:, None]).square() / variances[:, None]
    of_each = shares.log()[:, None] - 0.5 * (squares + variances.log()[:, None] + math.log(2 * math.pi))
    return of_each, of_each.logsumexp(-1)
