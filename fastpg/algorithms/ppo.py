r"""Proximal policy optimisation (Schulman, Wolski, Dhariwal, Radford & Klimov 2017).

Several epochs of minibatch ascent on one segment, with

.. math:: L(\log\rho, A) = \min\big(\rho A, \; \mathrm{clip}(\rho, 1-\epsilon, 1+\epsilon) A\big), \qquad
          \rho = \frac{\pi_\theta(a|s)}{\pi_{\mathrm{old}}(a|s)}

so that nothing is gained by moving the probability of an action further than a factor 1 ± ε in the
direction that its advantage asks for. As dρ / d log π = ρ, the slope L' is ρ A, and 0 beyond.
"""

import math
from typing import Any, NamedTuple

from fastpg.algorithms.checks import check_common, check_count, check_optional
from fastpg.algorithms.minibatches import Weights
from fastpg.arguments import check_positive
from fastpg.optimizers import Schedule
from fastpg.simd import exp


class Clipped(NamedTuple):
    """PPO's L, of a row."""

    clip: float

    def slope(self, log_ratio, advantage):
        """Return the derivative of L with respect to log π, and whether L is clipped there."""
        ratio = exp(log_ratio)
        gains = ratio - 1.0 if advantage > 0.0 else 1.0 - ratio
        clipped = gains > self.clip
        return (0.0 if clipped else ratio * advantage), clipped


class PPO(NamedTuple):
    r"""Proximal policy optimisation, the clipped form.

    Each update records a segment of `n_steps` steps in each of `n_envs` environments, estimates advantages
    by generalised advantage estimation (`fastpg.gae`), and makes `epochs` passes over the rows in
    minibatches, a step of Adam each, upwards on

    .. math:: \frac1M \sum \Big[ \min\big(\rho A, \mathrm{clip}(\rho, 1-\epsilon, 1+\epsilon) A\big)
              + c_H H(\pi_\theta(\cdot|s)) - \tfrac12 c_V (V(s) - G)^2 \Big]

    with the target G = A + V(s) of the critic before the update, A not yet normalised.

    Source: Schulman et al. 2017 (arXiv:1707.06347), equations 7 and 9.

    Attributes
    ----------
    n_envs, n_steps : int
        N and T.
    epochs : int
        Passes over a segment.
    minibatch : int
        M, rows of a minibatch, about: N·T rows are divided evenly.
    learning_rate : float or schedule
        Of Adam, whose β₁, β₂ and ε are 0.9, 0.999 and 1e-8; a schedule is a function of the update.
    discount, trace_decay : float
        γ and λ.
    clip : float
        ε.
    entropy : float
        c_H.
    value : float
        c_V.
    value_clip : float, optional
        How far V(s) may move from what it was in an update's loss; not clipped unless given.
    max_norm : float, optional
        Norm that the gradient of both networks together is clipped to.
    normalize_advantages : bool
        Whether the advantages of a segment are shifted and scaled to mean 0 and standard deviation 1. (It
        changes the objective: Schulman et al. do not mention it, everybody does it.)
    max_kl : float, optional
        No further epoch after one in which the mean Kullback–Leibler divergence from the policy that acted
        was larger.
    reward_scale : float
        What the critic and the advantages see rewards multiplied by.
    """

    n_envs: int = 64
    n_steps: int = 128
    epochs: int = 4
    minibatch: int = 1024
    learning_rate: Schedule = 1e-3
    discount: float = 0.99
    trace_decay: float = 0.95
    clip: float = 0.2
    entropy: float = 0.0
    value: float = 1.0
    value_clip: float | None = None
    max_norm: float | None = 0.5
    normalize_advantages: bool = True
    max_kl: float | None = None
    reward_scale: float = 1.0

    def check(self) -> None:
        """Raise TypeError or ValueError if a setting is not allowed."""
        check_common(self)
        check_count(self, "epochs")
        check_count(self, "minibatch")
        check_positive("clip", self.clip)
        check_optional(self, "value_clip")
        check_optional(self, "max_kl")

    def improve(self, learner: Any, update: int, rate: float) -> Any:
        """Improve policy and critic on the segment that was recorded; return the last epoch's statistics."""
        weights = Weights(
            float(self.entropy),
            float(self.value),
            math.inf if self.value_clip is None else float(self.value_clip),
            math.inf if self.max_norm is None else float(self.max_norm),
        )
        for epoch in range(self.epochs):
            statistics = learner.ascend(
                Clipped(float(self.clip)), weights, self.minibatch, rate, update * self.epochs + epoch
            )
            if self.max_kl is not None and statistics.kl > self.max_kl:
                break
        return statistics
