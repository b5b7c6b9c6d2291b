"""The command line: train, evaluate, gradient, compare, bench, envs."""

import atexit
import gc
import inspect
import os
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np

import fastpg
from fastpg.algorithms.checks import is_algorithm
from fastpg.arguments import MAX_TRAJECTORIES, check_integer, check_threads
from fastpg.defaults import settings_for
from fastpg.environment import parameters_of
from fastpg.options import (
    Algorithm,
    Baseline,
    Estimator,
    Optimizer,
    Policy,
    Precision,
    algorithm_from,
    environment_from,
    estimator_from,
    optimizer_from,
    policy_from,
    refuse_with_algorithm,
    refuse_with_resume,
)
from fastpg.policies import with_dtype
from fastpg.runs import check_output, id_of
from fastpg.training import default_optimizer

try:
    import typer
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TimeRemainingColumn
    from rich.table import Table

    from fastpg.outcomes import evaluate_run, keep, stop_early
    from fastpg.terminal import (
        amount,
        columns,
        compile_notice,
        console,
        interrupts,
        plain_errors,
        training_progress,
    )
except ImportError as error:
    sys.exit(
        f"the command line needs the extra 'cli' ({error}): pip install -e '.[cli]' in fastpg's checkout"
    )

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)


def _show_version(asked: bool) -> None:
    if asked:
        console.print(f"fastpg {fastpg.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Policy gradients on a CPU, fast and right.

    An environment of yours is module:id, with a module that registers it, also in the working directory.
    """
    if os.getcwd() not in sys.path:  # as with python -m; last, so that nothing installed is hidden
        sys.path.append(os.getcwd())


_KNOWN = "the environment's"

Environment = Annotated[
    str, typer.Argument(help="Id of the environment (`fastpg envs` lists them), or module:id.")
]
Parameters = Annotated[
    list[str] | None, typer.Option("--param", help="Parameter of the environment, name=value; repeatable.")
]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
Threads = Annotated[int | None, typer.Option(help="Threads; all cores unless given.", show_default="all")]
Horizon = Annotated[
    int | None, typer.Option(help="Steps at which an episode is cut.", show_default="the environment's")
]
Dtype = Annotated[
    Precision | None, typer.Option(help="That the policy computes in.", show_default="the policy's")
]
Deterministic = Annotated[bool, typer.Option(help="Take the most probable action, not a random one.")]


@app.command()
def train(
    context: typer.Context,
    env: Annotated[
        str | None,
        typer.Argument(
            help="Id of the environment (`fastpg envs` lists them), or module:id.", show_default=False
        ),
    ] = None,
    policy: Annotated[
        Policy | None,
        typer.Option(
            help="Policy: the simplest (linear, or tabular), or a multilayer perceptron.", show_default=_KNOWN
        ),
    ] = None,
    hidden: Annotated[
        str | None,
        typer.Option(help="Sizes of the hidden layers of --policy mlp.", show_default="64,64"),
    ] = None,
    dtype: Dtype = None,
    algorithm: Annotated[
        Algorithm | None,
        typer.Option(
            help="Actor-critic algorithm, with --policy mlp and settings of its own; --discount, --entropy, "
            "--learning-rate and --final-learning-rate change them.",
            show_default="none: an estimator and an optimizer",
        ),
    ] = None,
    updates: Annotated[int | None, typer.Option(help="Updates of θ.", show_default=_KNOWN)] = None,
    trajectories: Annotated[
        int | None, typer.Option(help="Trajectories an update.", show_default=_KNOWN)
    ] = None,
    estimator: Annotated[Estimator | None, typer.Option(help="Estimator.", show_default=_KNOWN)] = None,
    baseline: Annotated[
        Baseline | None,
        typer.Option(
            help="What is subtracted from the return; network is for neural policies.",
            show_default=f"{_KNOWN}, or mean",
        ),
    ] = None,
    discount: Annotated[
        float | None, typer.Option(help="Discount γ.", show_default=f"{_KNOWN}, or the estimator's")
    ] = None,
    entropy: Annotated[
        float | None, typer.Option(help="Weight of the entropy bonus.", show_default=f"{_KNOWN}, or none")
    ] = None,
    optimizer: Annotated[Optimizer | None, typer.Option(help="Optimizer.", show_default=_KNOWN)] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Step size α.", show_default=f"{_KNOWN}, or the optimizer's")
    ] = None,
    final_learning_rate: Annotated[
        float | None,
        typer.Option(help="α of the last update, reached in equal steps.", show_default="constant"),
    ] = None,
    kl: Annotated[
        float | None,
        typer.Option(
            help="Kullback–Leibler divergence of a step of the natural gradient.",
            show_default=f"{_KNOWN}, or the optimizer's",
        ),
    ] = None,
    damping: Annotated[
        float | None,
        typer.Option(
            help="Damping of the natural gradient, of the mean of the Fisher information's diagonal.",
            show_default=f"{_KNOWN}, or the optimizer's",
        ),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            help="Stop after three updates in a row with this mean return.", show_default=f"{_KNOWN}, or none"
        ),
    ] = None,
    seed: Seed = 0,
    threads: Threads = None,
    horizon: Horizon = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory for the run; must be new or empty.", show_default="runs/ENV-DATE-TIME"),
    ] = None,
    param: Parameters = None,
    episodes: Annotated[int, typer.Option(help="Episodes of the final evaluation in Gymnasium.")] = 100,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with the run in this directory, under its settings, for --updates more; the result "
            "goes to --out.",
            show_default="start anew",
        ),
    ] = None,
) -> None:
    """Train a policy, evaluate it in Gymnasium, and keep the run.

    Without options, with settings that are known to work in the environment.
    """
    from fastpg.interop.gymnasium import is_drawn

    with plain_errors():
        settings: dict[str, Any]
        if resume is not None:
            refuse_with_resume(context)
            before = fastpg.load(resume)
            environment, chosen, seed, horizon = before.env, before.policy, before.seed, before.horizon
            settings = {"resume": before}
            if not is_algorithm(before.estimator):
                settings["n_trajectories"] = before.n_trajectories
            env = id_of(environment) or type(environment).__name__
            updates = 100 if updates is None else updates
        elif env is None:
            raise ValueError("ENV: must be given, or --resume RUN; `fastpg envs` lists the environments")
        else:
            environment = environment_from(env, param)
            known = settings_for(environment, None if algorithm is None else algorithm.value, updates)
            chosen = policy_from(environment, known.policy, policy, hidden)
            chosen = chosen if dtype is None else with_dtype(chosen, dtype.value)
            if policy is Policy.mlp and algorithm is None:  # what is known is known of another policy
                known = known._replace(estimator=None, optimizer=default_optimizer(chosen))
            updates = 100 if known.n_updates is None else known.n_updates
            rates = learning_rate, final_learning_rate, updates
        if resume is None and algorithm is not None:
            refuse_with_algorithm(context)
            settings = {"algorithm": algorithm_from(known.algorithm, discount, entropy, *rates)}
        elif resume is None:
            trajectories = next(n for n in (trajectories, known.n_trajectories, 1000) if n is not None)
            settings = {
                "estimator": estimator_from(
                    known.estimator, estimator, trajectories, baseline, discount, entropy
                ),
                "n_trajectories": trajectories,
                "optimizer": optimizer_from(known.optimizer, optimizer, *rates, kl, damping),
            }
        if resume is None:
            horizon = known.horizon if horizon is None else horizon
            target = known.target_return if target is None else target
        settings |= {"n_updates": updates, "seed": seed, "threads": threads, "horizon": horizon}
        settings["target_return"] = target
        out = out or Path("runs") / f"{env}-{time.strftime('%Y%m%d-%H%M%S')}"
        check_output(out)
        check_integer("episodes", episodes, 1)
        finished = 0 if resume is None else len(before.history)
        steps_before = int(before.history["n_steps"][-1]) if finished else 0
        started = time.perf_counter()
        try:
            with training_progress(finished + updates, steps_before) as progress:
                run = fastpg.train(environment, chosen, progress=progress, **settings)
        except (Exception, KeyboardInterrupt) as stop:
            if not hasattr(stop, "run"):  # refused before it began
                raise
            stop_early(stop, stop.run, out)
        seconds = time.perf_counter() - started
        n_steps = int(run.history["n_steps"][-1]) - steps_before
        console.print(f"trained on {n_steps:,} environment steps in {seconds:.2f} s")
        if len(run.history) < finished + updates:
            console.print(f"the target was reached after {len(run.history)} updates")
        keep(run, out)  # before the evaluation, which Ctrl-C may end
        names = ", ".join(sorted(file.name for file in out.iterdir()))
        console.print(f"run kept in [bold]{escape(str(out))}[/bold] ({names})")
        evaluate_run(run, episodes, seed, horizon, deterministic=False)
    directory, gif = shlex.quote(str(out)), shlex.quote(str(out / "episode.gif"))
    if is_drawn(run.env):
        console.print(f"watch it: fastpg evaluate {directory} --render {gif}", markup=False)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Directory of a run.")],
    episodes: Annotated[int, typer.Option(help="Episodes.")] = 100,
    seed: Seed = 0,
    deterministic: Deterministic = False,
    render: Annotated[
        Path | None, typer.Option(help="Record one more episode to this .gif or .mp4.", show_default="none")
    ] = None,
) -> None:
    """Play a trained policy in Gymnasium's own environment, or fastpg's where it has none, and record it."""
    from fastpg.interop.gymnasium import check_recording, record

    with plain_errors():
        loaded = fastpg.load(run)
        if render is not None:
            check_recording(render)
        evaluate_run(loaded, episodes, seed, loaded.horizon, deterministic)
        if render is not None:
            with console.status("recording an episode"):
                total = record(
                    *(loaded.env, loaded.policy, loaded.theta, render),
                    seed=seed,
                    deterministic=deterministic,
                    horizon=loaded.horizon,
                )
            console.print(f"recorded an episode of return {total:g} in [bold]{escape(str(render))}[/bold]")


@app.command()
def gradient(
    env: Environment,
    trajectories: Annotated[int, typer.Option(help="Trajectories.")] = 1_000_000,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Take θ, the policy and, without --param, the environment's parameters from this run.",
            show_default="the uniform policy, θ = 0",
        ),
    ] = None,
    estimator: Annotated[Estimator, typer.Option(help="Estimator.")] = Estimator.reinforce,
    baseline: Annotated[
        Baseline, typer.Option(help="What is subtracted from the return; network is for neural policies.")
    ] = Baseline.none,
    discount: Annotated[
        float | None, typer.Option(help="Discount γ.", show_default="the estimator's")
    ] = None,
    dtype: Dtype = None,
    seed: Seed = 0,
    threads: Threads = None,
    horizon: Horizon = None,
    param: Parameters = None,
) -> None:
    """Estimate the policy gradient, with its standard errors and the throughput."""
    with plain_errors():
        check_integer("n_trajectories", trajectories, 1, MAX_TRAJECTORIES)
        environment = environment_from(env, param)
        if run is None:
            policy = fastpg.policy_for(environment)
            theta = policy.initial()
        else:
            loaded = fastpg.load(run)
            policy, theta = loaded.policy, loaded.theta
            if not param:
                if type(loaded.env) is not type(environment):
                    trained = id_of(loaded.env) or type(loaded.env).__name__
                    raise ValueError(f"env={env!r}: must be {trained}, as in --run, or be given --param")
                environment = loaded.env
        policy = policy if dtype is None else with_dtype(policy, dtype.value)
        options: dict[str, Any] = {"seed": seed, "threads": threads, "horizon": horizon}
        chosen = estimator_from(None, estimator, trajectories, baseline, discount, None)
        with compile_notice(), interrupts() as raise_lost_interrupt:
            fitted = isinstance(chosen, fastpg.REINFORCE)  # its baseline may turn out to be none
            for compiled in {chosen, chosen._replace(baseline="none")} if fitted else {chosen}:
                fastpg.policy_gradient(environment, policy, theta, compiled, n_trajectories=2, **options)
            raise_lost_interrupt()
        bar = Progress("estimating", BarColumn(), TimeRemainingColumn(), console=console, transient=True)
        with bar:
            task = bar.add_task("", total=trajectories)
            estimate = fastpg.policy_gradient(
                environment,
                policy,
                theta,
                chosen,
                n_trajectories=trajectories,
                progress=lambda done: bar.update(task, completed=done),
                **options,
            )
    console.print(str(estimate), markup=False)
    console.print(f"{amount(estimate.n_steps / estimate.seconds)} steps/s")


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Directories of runs.")],
    out: Annotated[Path, typer.Option(help="Where to write the picture (.png, .pdf, .svg).")] = Path(
        "compare.png"
    ),
) -> None:
    """Draw the learning curves of several runs; runs that differ only in the seed are one, with a band."""
    from fastpg.comparison import grouped
    from fastpg.plots import comparison, save

    with plain_errors():
        groups = grouped(runs)
        save(comparison(groups), out)
    rows = [("seeds", "mean return", "environment steps", "seconds", "runs")]
    for group in groups:
        label, n, mean, half_width, steps, seconds = group.outcome()
        returns = f"{mean:.2f}" + ("" if np.isnan(half_width) else f" ± {half_width:.2f}")
        rows.append((str(n), returns, f"{steps:,.0f}", f"{seconds:.2f}", label))
    console.print(columns(rows), markup=False)
    console.print(
        "mean return of the last update ± 95 % interval over seeds (of one seed: ± 2 standard errors); "
        "steps and seconds of a run"
    )
    console.print(f"picture written to [bold]{escape(str(out))}[/bold]")


@app.command()
def bench(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ENV]...", help="Environments.", show_default="six of them"),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Of each measurement.", min=0.01)] = 0.2,
    threads: Threads = None,
) -> None:
    """Measure this machine in about a minute: steps a second, scaling over threads, cold and warm start."""
    from statistics import median

    import numba

    from fastpg.throughput import gradient_timer, start_seconds, stepping_timer, thread_counts

    def measured(timer):
        return f"{median(timer() for _ in range(3)):.3g}"

    with plain_errors(), compile_notice():
        cores = check_threads(threads) or numba.get_num_threads()
        rates = Table("environment", "policy", "gradient", "stepping", title="million steps a second")
        for id in ids or _BENCHMARKED:
            environment = environment_from(id, None)
            policy = fastpg.policy_for(environment)
            with console.status(id):
                gradient = gradient_timer(environment, policy, policy.initial(), seconds, threads=cores)
                stepping = stepping_timer(fastpg.VectorEnv(environment, _BENCHMARKED_ENVS), seconds)
                row = measured(gradient), measured(stepping)
            rates.add_row(escape(id), f"{type(policy).__name__} ({policy.n_parameters})", *row)
        for column in rates.columns[2:]:
            column.justify = "right"
        console.print(rates)
        console.print(
            f"gradient: REINFORCE at the initial θ, {cores} threads; stepping: random actions through the "
            f"vector interface, {_BENCHMARKED_ENVS:,} environments"
        )

        environment = fastpg.make("CartPole-v1")
        policy = fastpg.policy_for(environment)
        scaling = Table("threads", "million steps a second", "of one thread", title="CartPole-v1, gradient")
        timers = {
            n: gradient_timer(environment, policy, policy.initial(), seconds, threads=n)
            for n in thread_counts(cores)
        }
        rounds = [[timer() for timer in timers.values()] for _ in range(3)]
        for place, n in enumerate(timers):
            speed = median(values[place] for values in rounds)
            ratio = median(values[place] / values[0] for values in rounds)
            scaling.add_row(str(n), f"{speed:.3g}", f"{ratio:.2f} ×")
        console.print(scaling)

        with console.status("starting fresh processes"), tempfile.TemporaryDirectory() as empty:
            cold = start_seconds(empty)
            warm = median(start_seconds(empty) for _ in range(3))
    console.print(
        f"a fresh process with one gradient of CartPole-v1: {cold:.2f} s with nothing compiled, {warm:.2f} s "
        "with its kernel on the disk"
    )


_BENCHMARKED = (
    *("CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Acrobot-v1", "Pendulum-v1"),
    "FrozenLake8x8-v1",
)
_BENCHMARKED_ENVS = 16_384


@app.command()
def envs() -> None:
    """List the environments that can be made, with their parameters and defaults."""
    table = Table("id", "horizon", "parameters (defaults)")
    for id, spec in sorted(fastpg.registry.items()):
        cls = spec.environment_class()
        parameters = {**parameters_of(cls), **spec.parameters}
        own = cls.horizon if isinstance(cls.horizon, int | None) else "depends"
        horizon = spec.horizon or own or "none"
        table.add_row(escape(id), str(horizon), escape(", ".join(map(_parameter, parameters.items()))))
    console.print(table)


def _parameter(item) -> str:
    name, default = item
    if default is inspect.Parameter.empty:
        return name
    text = f"{default:.6g}" if isinstance(default, float) else str(default)
    return f"{name}={text}" if len(text) <= 30 else f"{name}=…"


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is finished is kept then, too
    atexit.register(gc.freeze)  # a process that ends need not look for garbage, which would take 0.2 to 0.3 s
    app()


if __name__ == "__main__":
    main()
