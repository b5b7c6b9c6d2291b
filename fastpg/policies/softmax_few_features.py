"""`SoftmaxFeatures` as the lanes have it where its features are few: the score is carried along."""

from typing import Any, NamedTuple

from fastpg import linear_forms, short_features, vectors
from fastpg.random import categorical


class SoftmaxFewFeatures(NamedTuple):
    """The same policy with the sizes of its features in the type; θ and running scores are folded.

    Estimators make it of `SoftmaxFeatures` (`SoftmaxFeatures.in_lanes`); the derivations stand there.
    """

    features: Any
    actions: tuple[int, ...]
    shape: tuple[tuple[float, ...], ...]  # `fastpg.short_features`

    @property
    def n_parameters(self) -> int:
        """The length of θ, A·F."""
        return len(self.actions) * self.features.n_features

    def lane_parameters(self, theta):
        """Return θ with the differences of its rows from the last one, folded."""
        return linear_forms.folded_differences(theta, self.features, len(self.actions))

    def logits(self, theta, observation):
        """Return θ_a·φ(observation) for all actions, up to what is the same for all: shape (..., A)."""
        return short_features.logits(theta, self.features, self.shape, observation, self.actions)

    def probabilities(self, theta, observation):
        """Return π_θ(· | observation), shape (..., A)."""
        return vectors.softmax(self.logits(theta, observation))

    def sample(self, theta, observation, rng):
        """Return an action drawn from π_θ(· | observation), with draw 0 of `rng`."""
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

    def running_score(self, theta, observation, action):
        """Return the score without its last row, minus the sum of the others."""
        error = vectors.indicator_minus(action - self.actions[0], self.probabilities(theta, observation))
        return short_features.outer(vectors.but_last(error), self.features, self.shape, observation)

    def running_entropy_score(self, theta, observation):
        """Return ∇_θ H, −π(c) (log π(c) + H) φ for the row θ_c, without its last row."""
        slope = vectors.entropy_slope(self.logits(theta, observation))
        return short_features.outer(vectors.but_last(slope), self.features, self.shape, observation)

    def whole_score(self, theta, running):
        """Return the score, or a sum of scores, from its `running_score`."""
        rows = short_features.unfolded(running, self.features, self.shape)
        return vectors.with_balancing_row(rows, theta)
