"""Policies: a NamedTuple each, with `sample` and the hand-derived `score`."""
