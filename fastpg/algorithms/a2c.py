r"""Advantage actor-critic (Mnih et al. 2016), in its synchronous form.

One step on the whole of each segment along the policy gradient with advantages for rewards-to-go,

.. math:: L(\log\pi, A) = A \log\pi_\theta(a|s), \qquad L' = A

PPO at ρ = 1, where it has the same slope.
"""

import math
from typing import Any, NamedTuple

from fastpg.algorithms.checks import check_common
from fastpg.algorithms.minibatches import Weights
from fastpg.optimizers import Schedule


class PolicyGradient(NamedTuple):
    """A2C's L, of a row."""

    def slope(self, log_ratio, advantage):
        """Return the derivative of L with respect to log π, and that it is not clipped."""
        return advantage * 1.0, False


class A2C(NamedTuple):
    r"""Advantage actor-critic: one step of Adam on each segment, upwards on

    .. math:: \frac1{NT} \sum \Big[ A \log\pi_\theta(a|s) + c_H H(\pi_\theta(\cdot|s))
              - \tfrac12 c_V (V(s) - G)^2 \Big]

    with the target G = A + V(s) of the critic before the update, A not yet normalised.

    Source: Mnih et al. 2016 (arXiv:1602.01783), algorithm S3, with generalised advantage estimation for
    n-step returns (λ = 1 is theirs) and Adam for RMSProp.

    Attributes are those of `fastpg.PPO` with the same names.
    """  # noqa: D400, D205

    n_envs: int = 64
    n_steps: int = 16
    learning_rate: Schedule = 3e-3
    discount: float = 0.99
    trace_decay: float = 0.95
    entropy: float = 0.0
    value: float = 1.0
    max_norm: float | None = 0.5
    normalize_advantages: bool = True
    reward_scale: float = 1.0

    def check(self) -> None:
        """Raise TypeError or ValueError if a setting is not allowed."""
        check_common(self)

    def improve(self, learner: Any, update: int, rate: float) -> Any:
        """Improve policy and critic on the segment that was recorded, and return the statistics."""
        norm = math.inf if self.max_norm is None else float(self.max_norm)
        weights = Weights(float(self.entropy), float(self.value), math.inf, norm)
        return learner.ascend(PolicyGradient(), weights, self.n_envs * self.n_steps, rate, update)
