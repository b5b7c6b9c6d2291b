"""What the algorithms refuse of their settings."""

from typing import Any

from fastpg.arguments import check_discount, check_integer, check_number, check_positive
from fastpg.optimizers import learning_rate_at
from fastpg.scores import is_neural


def is_algorithm(value: Any) -> bool:
    """Whether something is an actor-critic algorithm."""
    return hasattr(value, "improve")


def check_algorithm(algorithm: Any) -> None:
    """Raise TypeError unless something is an algorithm, or if its settings are not allowed, or ValueError."""
    if isinstance(algorithm, type) or not (hasattr(algorithm, "_fields") and is_algorithm(algorithm)):
        raise TypeError(f"algorithm={algorithm!r}: must be an algorithm, such as fastpg.PPO()")
    algorithm.check()


def check_neural(policy: Any) -> None:
    """Raise ValueError unless a policy is a neural one."""
    if not is_neural(policy):
        raise ValueError(
            f"policy={policy!r}: an algorithm needs a neural policy, such as fastpg.SoftmaxMLP.for_env(env), "
            "which with hidden=() is linear"
        )


def check_common(algorithm: Any) -> None:
    """Raise TypeError or ValueError unless the settings that all algorithms have are allowed."""
    check_count(algorithm, "n_envs")
    check_count(algorithm, "n_steps")
    learning_rate_at(algorithm.learning_rate, 0)
    check_discount(algorithm.discount)
    check_discount(algorithm.trace_decay, "trace_decay")
    for name in ("entropy", "value"):
        if hasattr(algorithm, name) and check_number(name, getattr(algorithm, name)) < 0.0:
            raise ValueError(f"{name}={getattr(algorithm, name)!r}: must be at least 0")
    check_positive("reward_scale", algorithm.reward_scale)
    check_optional(algorithm, "max_norm")
    if not isinstance(algorithm.normalize_advantages, bool):
        raise TypeError(f"normalize_advantages={algorithm.normalize_advantages!r}: must be True or False")


def check_count(algorithm: Any, name: str) -> None:
    """Raise TypeError or ValueError unless a setting is an integer of at least 1."""
    check_integer(name, getattr(algorithm, name), 1, 2**31)


def check_optional(algorithm: Any, name: str) -> None:
    """Raise TypeError or ValueError unless a setting is None or a positive number."""
    if getattr(algorithm, name) is not None:
        check_positive(name, getattr(algorithm, name))
