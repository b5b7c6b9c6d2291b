"""Policies: one file each."""

from typing import Any


def policy_for(env: Any) -> Any:
    """Return the linear policy that fits an environment's spaces, with its defaults.

    `SoftmaxLinear` for Discrete actions, `GaussianLinear` for a Box of them; observations are a Box.

    Raises
    ------
    ValueError
        If there is none for these spaces.
    """
    from gymnasium.spaces import Box, Discrete

    from fastpg.policies.gaussian_linear import GaussianLinear
    from fastpg.policies.softmax_linear import SoftmaxLinear

    observations, actions = env.observation_space, env.action_space
    if isinstance(observations, Box) and isinstance(actions, Discrete):
        return SoftmaxLinear.for_env(env)
    if isinstance(observations, Box) and isinstance(actions, Box):
        return GaussianLinear.for_env(env)
    raise ValueError(
        f"env: fastpg has no policy yet for observations {observations} and actions {actions}; "
        "a NamedTuple of your own with sample() and score() will do"
    )
