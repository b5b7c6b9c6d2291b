"""One thread or several, by the clock.

Several threads are faster where there is enough to do and a core for each. A core that is busy with something
else (the threads of a learner, say) makes a parallel region a hundred times slower, as it waits for all its
threads. So of two ways to make the same call the one that has been faster is taken, and the other is tried
again now and then.
"""

import math

_TRIALS = 3  # of each way at first: the first calls find memory that nobody has used yet
_PATIENCE = 50  # times as long as the other way takes, until it is tried again
_DOUBT = 1.25  # an estimate rises by no more at a time, for a single call may be slow by accident


class Pace:
    """The choice between calls on one thread and parallel ones, which give the same results."""

    def __init__(self):
        self._trials = 2 * _TRIALS
        self._estimates = [math.inf, math.inf]  # seconds of a call: alone, and in parallel
        self._latest = [0.0, 0.0]
        self._since = 0.0  # seconds since the slower one was tried

    def parallel(self) -> bool:
        """Return whether the next call should be parallel."""
        if self._trials > 0:
            return self._trials % 2 == 1
        alone, together = self._estimates
        faster = together < alone
        if self._since > _PATIENCE * self._latest[not faster]:
            return not faster
        return faster

    def note(self, parallel: bool, seconds: float) -> None:
        """Note how long such a call took."""
        self._trials -= 1
        self._estimates[parallel] = min(seconds, _DOUBT * self._estimates[parallel])
        self._latest[parallel] = seconds
        slower = self._estimates[parallel] >= self._estimates[not parallel]
        self._since = 0.0 if slower else self._since + seconds
