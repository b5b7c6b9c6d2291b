"""What the command line shows: its consoles, errors as one line, notices and progress."""

import logging
import signal
import threading
from collections.abc import Sequence
from contextlib import contextmanager, suppress

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def plain_errors():
    """Errors at the border as one line and exit code 2, Ctrl-C as exit code 130."""
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        errors.print(f"error: {error}")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        errors.print("interrupted")
        raise typer.Exit(130) from None


@contextmanager
def compile_notice():
    """Say so when a kernel is compiled: the first run of its kind takes seconds."""

    class Notice(logging.Handler):
        given = False  # there is more than one kernel

        def emit(self, record):
            if record.getMessage().startswith("compiling") and not self.given:
                self.given = True
                console.print("compiling for this machine (once; the kernel is kept for the next time)")

    logger, handler = logging.getLogger("fastpg"), Notice()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def interrupts():
    """Yield a function that raises a Ctrl-C that was lost: Python drops those in what LLVM calls back."""
    pressed = []

    def press(*_):
        pressed.append(True)
        raise KeyboardInterrupt

    def raise_lost():
        if pressed:
            raise KeyboardInterrupt

    ours = (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
        and threading.current_thread() is threading.main_thread()
    )
    if ours:
        signal.signal(signal.SIGINT, press)
    try:
        yield raise_lost
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def training_progress(updates: int, steps: int):
    """A progress bar over updates, and environment steps from `steps` on.

    Yields the callback for `fastpg.train`, whose first call starts it.
    """
    bar = Progress(
        TextColumn("{task.completed}/{task.total} updates, {task.fields[steps]} steps"),
        BarColumn(),
        TextColumn("return {task.fields[mean_return]}"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
    )
    task = bar.add_task("", total=updates, mean_return="–", speed="", steps=amount(steps))

    def progress(update, estimate):
        nonlocal steps
        raise_lost_interrupt()
        if not bar.live.is_started:
            threading.Thread(target=_import_matplotlib, daemon=True).start()
            bar.start()
        steps += estimate.n_steps
        speed = f"{amount(estimate.n_steps / estimate.seconds)} steps/s"
        told = {"mean_return": with_error(estimate), "steps": amount(steps), "speed": speed}
        bar.update(task, completed=update + 1, **told)

    with compile_notice(), interrupts() as raise_lost_interrupt:
        try:
            yield progress
        finally:
            if bar.live.is_started:
                bar.stop()


def _import_matplotlib():
    """What draws the picture of a run: while it trains, so that Ctrl-C need not wait for it."""
    with suppress(ImportError):
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows of cells as lines, none of them broken: the last column is as long as it likes."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    lines = ([*map(str.rjust, row[:-1], widths), row[-1]] for row in rows)
    return "\n".join("  ".join(line) for line in lines)


def amount(n: float) -> str:
    """A number of steps in millions or thousands."""
    return f"{n / 1e6:.1f} M" if n >= 1e6 else f"{n / 1e3:.1f} k"


def with_error(result) -> str:
    """Return a mean return and its standard error, if there is one."""
    error = result.return_standard_error
    return f"{result.mean_return:.2f}" + ("" if np.isnan(error) else f" ± {error:.2f}")
