"""What is refused at the border: the kind of error, the argument it names, and what is allowed."""

import math
from typing import NamedTuple

import numba
import numpy as np
import pytest
from fastpg.envs.cartpole import CartPole

import fastpg
from fastpg import REINFORCE, evaluate, policy_gradient


@pytest.fixture
def arguments(env, policy, theta):
    return {"env": env, "policy": policy, "theta": theta, "n_trajectories": 10}


@pytest.mark.parametrize(
    ("id", "message"),
    [
        ("CartPole-v2", r"id='CartPole-v2': there is no such environment; did you mean .*CartPole-v1"),
        ("cartpole", r"id='cartpole': .*did you mean .*CartPole"),
        ("Zaxxon", r"id='Zaxxon': .*there are .*CartPole-v0, CartPole-v1"),
        ("", r"id='': .*there are .*CartPole-v1"),
        (7, r"id=7: .*there are .*CartPole-v1"),
    ],
)
def test_make_unknown_environment(id, message):
    with pytest.raises(ValueError, match=message):
        fastpg.make(id)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("gravty", 3.7, TypeError, r"gravty=3.7: CartPole has no such parameter; did you mean .*gravity"),
        ("zzz", 1.0, TypeError, r"zzz=1.0: .*there are gravity, masscart, .*sutton_barto_reward"),
        ("gravity", "9.8", TypeError, r"gravity='9.8': must be a number, like the default 9.8"),
        ("gravity", None, TypeError, r"gravity=None: must be a number"),
        ("gravity", True, TypeError, r"gravity=True: must be a number"),
        ("gravity", math.nan, ValueError, r"gravity=nan: must be finite"),
        ("tau", math.inf, ValueError, r"tau=inf: must be finite"),
        ("tau", 10**400, ValueError, r"tau=1000.*: must be finite"),
        ("tau", -math.inf, ValueError, r"tau=-inf: must be finite"),
        ("semi_implicit", 1, TypeError, r"semi_implicit=1: must be True or False"),
        ("sutton_barto_reward", "yes", TypeError, r"sutton_barto_reward='yes': must be True or False"),
    ],
)
def test_make_bad_parameter(name, value, error, message):
    with pytest.raises(error, match=message):
        fastpg.make("CartPole-v1", **{name: value})


def test_make_turns_an_integer_into_the_kind_of_the_default():
    """Another kind would be another type, and another kernel."""
    gravity = fastpg.make("CartPole-v1", gravity=10).gravity
    assert gravity == 10.0 and isinstance(gravity, float)


@pytest.mark.parametrize("id", ["", None, 3])
def test_register_bad_id(id):
    with pytest.raises(ValueError, match=r"id=.*must be a name such as"):
        fastpg.register(id, "fastpg.envs.cartpole:CartPole")


class NoStep(NamedTuple):
    def reset(self, rng):
        return self

    def observe(self, state):
        return (1.0,)


class NotATuple:
    pass


