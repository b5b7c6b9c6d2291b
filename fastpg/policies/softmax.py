"""What softmax policies in features or by a network do with the logits, whatever gave them.

`probabilities`, `sample`, `mode`, `log_prob`, `entropy` and `error` are the methods that they have in common:
those of a class with `logits` and `actions`.
"""

from fastpg import vectors
from fastpg.random import categorical


def probabilities(self, theta, observation):
    """Return π_θ(· | observation), shape (..., A)."""
    return vectors.softmax(self.logits(theta, observation))


def sample(self, theta, observation, rng):
    """Return an action drawn from π_θ(· | observation), with draw 0 of `rng`.

    `rng` is a `fastpg.random.Rng`, or in ordinary Python a `numpy.random.Generator`.
    """
    return self.actions[0] + categorical(rng, 0, self.probabilities(theta, observation))


def mode(self, theta, observation):
    """Return the most probable action."""
    return self.actions[0] + vectors.argmax(self.logits(theta, observation))


def log_prob(self, theta, observation, action):
    """Return log π_θ(action | observation), shape (...)."""
    return vectors.log_softmax_at(self.logits(theta, observation), action - self.actions[0])


def entropy(self, theta, observation):
    """Return H = −Σ_a π(a) log π(a), shape (...)."""
    return vectors.softmax_entropy(self.logits(theta, observation))


def error(self, theta, observation, action):
    """Return 1{a = action} − π_θ(a | observation) for all actions a, shape (..., A)."""
    return vectors.indicator_minus(action - self.actions[0], self.probabilities(theta, observation))
