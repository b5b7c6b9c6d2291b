"""`SoftmaxFeatures` as the lanes have it where its features are few: the score is carried along."""

from typing import Any, NamedTuple

from fastpg import linear_forms, short_features, vectors
from fastpg.policies import softmax


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

    probabilities, sample, mode = softmax.probabilities, softmax.sample, softmax.mode  # type: ignore[misc]
    log_prob, entropy, error = softmax.log_prob, softmax.entropy, softmax.error  # type: ignore[misc]

    def running_score(self, theta, observation, action):
        """Return the score without its last row, minus the sum of the others."""
        error = self.error(theta, observation, action)
        return short_features.outer(vectors.but_last(error), self.features, self.shape, observation)

    def running_entropy_score(self, theta, observation):
        """Return ∇_θ H, −π(c) (log π(c) + H) φ for the row θ_c, without its last row."""
        slope = vectors.entropy_slope(self.logits(theta, observation))
        return short_features.outer(vectors.but_last(slope), self.features, self.shape, observation)

    def whole_score(self, theta, running):
        """Return the score, or a sum of scores, from its `running_score`."""
        rows = short_features.unfolded(running, self.features, self.shape)
        return vectors.with_balancing_row(rows, theta)
