"""Compiler errors in a reader's words."""

import re
from contextlib import contextmanager
from typing import Any

from numba.core.errors import NumbaError

from fastpg.ordinary_play import play
from fastpg.reports import Report

_HINTS = {  # words of Numba's: what they mean in an environment or a policy
    "unify return type": "on every branch a method must return as many values, of the same types",
    "Cannot determine Numba type of": "compiled code knows numbers, booleans, tuples of them and arrays, "
    "and no other objects of Python",
}


@contextmanager
def readable_errors(env: Any, *others: Any):
    """Turn a failure to compile, of many screens, into a TypeError that says what is wrong with `env`.

    And what compiled code raises into a RuntimeError that says where it came from.
    """
    try:
        yield
    except NumbaError as error:
        report = Report(type(env).__name__)
        play(env, 20, 0, report)
        if report.errors:
            raise TypeError(f"env: {type(env).__name__} cannot be compiled: {report.errors[0]}") from None
        names = ", ".join(type(thing).__name__ for thing in (env, *others))
        raise TypeError(f"{names}: cannot be compiled: {innermost_cause(str(error))}") from None
    except RuntimeError:  # of the kernel cache, which is plain already
        raise
    except Exception as error:
        raise RuntimeError(f"{type(env).__name__}: {error!r} in compiled code") from error


def innermost_cause(text: str) -> str:
    """Return what Numba's message says of the user's own code, or else of its innermost frame."""
    if found := re.search(
        r"the type of a trajectory must not change.*|a trajectory may hold .*|the score has \d+ numbers.*",
        text,
    ):
        return found.group()
    lines = [line.strip() for line in text.splitlines()]
    files = [i for i, line in enumerate(lines) if line.startswith('File "')]
    own = [i for i in files if not re.search(r'"(.*[/\\])?(fastpg[/\\](?!envs)|numba[/\\])', lines[i])]
    at = (own or files or [len(lines)])[0]
    start = max((i for i, line in enumerate(lines[:at]) if line.startswith("Failed in")), default=-1) + 1
    message = [line for line in lines[start:at] if line and not line.startswith(("During", "raised from"))]
    place = lines[at : at + 8]
    place = place[: place.index("^")] if "^" in place else place[:1]
    told = " ".join(message[:4] + [line for line in place if line and line != "<source elided>"])
    return "; ".join([told] + [hint for words, hint in _HINTS.items() if words in told])
