"""The page of policy gradients: its code runs, prints what it says, and agrees with the exact answers."""

import contextlib
import io
import re
from pathlib import Path

import numba
import numpy as np
import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(r"```(python|text)\n(.*?)```", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?")
CLOCK = re.compile(r"in \S+ s\b")

pytestmark = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="millions of trajectories are compiled"
)


def sections(page):
    """Its parts by their headings: each a list of (code, what it says that is printed)."""
    found = {}
    for part in (DOCS / page).read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, text = part.partition("\n")
        blocks = []
        for kind, content in BLOCK.findall(text):
            if kind == "python":
                blocks.append((content, ""))
            else:
                blocks[-1] = (blocks[-1][0], content)
        found[title] = blocks
    return found


SECTIONS = {title: blocks for title, blocks in sections("policy_gradients.md").items() if blocks}
SETUP = "A problem whose answer is known"

# What is true of the variables of a section, beyond what it prints; `worst` is the largest difference in
# standard errors.
HOLDS = {
    SETUP: ["worst(estimate, truth.gradient) <= 4"],
    "The variance of each estimator": [
        "all(worst(e, truth.gradient) <= 4 for e in estimates.values())",
        "all(abs(np.sum(estimates[k].standard_error**2) * 1e6 / known[k] - 1) < 0.03 for k in known)",
        "arms.variance('none').sum() < arms.variance('mean').sum()",
        "whole < 1e-12 and to_go > 0.1",
    ],
    "The discount, and what RewardToGo is": [
        "worst(kept, truth.gradient) <= 4",
        "worst(dropped, truth.gradient) > 100",
    ],
    "An entropy bonus": ["worst(with_bonus, exactly) <= 4"],
    "Trajectories of another policy": ["worst(weighted, truth.gradient) <= 4"],
    "Covariance, Fisher information, natural gradient": [
        "worst(full, truth.gradient) <= 4",
        "np.allclose(np.diagonal(full.covariance), full.standard_error**2, rtol=1e-9)",
    ],
    "Until precise enough": ["enough.signal_to_noise >= 1 / 0.02"],
    "Where no answer is known": ["worst(sampled, solved.gradient) <= 4"],
}


def worst(estimate, exactly):
    return np.max(np.abs(estimate.gradient - exactly) / estimate.standard_error)


def run(code, names):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "the page", "exec"), names)
    return printed.getvalue()


def assert_same(printed, stated):
    """The same words, and numbers that differ by one in the last digit at most: machines may round apart."""
    printed, stated = (CLOCK.sub("", text).strip() for text in (printed, stated))
    shape = [re.sub(r"\s+", " ", NUMBER.sub("#", text)) for text in (printed, stated)]
    assert shape[0] == shape[1]
    for ours, theirs in zip(NUMBER.findall(printed), NUMBER.findall(stated), strict=True):
        digits = len(theirs.partition(".")[2])
        difference = abs(float(ours.replace(",", "")) - float(theirs.replace(",", "")))
        assert difference <= 1.001 * 10.0**-digits, f"{ours}, where the page says {theirs}:\n{printed}"


def test_every_section_is_checked():
    assert set(HOLDS) == set(SECTIONS)


@pytest.mark.parametrize("title", SECTIONS)
def test_section_runs_and_prints_what_it_says(title):
    names = {"__name__": "page", "worst": worst}
    for code, _ in SECTIONS[SETUP] if title != SETUP else []:
        run(code, names)
    for code, stated in SECTIONS[title]:
        assert_same(run(code, names), stated)
    for claim in HOLDS[title]:
        assert eval(claim, names), claim


def test_pages_link_to_what_is_there():
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (DOCS / target).exists(), f"{page.name}: {target}"
