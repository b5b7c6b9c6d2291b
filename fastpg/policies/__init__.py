"""Policies: one file each."""

from typing import Any


def with_dtype(policy: Any, dtype: Any) -> Any:
    """Return the same policy with another `dtype`, or raise ValueError if it cannot compute in that."""
    from fastpg.arguments import check_dtype

    bits = check_dtype(dtype)
    if "bits" in policy._fields:
        return policy._replace(bits=bits)
    theirs = policy.network.dtype if hasattr(policy, "network") else "float64"
    if bits == check_dtype(theirs):
        return policy
    if bits != 64:
        raise ValueError(f"dtype={dtype!r}: a {type(policy).__name__} computes in {theirs}")
    return policy.in_float64()


def policy_for(env: Any, dtype: Any = None) -> Any:
    """Return the simplest policy that fits an environment's spaces, with its defaults.

    `SoftmaxTabular` for Discrete observations (or a Tuple of them), for a Box of observations `SoftmaxLinear`
    if actions are Discrete and `GaussianLinear` if they are a Box, `SoftmaxCNN` for a Box of images. With a
    `dtype`, float32 or float64, in place of its own.

    Raises
    ------
    ValueError
        If there is none for these spaces, or it does not compute in that dtype.
    """
    policy = _simplest(env)
    return policy if dtype is None else with_dtype(policy, dtype)


def _simplest(env):
    from gymnasium.spaces import Box, Discrete, Tuple

    from fastpg.policies.gaussian_linear import GaussianLinear
    from fastpg.policies.softmax_linear import SoftmaxLinear
    from fastpg.policies.softmax_tabular import SoftmaxTabular

    observations, actions = env.observation_space, env.action_space
    if isinstance(observations, Discrete | Tuple) and isinstance(actions, Discrete):
        return SoftmaxTabular.for_env(env)
    if isinstance(observations, Box) and len(observations.shape) == 3 and isinstance(actions, Discrete):
        from fastpg.policies.softmax_cnn import SoftmaxCNN  # which compiled code of its own comes with

        return SoftmaxCNN.for_env(env)
    if isinstance(observations, Box) and isinstance(actions, Discrete):
        return SoftmaxLinear.for_env(env)
    if isinstance(observations, Box) and isinstance(actions, Box):
        return GaussianLinear.for_env(env)
    raise ValueError(
        f"env: fastpg has no policy yet for observations {observations} and actions {actions}; "
        "a NamedTuple of your own with sample() and score() will do"
    )
