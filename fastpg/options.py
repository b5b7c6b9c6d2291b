"""What the options of the command line make of the settings that are known for an environment."""

import ast
import enum
from typing import Any

import fastpg
from fastpg.optimizers import NaturalGradient, learning_rate_at
from fastpg.scores import is_neural


class Optimizer(str, enum.Enum):
    """How θ follows the gradient."""

    adam = "adam"
    momentum = "momentum"
    sgd = "sgd"
    natural = "natural"


class Policy(str, enum.Enum):
    """What policy is trained."""

    linear = "linear"  # or tabular: the simplest one
    mlp = "mlp"


class Precision(str, enum.Enum):
    """Of numbers."""

    float32 = "float32"
    float64 = "float64"


class Estimator(str, enum.Enum):
    """How the gradient is estimated."""

    reinforce = "reinforce"
    gpomdp = "gpomdp"
    reward_to_go = "reward-to-go"


class Baseline(str, enum.Enum):
    """What is subtracted from the return."""

    none = "none"
    mean = "mean"
    optimal = "optimal"
    time = "time"
    value = "value"
    network = "network"  # of neural policies


class Algorithm(str, enum.Enum):
    """What trains a neural policy and its critic."""

    ppo = "ppo"
    a2c = "a2c"
    trpo = "trpo"


_OPTIMIZERS = {
    Optimizer.adam: fastpg.Adam,
    Optimizer.momentum: fastpg.Momentum,
    Optimizer.sgd: fastpg.SGD,
    Optimizer.natural: NaturalGradient,
}
_ESTIMATORS = {
    Estimator.reinforce: fastpg.REINFORCE,
    Estimator.gpomdp: fastpg.GPOMDP,
    Estimator.reward_to_go: fastpg.RewardToGo,
}


def refuse_with_resume(context):
    """Raise ValueError if a setting is given that the run to go on with has already."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in _OWN_OF_RESUME and source is not None and source.name == "COMMANDLINE":
            option = "ENV" if name == "env" else f"--{name.replace('_', '-')}"
            raise ValueError(f"{option}: must not be given with --resume, which goes on as the run began")


def refuse_with_algorithm(context):
    """Raise ValueError if an option is given that an algorithm has something in place of."""
    for name in ("trajectories", "estimator", "baseline", "optimizer", "kl", "damping"):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise ValueError(f"--{name}: must not be given with --algorithm, which has settings of its own")


def algorithm_from(known, discount, entropy, learning_rate, final_learning_rate, updates):
    """The known algorithm, with the options of the command line."""
    given = {"discount": discount, "entropy": entropy, "learning_rate": learning_rate}
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in known._fields:
            raise ValueError(f"--{name}: {type(known).__name__} has none")
    if final_learning_rate is not None:
        start = learning_rate_at(given.get("learning_rate", known.learning_rate), 0)
        given["learning_rate"] = fastpg.LinearSchedule(start, final_learning_rate, updates)
    algorithm = known._replace(**given)
    algorithm.check()
    return algorithm


_OWN_OF_RESUME = {"resume", "updates", "target", "threads", "out", "episodes"}


def estimator_from(known, kind, n_trajectories, baseline, discount, entropy):
    """The known estimator, or one of another kind, with the options of the command line; None: train's."""
    given = {
        "discount": discount,
        "entropy": entropy,
        "baseline": None if baseline is None else baseline.value,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if kind is None and not given:
        return known
    cls = fastpg.REINFORCE if known is None else type(known)
    cls = cls if kind is None else _ESTIMATORS[kind]
    if known is None or type(known) is not cls:
        known = cls(baseline="mean" if n_trajectories > 1 or cls is not fastpg.REINFORCE else "none")
    estimator = known._replace(**given)
    estimator.check(n_trajectories)
    return estimator


def optimizer_from(known, kind, learning_rate, final_learning_rate, updates, kl, damping):
    """The known optimizer, or one of another kind, with the options of the command line."""
    known = fastpg.Adam() if known is None else known
    if kind is not None and type(known) is not _OPTIMIZERS[kind]:
        known = _OPTIMIZERS[kind]()
    natural = isinstance(known, NaturalGradient)
    others = (
        {"--learning-rate": learning_rate, "--final-learning-rate": final_learning_rate}
        if natural
        else {"--kl": kl, "--damping": damping}
    )
    for option, value in others.items():
        if value is not None:
            has = ", ".join(known._fields)
            raise ValueError(f"{option}: {type(known).__name__} has none; it has {has} (see --optimizer)")
    if natural:
        given = {"kl": kl, "damping": damping}
        return known._replace(**{name: value for name, value in given.items() if value is not None})
    rate = known.learning_rate if learning_rate is None else learning_rate
    if final_learning_rate is not None:
        rate = fastpg.LinearSchedule(learning_rate_at(rate, 0), final_learning_rate, updates)
    return known._replace(learning_rate=rate)


def policy_from(environment, known, kind, hidden):
    """The known policy, or one of another kind."""
    if hidden is not None and kind is not Policy.mlp:
        raise ValueError(f"--hidden {hidden}: only with --policy mlp")
    if kind is None or (kind is Policy.mlp and hidden is None and is_neural(known)):
        return known
    if kind is Policy.linear:
        return fastpg.policy_for(environment)
    try:
        sizes = (64, 64) if hidden is None else tuple(int(size) for size in hidden.split(",") if size)
    except ValueError:
        raise ValueError(f"--hidden {hidden}: must be integers with commas between them") from None
    discrete = hasattr(environment.action_space, "n")
    return (fastpg.SoftmaxMLP if discrete else fastpg.GaussianMLP).for_env(environment, sizes)


def environment_from(env: str, param: list[str] | None) -> Any:
    """The environment of that name, with the name=value pairs of the command line."""
    values = {}
    for pair in param or []:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"--param {pair}: must be name=value")
        values[name] = _parsed(text)
    return fastpg.make(env, **values)


def _parsed(text: str) -> Any:
    """A value as Python writes it: true or false, a number, a list of values; anything else is a text."""
    if text[:1] in ("[", "("):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
