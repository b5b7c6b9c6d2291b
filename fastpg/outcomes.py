"""What becomes of a run on the command line: it is kept, also if it stopped early, and played."""

import tempfile

import typer
from rich.markup import escape

import fastpg
from fastpg.runs import has_default_parameters
from fastpg.terminal import console, errors, with_error


def keep(run, out):
    """Save the run; if that fails, save it in the system's temporary directory, say so, and leave."""
    try:
        run.save(out)
    except (ValueError, OSError) as error:
        fallback = run.save(tempfile.mkdtemp(prefix="fastpg-run-"))
        errors.print(f"error: {error}\nthe run is kept in {fallback} instead")
        raise typer.Exit(1) from None


def stop_early(reason, run, out):
    """Keep what was finished, say where, and leave."""
    if len(run.history) == 0:
        console.print("stopped before the first update was finished; nothing to keep")
    else:
        keep(run, out)
        console.print(f"{len(run.history)} finished updates kept in [bold]{escape(str(out))}[/bold]")
    interrupted = isinstance(reason, KeyboardInterrupt)
    errors.print("interrupted" if interrupted else f"error: {str(reason) or repr(reason)}")
    raise typer.Exit(130 if interrupted else 1)


def evaluate_run(run, episodes, seed, horizon, deterministic):
    """Play in Gymnasium's own environment, or in fastpg's where Gymnasium has none, and say how it went."""
    options = {"seed": seed, "deterministic": deterministic}
    if not hasattr(type(run.env), "gymnasium_twin"):
        result = fastpg.evaluate(
            run.env, run.policy, run.theta, n_trajectories=episodes, horizon=horizon, **options
        )
        console.print(f"mean return, {episodes} episodes: [bold]{with_error(result)}[/bold]")
        return
    import gymnasium

    from fastpg.interop.gymnasium import play

    with console.status("playing in Gymnasium"):
        limit = horizon if run.env.horizon is None else None  # where Gymnasium has one, it is what counts
        result = play(run.env, run.policy, run.theta, episodes=episodes, horizon=limit, **options)
    gymnasium_id = getattr(type(run.env), "gymnasium_id", None)
    solved = gymnasium.spec(gymnasium_id).reward_threshold if gymnasium_id in gymnasium.registry else None
    verdict = ""
    if solved is not None and has_default_parameters(run.env):
        verdict = f" ({'solved' if result.mean_return >= solved else 'not solved'}: threshold {solved:g})"
    console.print(
        f"mean return in Gymnasium's own environment, {episodes} episodes: "
        f"[bold]{with_error(result)}[/bold]{verdict}"
    )
