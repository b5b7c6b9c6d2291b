"""Confidence intervals of means."""

import math
from functools import cache

import numpy as np

_NORMAL = 1.959963984540054  # the 97.5 % quantile


@cache
def student_t(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution: mean ± it · standard error covers 95 %.

    By bisection of the distribution function, the integral of
    Γ((ν+1)/2) / (√(νπ) Γ(ν/2)) (1 + x²/ν)^(−(ν+1)/2); NaN without degrees of freedom (a single value).
    """
    if degrees < 1:
        return math.nan
    if degrees > 10**6:
        return _NORMAL  # to 3e-6
    half = (degrees + 1) / 2
    log_scale = math.lgamma(half) - math.lgamma(degrees / 2) - 0.5 * math.log(degrees * math.pi)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    low, high = 1.9, 12.8  # ν = 1 has 12.706
    for _ in range(60):
        middle = (low + high) / 2
        x = middle * (nodes + 1) / 2
        density = np.exp(log_scale - half * np.log1p(x**2 / degrees))
        low, high = (low, middle) if middle / 2 * (weights @ density) > 0.475 else (middle, high)
    return (low + high) / 2
