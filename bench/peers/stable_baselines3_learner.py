"""Stable-Baselines3: ``python -m bench.peers.stable_baselines3_learner ID {PPO,A2C}``.

The hyperparameters are those of rl-baselines3-zoo (``hyperparams/ppo.yml`` and ``a2c.yml``), its environments
``DummyVecEnv``, as there. One thread: PyTorch is no faster with two for networks of 64 units.
"""

import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from bench.peers.solving import Trial, arguments
from bench.serving import versions


def decaying(initial):
    """Return SB3's schedule that falls linearly to 0: the zoo's ``lin_``."""
    return lambda remaining: initial * remaining


SETTINGS = {  # environments, steps, hyperparameters
    ("PPO", "CartPole-v1"): (
        8,
        100_000,
        {
            "n_steps": 32,
            "batch_size": 256,
            "gae_lambda": 0.8,
            "gamma": 0.98,
            "n_epochs": 20,
            "ent_coef": 0.0,
            "learning_rate": decaying(0.001),
            "clip_range": decaying(0.2),
        },
    ),
    ("A2C", "CartPole-v1"): (8, 500_000, {"ent_coef": 0.0}),
    ("PPO", "Pendulum-v1"): (
        4,
        100_000,
        {
            "n_steps": 1024,
            "gae_lambda": 0.95,
            "gamma": 0.9,
            "n_epochs": 10,
            "ent_coef": 0.0,
            "learning_rate": 1e-3,
            "clip_range": 0.2,
            "use_sde": True,
            "sde_sample_freq": 4,
        },
    ),
}


class Checked(BaseCallback):
    """Ends training when it is solved."""

    def __init__(self, trial):
        super().__init__()
        self.trial, self.solved = trial, False

    def _act(self, observations):
        return self.model.predict(observations, deterministic=True)[0]

    def _on_rollout_start(self):  # after the update
        self.solved = self.solved or self.trial.check(self._act, self.num_timesteps)

    def _on_step(self):
        return not self.solved


def environments(kind, id, n, seed):
    """Return the vector environment."""
    if kind == "stock":
        return make_vec_env(id, n, seed=seed)
    from stable_baselines3.common.vec_env import VecMonitor

    import fastpg
    from fastpg.interop.stable_baselines3 import StableBaselinesVecEnv

    games = StableBaselinesVecEnv(fastpg.make(id), n)
    games.reset()  # the kernel comes from the disk before training, like PyTorch
    return VecMonitor(games)


def main():
    """Train until solved."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("algorithm", choices=["PPO", "A2C"])
    parser.add_argument("--environments", choices=["stock", "fastpg"], default="stock")
    options = parser.parse_args()
    torch.set_num_threads(1)
    n, steps, settings = SETTINGS[options.algorithm, options.id]
    games = environments(options.environments, options.id, n, options.seed)
    algorithm = {"PPO": PPO, "A2C": A2C}[options.algorithm]
    model = algorithm("MlpPolicy", games, seed=options.seed, device="cpu", **settings)
    trial = Trial(options.id, options.seed)
    model.learn(steps, callback=Checked(trial))
    trial.report(versions=versions("stable-baselines3", "torch", "gymnasium"))


if __name__ == "__main__":
    main()
