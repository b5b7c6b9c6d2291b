r"""Generalised advantage estimation (Schulman, Moritz, Levine, Jordan & Abbeel 2016).

.. math:: \delta_t = r_t + \gamma \, b_t V(s_{t+1}) - V(s_t), \qquad
          A_t = \delta_t + \gamma \lambda \, c_t A_{t+1}

b_t is 0 where step t terminated the episode, and c_t is 0 where it terminated or truncated it; both are 1
otherwise. A truncated episode goes on, but is not seen to: its last step is bootstrapped from the value of
the state it led to, s_{t+1}, which is not the start of the next episode (Pardo et al. 2018). The same holds
of the last step of a segment, behind which there is nothing to add up.

λ = 0 is the temporal-difference error, λ = 1 the discounted return to the end (and V there) minus V(s_t).
"""

from typing import Any

import numpy as np

from fastpg.arguments import check_discount
from fastpg.dispatch import kernel


@kernel
def estimate_advantages(
    rewards, values, next_values, terminated, truncated, discount, trace_decay, reward_scale, advantages
):
    """Write the advantages, all arrays of shape (T, N), with rewards multiplied by `reward_scale`."""
    n_steps, n_envs = rewards.shape
    for t in range(n_steps - 1, -1, -1):
        for i in range(n_envs):
            bootstrap = 0.0 if terminated[t, i] else next_values[t, i]
            advantage = reward_scale * rewards[t, i] + discount * bootstrap - values[t, i]
            if t < n_steps - 1:
                goes_on = 0.0 if terminated[t, i] | truncated[t, i] else 1.0
                advantage += discount * trace_decay * goes_on * advantages[t + 1, i]
            advantages[t, i] = advantage


def gae(
    rewards: Any,
    values: Any,
    next_values: Any,
    terminated: Any,
    truncated: Any,
    discount: float = 0.99,
    trace_decay: float = 0.95,
) -> np.ndarray:
    r"""Return the advantages of recorded steps, by generalised advantage estimation.

    .. math:: A_t = \sum_{k \ge 0} (\gamma\lambda)^k \delta_{t+k}, \qquad
              \delta_t = r_t + \gamma V(s_{t+1}) - V(s_t)

    The sum ends with the episode or with the array; after a terminated step V is 0.

    Parameters
    ----------
    rewards, values, next_values : array_like, shape (T, N)
        Of N environments in T steps: r_t, V(s_t), and V(s_{t+1}) of the state that the step led to, not of
        the one that the next episode began in (`Rollout.next_observations`).
    terminated, truncated : array_like of bool, shape (T, N)
    discount : float
        γ, between 0 and 1.
    trace_decay : float
        λ, between 0 and 1.

    Returns
    -------
    array, shape (T, N)
        float64, or float32 if all of the first three are.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.
    """
    numbers = {"rewards": rewards, "values": values, "next_values": next_values}
    for name in ("values", "next_values"):
        if numbers[name] is None:
            raise TypeError(
                f"{name}=None: must be an array (T, N); `fastpg.rollout` has them with critic= and "
                "value_parameters="
            )
    arrays = {name: np.asarray(array) for name, array in numbers.items()}
    dtype = np.result_type(np.float32, *arrays.values())
    arrays |= {"terminated": np.asarray(terminated, bool), "truncated": np.asarray(truncated, bool)}
    for name, array in arrays.items():
        if array.ndim != 2 or array.shape != arrays["rewards"].shape:
            shape = arrays["rewards"].shape
            raise ValueError(f"{name}: has shape {array.shape}, must have (T, N) as rewards, {shape}")
    for name in numbers:
        arrays[name] = np.ascontiguousarray(arrays[name], dtype)
    advantages = np.empty(arrays["rewards"].shape, dtype)
    estimate_advantages(
        *map(np.ascontiguousarray, arrays.values()),
        check_discount(discount),
        check_discount(trace_decay, "trace_decay"),
        1.0,
        advantages,
    )
    return advantages
