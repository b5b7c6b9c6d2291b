"""The SAC of RLtools (C++): ``python -m bench.peers.rltools_learner Pendulum-v1``.

As in its documentation: Gymnasium's environment under ``RescaleAction``, its default hyperparameters. The
first process compiles for the environment and keeps that in the temporary directory.
"""

import time

import gymnasium
import numpy as np
from gymnasium.wrappers import RescaleAction
from rltools import SAC

from bench.peers.solving import Trial, arguments
from bench.serving import versions

EVERY = 500  # steps between two checks, of which it takes a few thousand in all


def main():
    """Train until solved."""
    options = arguments(__doc__.splitlines()[0], ids=["Pendulum-v1"]).parse_args()
    high = gymnasium.make(options.id).action_space.high

    def make():
        env = RescaleAction(gymnasium.make(options.id), -1.0, 1.0)
        env.reset(seed=options.seed)
        return env

    started = time.perf_counter()
    sac = SAC(make, enable_evaluation=False)
    compile_seconds = time.perf_counter() - started
    state = sac.State(options.seed)
    trial = Trial(options.id, options.seed, every=EVERY)

    def greedy(observations):
        actions = [state.action(observation.astype(np.float64)) for observation in observations]
        return (np.reshape(actions, (len(observations), -1)) * high).astype(np.float32)

    steps, finished = 0, False
    while not finished:
        finished = state.step()
        steps += 1
        if trial.check(greedy, steps):
            break
    trial.report(versions=versions("rltools", "gymnasium"), compile_seconds=compile_seconds)


if __name__ == "__main__":
    main()
