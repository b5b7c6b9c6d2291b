"""fastpg's estimates are those of automatic differentiation in JAX, from the same trajectories.

``pytest bench/test_estimators.py``; FASTPG_PEERS names the interpreter that has JAX, if it is another one.
"""

import os
import sys

import pytest

from bench.contestants import installed
from bench.estimator_agreement import AGREEMENT, ASKED, ASKED_WEIGHTED, cases, differences

PEERS = os.environ.get("FASTPG_PEERS", sys.executable)

pytestmark = pytest.mark.skipif(
    not installed(PEERS, "jax"), reason=f"{PEERS} has no JAX; FASTPG_PEERS may name an interpreter that has"
)


@pytest.mark.parametrize("name", cases())
def test_same_estimates(name):
    """Gradients, standard errors, covariances, natural gradients; all the estimators that are asked for."""
    found = differences(cases()[name], PEERS)
    assert set(ASKED) | set(ASKED_WEIGHTED) <= set(found)
    different = {quantity: value for quantity, value in found.items() if not value <= AGREEMENT}
    assert not different
