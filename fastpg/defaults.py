"""Settings that are known to train each registered environment: what `fastpg train ENV` uses.

They are found by trial; ``python -m bench.training`` shows what they reach. Only those of REINFORCE in
Asterix are not: they are those of MinAtar's other game, Breakout.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from fastpg.algorithms.a2c import A2C
from fastpg.algorithms.ppo import PPO
from fastpg.algorithms.trpo import TRPO
from fastpg.estimators.gpomdp import RewardToGo
from fastpg.features import Fourier, Polynomial
from fastpg.optimizers import Adam, LinearSchedule, NaturalGradient
from fastpg.policies import policy_for
from fastpg.policies.gaussian_linear import GaussianLinear
from fastpg.policies.gaussian_mlp import GaussianMLP
from fastpg.policies.softmax_cnn import SoftmaxCNN
from fastpg.policies.softmax_linear import SoftmaxLinear
from fastpg.policies.softmax_mlp import SoftmaxMLP
from fastpg.runs import has_default_parameters, id_of


class Settings(NamedTuple):
    """What `fastpg.train` is given; None: what it takes of its own accord."""

    policy: Any
    estimator: Any = None
    optimizer: Any = None
    n_updates: int | None = None
    n_trajectories: int | None = None
    horizon: int | None = None
    target_return: float | None = None
    algorithm: Any = None


class _Known(NamedTuple):
    """The same before the environment is known."""

    policy: Callable[[Any], Any] = policy_for
    estimator: Any = None
    optimizer: Any = None
    n_updates: int | None = None
    n_trajectories: int | None = None
    horizon: int | None = None
    target_return: float | None = None
    algorithm: Any = None


def _gaussian(features):
    return lambda env: GaussianLinear.for_env(env, features=features)


def _softmax(features):
    return lambda env: SoftmaxLinear.for_env(env, features=features)


def _mlp(hidden=(64, 64), activation="tanh", **options):
    def policy(env):
        if len(env.observation_space.shape or ()) == 3:
            return SoftmaxCNN.for_env(env)
        kind = SoftmaxMLP if hasattr(env.action_space, "n") else GaussianMLP
        return kind.for_env(env, hidden, activation, **options)

    return policy


def _falling(start, n_updates) -> Any:
    """A learning rate that falls to a tenth."""
    return LinearSchedule(start, start / 10.0, n_updates)


_ANNEALED: Any = LinearSchedule(0.1, 0.01, 150)

_MINATAR_IDS = "MinAtar/Asterix-v0", "MinAtar/Asterix-v1", "MinAtar/Breakout-v0", "MinAtar/Breakout-v1"

_KNOWN = {
    "Acrobot-v1": _Known(),
    "Bandit-v0": _Known(),
    "Blackjack-v1": _Known(optimizer=Adam(0.1), n_updates=300, n_trajectories=20_000),
    "CartPole-v0": _Known(),
    "CartPole-v1": _Known(),
    "Chain-v0": _Known(n_trajectories=100),
    # The natural gradient finds the way along the cliff; Adam stays three rows above it.
    "CliffWalking-v1": _Known(optimizer=NaturalGradient(0.05, 0.01), horizon=200, target_return=-13),
    # Many small steps: 500 of a thousand trajectories each reach -74 where these reach -65.
    "CliffWalkingSlippery-v1": _Known(
        estimator=RewardToGo(1.0, "value"),
        optimizer=Adam(0.05),
        n_updates=5000,
        n_trajectories=300,
        horizon=200,
    ),
    "FrozenLake-v1": _Known(optimizer=Adam(0.05), n_updates=400, n_trajectories=5000),
    "FrozenLake8x8-v1": _Known(optimizer=Adam(0.1), n_updates=300, n_trajectories=2000),
    "LinearQuadratic-v0": _Known(optimizer=NaturalGradient(0.05), n_updates=200),
    **dict.fromkeys(
        _MINATAR_IDS,
        _Known(
            estimator=RewardToGo(0.97, "time", 0.01),
            optimizer=Adam(0.001),
            n_updates=200,
            n_trajectories=200,
            horizon=1000,
        ),
    ),
    # Within 200 steps no random trajectory reaches the top, within 1000 one of two thousand does.
    "MountainCar-v0": _Known(
        _softmax(Fourier(3)),
        optimizer=NaturalGradient(0.5, 0.01),
        n_trajectories=2000,
        horizon=1000,
        target_return=-100,
    ),
    "MountainCarContinuous-v0": _Known(
        _gaussian(Fourier(3)),
        RewardToGo(0.99, "value"),
        Adam(_ANNEALED),
        n_updates=150,
    ),
    "Pendulum-v1": _Known(
        _gaussian(Polynomial(3)), RewardToGo(0.95, "value"), NaturalGradient(0.5, 0.01), n_trajectories=300
    ),
    "Taxi-v4": _Known(optimizer=Adam(0.3), n_updates=1000),
}


_SLOWING: Any = LinearSchedule(1e-3, 0.0, 600)

_ASTERIX = _Known(
    algorithm=PPO(n_envs=128, n_steps=16, epochs=3, minibatch=512, learning_rate=_SLOWING, entropy=0.01),
    n_updates=600,
    horizon=1000,
)
_BREAKOUT = _Known(
    algorithm=PPO(n_envs=128, n_steps=32, epochs=2, minibatch=256, learning_rate=5e-4, entropy=0.02),
    n_updates=400,
    horizon=1000,
)

ALGORITHMS = {"ppo": PPO, "a2c": A2C, "trpo": TRPO}

_KNOWN_WITH: dict[str, dict[str, _Known]] = {
    "ppo": {
        "Acrobot-v1": _Known(
            _mlp((32, 32)),
            algorithm=PPO(
                n_envs=32,
                n_steps=128,
                epochs=8,
                minibatch=256,
                learning_rate=_falling(2e-3, 80),
                reward_scale=0.05,
            ),
            n_updates=80,
        ),
        "CartPole-v1": _Known(
            _mlp((32, 32)),
            algorithm=PPO(
                n_envs=32, n_steps=64, epochs=8, minibatch=256, learning_rate=2e-3, reward_scale=0.05
            ),
            n_updates=40,
        ),
        **dict.fromkeys(("MinAtar/Asterix-v0", "MinAtar/Asterix-v1"), _ASTERIX),
        **dict.fromkeys(("MinAtar/Breakout-v0", "MinAtar/Breakout-v1"), _BREAKOUT),
        # With σ = 2 the car is pushed with all force now and then, and the first segments reach the top.
        "MountainCarContinuous-v0": _Known(
            _mlp((32, 32), scaling="bounds", initial_log_std=0.7),
            algorithm=PPO(
                n_envs=128,
                n_steps=250,
                epochs=8,
                minibatch=2000,
                learning_rate=_falling(3e-3, 40),
                reward_scale=0.1,
            ),
            n_updates=40,
        ),
        "Pendulum-v1": _Known(
            _mlp((32, 32)),
            algorithm=PPO(
                n_envs=16,
                n_steps=200,
                epochs=16,
                minibatch=400,
                learning_rate=_falling(4e-3, 40),
                discount=0.97,
                reward_scale=0.05,
            ),
            n_updates=40,
        ),
    },
    "a2c": {
        "CartPole-v1": _Known(
            _mlp((32, 32)),
            algorithm=A2C(learning_rate=_falling(2e-3, 800), reward_scale=0.05),
            n_updates=800,
        ),
    },
    "trpo": {
        "CartPole-v1": _Known(
            _mlp((32, 32)),
            algorithm=TRPO(
                n_envs=32, n_steps=64, max_kl=0.02, learning_rate=2e-3, minibatch=256, reward_scale=0.05
            ),
            n_updates=60,
        ),
        "Pendulum-v1": _Known(
            _mlp((32, 32)),
            algorithm=TRPO(
                n_envs=32,
                n_steps=200,
                max_kl=0.05,
                learning_rate=2e-3,
                minibatch=400,
                discount=0.97,
                reward_scale=0.05,
            ),
            n_updates=100,
        ),
    },
}


def _over(n_updates: int, known: _Known) -> _Known:
    """Return the same with other updates; with more, a learning rate that falls over all still does so.

    With fewer it stays as it is, so that a run of the rest of the known ones may go on where they end.
    """

    def stretched(part):
        rate = getattr(part, "learning_rate", None)
        if not isinstance(rate, LinearSchedule) or not rate.n_updates == known.n_updates < n_updates:
            return part
        return part._replace(learning_rate=rate._replace(n_updates=n_updates))

    return known._replace(
        n_updates=n_updates, optimizer=stretched(known.optimizer), algorithm=stretched(known.algorithm)
    )


def settings_for(env: Any, algorithm: str | None = None, n_updates: int | None = None) -> Settings:
    """Return settings for training in an environment.

    For a registered environment what is known to work, whatever its parameters; for parameters other than
    the registered ones there is no `target_return`. For any other the policy that fits its spaces, and the
    rest left to `fastpg.train`.

    Parameters
    ----------
    env : NamedTuple
    algorithm : str, optional
        "ppo", "a2c" or "trpo": then the policy is a multilayer perceptron, and the settings are those of the
        algorithm, its own defaults where nothing better is known.
    n_updates : int, optional
        In place of the known number. A learning rate that falls until the last update does so over these, if
        they are more.

    Raises
    ------
    ValueError
        If fastpg has no policy for the environment's spaces, or no such algorithm.
    """
    if algorithm is None:
        known = _KNOWN.get(id_of(env) or "", _Known())
    elif algorithm in ALGORITHMS:
        otherwise = _Known(_mlp(), algorithm=ALGORITHMS[algorithm]())
        known = _KNOWN_WITH[algorithm].get(id_of(env) or "", otherwise)
    else:
        allowed = ", ".join(map(repr, ALGORITHMS))
        raise ValueError(f"algorithm={algorithm!r}: must be one of {allowed}")
    if not has_default_parameters(env):
        known = known._replace(target_return=None)
    if n_updates is not None:
        known = _over(n_updates, known)
    return Settings(known.policy(env), *known[1:])
