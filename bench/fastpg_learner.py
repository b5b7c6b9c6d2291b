"""fastpg's training until solved, as `bench.peers.solving` has it: ``python -m bench.fastpg_learner ID``.

With what is known to work in the environment (`fastpg.defaults`), as ``fastpg train ID [--algorithm ppo]``.
"""

import importlib.metadata

import fastpg
from bench.peers.solving import Trial, arguments

MAX_UPDATES = 500


def main():
    """Train until solved."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--algorithm", help="in place of the environment's own")
    options = parser.parse_args()
    env = fastpg.make(options.id)
    trial = Trial(options.id, options.seed)
    run = fastpg.train(env, algorithm=options.algorithm, n_updates=1, seed=options.seed)
    for _ in range(MAX_UPDATES):
        theta = run.theta
        steps = int(run.history["n_steps"][-1])
        if trial.check(lambda observations: run.policy.mode(theta, observations), steps):  # noqa: B023
            break
        run = fastpg.train(env, n_updates=1, seed=options.seed, resume=run)
    trial.report(versions=f"fastpg {importlib.metadata.version('fastpg-rl')}")


if __name__ == "__main__":
    main()
