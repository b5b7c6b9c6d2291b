"""Whether a policy is one for an environment's spaces."""

from typing import Any

from fastpg.environment import observation_shape


def check_discrete_actions(policy: Any, env: Any) -> None:
    """Raise ValueError unless `env` has the policy's actions, integers from `first_action` on."""
    actions = env.action_space
    theirs = getattr(actions, "n", None), getattr(actions, "start", None)
    if theirs != (policy.n_actions, policy.first_action):
        raise ValueError(f"policy={policy!r}: is for other actions than the environment's {actions}")


def check_real_actions(policy: Any, env: Any, m: int) -> None:
    """Raise ValueError unless actions of `env` are m real numbers."""
    actions = env.action_space
    if not (hasattr(actions, "low") and actions.shape == (m,)):
        raise ValueError(f"policy={policy!r}: is for other actions than the environment's {actions}")


def check_observations(policy: Any, env: Any) -> None:
    """Raise ValueError unless observations of `env` are as long as those of the policy, `n_observations`."""
    shape = observation_shape(env)
    if shape != (policy.n_observations,):
        theirs = shape[0] if len(shape) == 1 else f"of shape {shape}"
        raise ValueError(
            f"policy={policy!r}: is for observations of another length than the environment's {theirs}"
        )
