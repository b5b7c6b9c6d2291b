"""fastpg: policy gradients on a CPU, fast and right."""

from fastpg import exact, features
from fastpg.algorithms.a2c import A2C
from fastpg.algorithms.gae import gae
from fastpg.algorithms.ppo import PPO
from fastpg.algorithms.trpo import TRPO
from fastpg.comparison import compare
from fastpg.dispatch import inline
from fastpg.environment import make, register, registry
from fastpg.environment_checks import check_env
from fastpg.estimators.estimate import Estimate
from fastpg.estimators.gpomdp import GPOMDP, RewardToGo
from fastpg.estimators.gradient import policy_gradient
from fastpg.estimators.natural import natural_gradient
from fastpg.estimators.reinforce import REINFORCE
from fastpg.evaluation import Evaluation, evaluate
from fastpg.interop.single import Env
from fastpg.interop.vector import VectorEnv, make_vec
from fastpg.optimizers import SGD, Adam, LinearSchedule, Momentum, NaturalGradient
from fastpg.policies import policy_for
from fastpg.policies.gaussian_features import GaussianFeatures
from fastpg.policies.gaussian_linear import GaussianLinear
from fastpg.policies.gaussian_mlp import GaussianMLP
from fastpg.policies.softmax_cnn import SoftmaxCNN
from fastpg.policies.softmax_features import SoftmaxFeatures
from fastpg.policies.softmax_linear import SoftmaxLinear
from fastpg.policies.softmax_mlp import SoftmaxMLP
from fastpg.policies.softmax_tabular import SoftmaxTabular
from fastpg.policy_checks import check_policy
from fastpg.rollouts import Rollout, rollout
from fastpg.runs import Run, load
from fastpg.training import TrainingDiverged, TrainingInterrupted, train

__version__ = "0.1.0"

__all__ = [
    "A2C",
    "GPOMDP",
    "PPO",
    "REINFORCE",
    "SGD",
    "Adam",
    "Env",
    "Estimate",
    "Evaluation",
    "GaussianFeatures",
    "GaussianLinear",
    "GaussianMLP",
    "LinearSchedule",
    "Momentum",
    "NaturalGradient",
    "RewardToGo",
    "Rollout",
    "Run",
    "SoftmaxFeatures",
    "SoftmaxLinear",
    "SoftmaxCNN",
    "SoftmaxMLP",
    "SoftmaxTabular",
    "TRPO",
    "TrainingDiverged",
    "TrainingInterrupted",
    "VectorEnv",
    "check_env",
    "check_policy",
    "compare",
    "evaluate",
    "exact",
    "features",
    "gae",
    "inline",
    "load",
    "make",
    "make_vec",
    "natural_gradient",
    "policy_for",
    "policy_gradient",
    "register",
    "registry",
    "rollout",
    "train",
]


def __dir__():
    return sorted([*__all__, "envs", "random", "simd", "__version__"])
