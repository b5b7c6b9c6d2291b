"""fastpg: policy gradients on a CPU, fast and right."""

from fastpg.dispatch import inline
from fastpg.environment import make, register, registry
from fastpg.estimators.estimate import Estimate, policy_gradient
from fastpg.estimators.reinforce import REINFORCE
from fastpg.evaluation import Evaluation, evaluate
from fastpg.policies.softmax_linear import SoftmaxLinear

__version__ = "0.1.0"

__all__ = [
    "REINFORCE",
    "Estimate",
    "Evaluation",
    "SoftmaxLinear",
    "evaluate",
    "inline",
    "make",
    "policy_gradient",
    "register",
    "registry",
]