THETA_10 = np.zeros(10)
BAD_ARGUMENTS = [
    ("env", "CartPole-v1", TypeError, r"env='CartPole-v1': .*not a name; use fastpg.make\('CartPole-v1'\)"),
    ("env", NotATuple(), TypeError, r"env=.*: must be an instance of a typing.NamedTuple class"),
    ("env", CartPole, TypeError, r"env=.*must be an instance of a typing.NamedTuple"),
    ("env", None, TypeError, r"env=None: must be an instance of a typing.NamedTuple"),
    ("env", NoStep(), TypeError, r"env=.*: NoStep lacks step, action_space, horizon"),
    ("env", CartPole(gravity=math.nan), ValueError, r"env: gravity is nan, must be a number"),
    ("policy", NotATuple(), TypeError, r"policy=.*: must be an instance of a typing.NamedTuple class"),
    ("policy", fastpg.SoftmaxLinear, TypeError, r"policy=.*: must be an instance of a typing.NamedTuple"),
    ("policy", NoStep(), TypeError, r"policy=.*: NoStep lacks sample, score, n_parameters"),
    ("theta", [0.0] * 9 + [math.nan], ValueError, r"theta: must be finite, but theta\[9\] is nan"),
    ("theta", [math.inf] + [0.0] * 9, ValueError, r"theta: must be finite, but theta\[0\] is inf"),
    ("theta", np.zeros(9), ValueError, r"theta: has shape \(9,\), must have \(10,\)"),
    ("theta", np.zeros((2, 5)), ValueError, r"theta: has shape \(2, 5\), must have \(10,\)"),
    ("theta", 0.0, ValueError, r"theta: has shape \(\), must have \(10,\)"),
    ("theta", "zero", TypeError, r"theta: must be an array of 10 numbers"),
    ("theta", ["0.5"] * 10, TypeError, r"theta: must be an array of 10 numbers \(<U3 given\)"),
    ("theta", None, (TypeError, ValueError), r"theta: .*10"),
    ("theta", THETA_10 + 1j, TypeError, r"theta: must be an array of 10 numbers"),
    ("theta", [[0.0], [0.0, 1.0]], TypeError, r"theta: must be an array of 10 numbers"),
    ("n_trajectories", 0, ValueError, r"n_trajectories=0: must be between 1 and"),
    ("n_trajectories", -1, ValueError, r"n_trajectories=-1: must be between 1 and"),
    ("n_trajectories", 1.5, TypeError, r"n_trajectories=1.5: must be an integer"),
    ("n_trajectories", 10.0, TypeError, r"n_trajectories=10.0: must be an integer"),
    ("n_trajectories", True, TypeError, r"n_trajectories=True: must be an integer"),
    ("n_trajectories", "10", TypeError, r"n_trajectories='10': must be an integer"),
    ("n_trajectories", None, TypeError, r"n_trajectories=None: must be an integer"),
    ("horizon", 0, ValueError, r"horizon=0: must be between 1 and"),
    ("horizon", -1, ValueError, r"horizon=-1: must be between 1 and"),
    ("horizon", 2**60, ValueError, r"horizon=.*: must be between 1 and"),
    ("horizon", 20.0, TypeError, r"horizon=20.0: must be an integer"),
    ("seed", -1, ValueError, r"seed=-1: must be between 0 and 18446744073709551615"),
    ("seed", 2**64, ValueError, r"seed=18446744073709551616: must be between 0 and 18446744073709551615"),
    ("seed", 1.0, TypeError, r"seed=1.0: must be an integer"),
    ("seed", None, TypeError, r"seed=None: must be an integer"),
    ("threads", 0, ValueError, r"threads=0: must be between 1 and \d+"),
    ("threads", 1000, ValueError, r"threads=1000: must be between 1 and \d+"),
    ("threads", "all", TypeError, r"threads='all': must be an integer"),
]


@pytest.mark.parametrize("call", [policy_gradient, evaluate])
@pytest.mark.parametrize(("name", "value", "error", "message"), BAD_ARGUMENTS)
def test_bad_argument(call, arguments, name, value, error, message):
    with pytest.raises(error, match=message):
        call(**{**arguments, name: value})


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (-1, ValueError, r"first_trajectory=-1: must be at least 0|first_trajectory=-1: must be between 0"),
        (0.5, TypeError, r"first_trajectory=0.5: must be an integer"),
        (2**64, ValueError, r"first_trajectory=18446744073709551616: must be between 0 and"),
    ],
)
def test_bad_first_trajectory(arguments, value, error, message):
    with pytest.raises(error, match=message):
        policy_gradient(**arguments, first_trajectory=value)


@pytest.mark.parametrize("baseline", ["mean", "optimal"])
def test_a_baseline_needs_two_trajectories(arguments, baseline):
    with pytest.raises(ValueError, match=rf"n_trajectories=1: baseline='{baseline}' .*needs 2"):
        policy_gradient(**{**arguments, "n_trajectories": 1}, estimator=REINFORCE(baseline=baseline))


@pytest.mark.parametrize("baseline", ["best", "", None, 0.0, "Mean"])
def test_unknown_baseline(arguments, baseline):
    with pytest.raises(ValueError, match="not one of this estimator; (there are none, mean|did you mean)"):
        policy_gradient(**arguments, estimator=REINFORCE(baseline=baseline))


@pytest.mark.parametrize("estimator", ["none", 3, REINFORCE])
def test_bad_estimator(arguments, estimator):
    with pytest.raises(TypeError, match=r"estimator="):
        policy_gradient(**arguments, estimator=estimator)


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="slow without the jit, and the same code")
@pytest.mark.parametrize("call", [policy_gradient, evaluate])
def test_what_is_allowed_is_not_refused(call, arguments):
    """The bounds themselves, lists for θ, and NumPy's integers."""
    allowed = {"theta": [0.0] * 10, "n_trajectories": np.int32(2), "horizon": np.int64(1), "threads": 1}
    for seed in (0, 2**64 - 1, np.uint64(2**64 - 1)):
        assert call(**{**arguments, **allowed}, seed=seed).mean_return == 1.0
