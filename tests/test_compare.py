"""Where the comparison with peers keeps what it measures, and what it keeps of what was measured before."""

import json
from dataclasses import replace

import pytest

compare = pytest.importorskip("bench.compare", reason="needs the checkout, and its root as working directory")


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A run's lines, of two peers, with measurements replaced by numbers."""
    speeds = {"C": 2.0, "JAX": 4.0}

    def section(effort, peers):
        for peer, speed in speeds.items():
            if effort.wants(peer):
                yield compare.Duel("gradient", "CartPole-v1", peer, ours=[1.0], theirs=[speed])

    monkeypatch.setattr(compare, "SECTIONS", {"gradient": section})
    monkeypatch.setattr(compare, "RESULTS", tmp_path)
    compare.main([])
    return speeds


def lines(path):
    return {duel.peer: duel.theirs[0] for duel in compare.read(path / "compare.json")[1]}


def test_a_quick_run_leaves_the_results_alone(kept, tmp_path, capsys):
    kept |= {"C": 20.0, "JAX": 40.0}
    compare.main(["--quick"])
    assert lines(tmp_path) == {"C": 2.0, "JAX": 4.0}
    assert lines(tmp_path / "quick") == {"C": 20.0, "JAX": 40.0}
    assert str(tmp_path / "quick") in capsys.readouterr().out.splitlines()[-1]
    with pytest.raises(SystemExit):
        compare.main(["--quick", "--publish"])


def test_a_run_of_one_peer_leaves_the_others_and_tells_when_each_was_measured(kept, tmp_path, monkeypatch):
    kept["C"] = 20.0
    later = compare.conditions() | {"date": "2099-01-01T00:00:00", "commit": "later"}
    monkeypatch.setattr(compare, "conditions", lambda: later)
    compare.main(["--only", "C"])
    assert lines(tmp_path) == {"C": 20.0, "JAX": 4.0}
    assert "1 of 2099-01-01T00:00, commit later" in (tmp_path / "compare.md").read_text(encoding="utf-8")
    del kept["JAX"]
    compare.main([])  # a whole run keeps no peer that there is no more
    assert lines(tmp_path) == {"C": 20.0}


def test_lines_of_another_machine_are_not_mixed_in(kept, tmp_path, monkeypatch):
    other = compare.conditions() | {"processor": "another"}
    monkeypatch.setattr(compare, "conditions", lambda: other)
    with pytest.raises(SystemExit, match="another processor"):
        compare.main(["--only", "C"])
    assert lines(tmp_path) == {"C": 2.0, "JAX": 4.0}
    kept["C"] = 20.0
    compare.main([])
    assert lines(tmp_path) == {"C": 20.0, "JAX": 4.0}


def test_what_was_measured_is_kept_when_a_later_peer_breaks_the_run(kept, tmp_path, monkeypatch):
    def breaking(effort, peers):
        yield compare.Duel("gradient", "CartPole-v1", "C", ours=[1.0], theirs=[20.0])
        raise KeyError("fastpg's own mistake")

    monkeypatch.setattr(compare, "SECTIONS", {"gradient": breaking})
    with pytest.raises(KeyError):
        compare.main([])
    assert lines(tmp_path) == {"C": 20.0, "JAX": 4.0}


def test_a_peer_that_fails_is_a_line_and_no_more(tmp_path):
    from bench.duels import Duel, fought

    calls = iter([1.0, 2.0])  # of the one that fails: the first that is not counted, and one more

    def failing():
        try:
            return next(calls)
        except StopIteration:
            raise RuntimeError("python -m peer:\nTraceback\nValueError: no more") from None

    duels = [Duel("gradient", "CartPole-v1", peer) for peer in ("breaks", "lasts")]
    broken, whole = fought(duels, 3, lambda: 1.0, [failing, lambda: 2.0])
    assert broken.skipped == "failed: ValueError: no more"
    assert whole == replace(duels[1], ours=[1.0] * 3, theirs=[2.0] * 3)
    json.dumps(broken.cells())


def test_a_process_that_ends_or_says_nothing_fails(monkeypatch):
    import sys

    from bench import contestants

    with pytest.raises(RuntimeError, match="cannot do that"):
        contestants.Contestant(sys.executable, "-c", "raise SystemExit('cannot do that')")
    monkeypatch.setattr(contestants, "PATIENCE", 0.5)
    with pytest.raises(RuntimeError, match="no answer within"):
        contestants.Contestant(sys.executable, "-c", "import time; time.sleep(60)")
    working = contestants.Setting("works", (sys.executable, "-c", "print(1); input()"))
    broken = contestants.Setting("breaks", (sys.executable, "-c", "raise SystemExit(1)"))
    monkeypatch.setattr(contestants.Contestant, "speed", lambda self, seconds: 1.0)
    name, contestant = contestants.fastest([broken, working], 0.1)
    contestant.close()
    assert name == "works"
