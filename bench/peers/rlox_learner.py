"""The PPO of rlox (Rust and PyTorch): ``python -m bench.peers.rlox_learner CartPole-v1``.

Its ``Trainer("ppo", env="CartPole-v1")`` with its defaults, which its documentation says are CleanRL's for
CartPole, and as many steps as CleanRL's. (Its documentation's example takes 50,000, which seldom are
enough.)
"""

import torch
from rlox import Trainer
from rlox.callbacks import Callback

from bench.peers.solving import Trial, arguments
from bench.serving import versions

STEPS = 500_000


class Checked(Callback):
    """Ends training when it is solved."""

    def __init__(self, trial):
        self.trial, self.updates = trial, 0

    def on_step(self, **told):
        """Return whether to go on, after an update."""
        algorithm, self.updates = told["algo"], self.updates + 1

        def greedy(observations):
            return algorithm.predict(observations, deterministic=True).numpy()

        steps = self.updates * algorithm.config.n_envs * algorithm.config.n_steps
        return not self.trial.check(greedy, steps)


def main():
    """Train until solved."""
    options = arguments(__doc__.splitlines()[0], ids=["CartPole-v1"]).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    trial = Trial(options.id, options.seed)
    checked = Checked(trial)
    trainer = Trainer("ppo", env=options.id, seed=options.seed, callbacks=[checked])
    trainer.train(total_timesteps=STEPS)
    trial.report(versions=versions("rlox", "torch"))


if __name__ == "__main__":
    main()
