"""Every reference computes the same gradient as fastpg, within standard errors, before anyone times it.

``pytest bench/test_references.py``; FASTPG_PEERS names the interpreter that has PyTorch, JAX and gymnax, if
it is another one. The C program is compared trajectory by trajectory, in ``test_yardstick.py``.
"""

import os
import sys

import numpy as np
import pytest

import fastpg
from bench.compare_gradients import MAX_DIFFERENCE, difference, reference
from bench.contestants import Contestant, installed
from bench.policies import THETA_SEEDS, random_theta

PEERS = os.environ.get("FASTPG_PEERS", sys.executable)
TILTED = np.array([0.3, -0.5, 1.0, 0.2, 0.1, -0.2, 0.4, -1.5, 0.3, 0.0])

REFERENCES = {  # module: package, interpreter, arguments
    "python_loop": ("gymnasium", sys.executable, ["--lanes", "20", "--calls", "100"]),
    "numpy_vectorised": ("numpy", sys.executable, ["--lanes", "1024"]),
    "torch_autograd": ("torch", PEERS, ["--lanes", "4096"]),
    "jax_gymnax": ("gymnax", PEERS, ["--lanes", "4096"]),
}


def facts_of(name, theta, *more):
    """Return what a reference says of its estimate; skip where it is not installed."""
    package, python, arguments = REFERENCES[name]
    if not installed(python, package):
        pytest.skip(f"{python} cannot import {package}; FASTPG_PEERS may name an interpreter that can")
    contestant = Contestant(python, *reference(name, theta, *arguments, *more))
    contestant.close()
    return contestant.facts


@pytest.mark.parametrize("name", REFERENCES)
def test_same_gradient(name):
    """Each component, and the mean return; and the standard errors are small enough to tell."""
    env = fastpg.make("CartPole-v1")
    policy = fastpg.policy_for(env)
    estimate = fastpg.policy_gradient(env, policy, TILTED, n_trajectories=200_000)
    facts = facts_of(name, TILTED)
    assert difference(estimate, facts) < MAX_DIFFERENCE
    doubled = estimate.gradient * 2.0  # a gradient that is wrong by a factor would be seen
    assert np.any(
        np.abs(doubled - facts["mean"][:-1]) > MAX_DIFFERENCE * np.array(facts["standard_error"][:-1])
    )


@pytest.mark.parametrize("id", [id for id in THETA_SEEDS if id != "CartPole-v1"])
def test_same_gradient_in_gymnax(id):
    """Gymnax has the other environments too."""
    env = fastpg.make(id)
    policy = fastpg.policy_for(env)
    theta = random_theta(env, policy, THETA_SEEDS[id])
    estimate = fastpg.policy_gradient(env, policy, theta, n_trajectories=50_000)
    assert difference(estimate, facts_of("jax_gymnax", theta, "--id", id)) < MAX_DIFFERENCE
