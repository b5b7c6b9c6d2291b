"""Pictures: what is drawn are the numbers; runs are grouped by all but the seed."""

import builtins
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from test_estimate import estimate_of

import fastpg
from fastpg import plots
from fastpg.comparison import grouped


@pytest.fixture(scope="module")
def runs(env, policy):
    """Three seeds of one kind, and one of another."""
    settings = {"n_updates": 6, "n_trajectories": 40, "horizon": 20}
    adam = [fastpg.train(env, policy, seed=seed, **settings) for seed in range(3)]
    return [*adam, fastpg.train(env, policy, optimizer=fastpg.SGD(0.02), **settings)]


def band_of(ax, index=0):
    """Lower and upper edge of a band, at each x."""
    vertices = ax.collections[index].get_paths()[0].vertices
    x = np.unique(vertices[:, 0])
    edges = [[vertices[vertices[:, 0] == at, 1].min(), vertices[vertices[:, 0] == at, 1].max()] for at in x]
    return x, np.array(edges)


def test_components_are_drawn_with_their_intervals():
    estimate = estimate_of([1.0, -2.0, 0.5], [0.1, 0.2, 0.3])
    ax = estimate.plot()
    segments = np.array(ax.collections[0].get_segments())
    np.testing.assert_array_equal(segments[:, :, 1], estimate.confidence_interval)
    np.testing.assert_array_equal(ax.lines[-1].get_ydata(), estimate.gradient)
    assert estimate.plot(ax) is ax


def test_a_single_trajectory_can_be_drawn(tmp_path):
    plots.save(estimate_of([1.0, 2.0], [np.nan, np.nan], n_trajectories=1).plot(), tmp_path / "one.png")


def test_variance_by_estimator_is_that_of_one_trajectory():
    estimates = {
        "REINFORCE": estimate_of([1.0, 1.0], [0.3, 0.4], n_trajectories=100),
        "GPOMDP": estimate_of([1.0, 1.0], [0.03, 0.04], n_trajectories=1000),
    }
    ax = plots.variance_by_estimator(estimates)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([25.0, 2.5])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["REINFORCE", "GPOMDP"]
    assert ax.get_xscale() == "log" and ax.get_xlim()[0] == 1.0
    plots.variance_by_estimator({"exact": estimate_of([1.0], [0.0])})


def test_variance_by_estimator_needs_standard_errors():
    with pytest.raises(ValueError, match="must hold at least one"):
        plots.variance_by_estimator({})
    with pytest.raises(ValueError, match=r"estimates\['one'\]: has no standard errors"):
        plots.variance_by_estimator({"one": estimate_of([1.0], [np.nan], n_trajectories=1)})


@pytest.mark.parametrize(("against", "column"), [("steps", "n_steps"), ("seconds", "seconds")])
def test_a_run_is_drawn_with_twice_its_standard_errors(runs, against, column):
    run = runs[0]
    ax = run.plot(against=against)
    history = run.history
    start = history["seconds"][0] if against == "seconds" else 0
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), history[column] - start)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), history["mean_return"])
    _, edges = band_of(ax)
    width = 4 * history["return_standard_error"]
    np.testing.assert_allclose(edges[:, 1] - edges[:, 0], width, rtol=1e-12)
    with pytest.raises(ValueError, match="against='time': must be 'steps' or 'seconds'"):
        run.plot(against="time")


def test_runs_are_grouped_by_all_but_the_seed(runs, policy):
    groups = grouped([runs[3], *runs[:3]])
    assert [len(group.runs) for group in groups] == [1, 3]
    assert [group.label for group in groups] == ["SGD(learning_rate=0.02)", "Adam()"]
    others = [
        replace(runs[0], env=fastpg.make("CartPole-v1", gravity=3.7)),
        replace(runs[0], n_trajectories=50),
        replace(runs[0], horizon=77),
        replace(runs[0], estimator=fastpg.REINFORCE("none")),
        replace(runs[0], optimizer=fastpg.Adam(fastpg.LinearSchedule(0.1, 0.0, 6))),
        replace(runs[0], policy=policy._replace(first_action=1)),
    ]
    for other in others:
        groups = grouped([*runs[:3], other])
        assert [len(group.runs) for group in groups] == [3, 1]
        assert groups[0].label != groups[1].label
    labels = [group.label for group in grouped([runs[0], *others[:2]])]
    assert labels == ["N=40", "gravity=3.7, N=40", "N=50"]
    assert grouped([runs[0], others[0]])[0].label == "default parameters"
    assert grouped([runs[0]])[0].label.startswith("CartPole-v1, REINFORCE(")


def test_long_settings_are_told_apart(runs):
    envs = [fastpg.make("Bandit-v0", means=np.linspace(0.0, top, 30)) for top in (1.0, 2.0)]
    labels = [group.label for group in grouped([replace(runs[0], env=env) for env in envs])]
    assert len(set(labels)) == 2 and all("…" in label for label in labels)


def test_a_curve_over_seeds_has_students_t_interval(runs):
    (group,) = grouped(runs[:3])
    x, mean, half_width = group.curve("n_steps", "mean_return")
    histories = [run.history for run in runs[:3]]
    assert x[0] == max(h["n_steps"][0] for h in histories)
    assert x[-1] == min(h["n_steps"][-1] for h in histories)
    values = np.array([np.interp(x, h["n_steps"], h["mean_return"]) for h in histories])
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-12)
    expected = stats.t.ppf(0.975, 2) * stats.sem(values, axis=0)
    np.testing.assert_allclose(half_width, expected, rtol=1e-6, atol=1e-12)


def test_seconds_are_counted_from_the_first_update(runs):
    """A seed that compiled for a minute is compared with the others all the same."""
    slow = runs[0].history.copy()
    slow["seconds"] += 60.0
    (group,) = grouped([replace(runs[0], history=slow), *runs[1:3]])
    (swift,) = grouped(runs[:3])
    for one, other in zip(
        group.curve("seconds", "mean_return"), swift.curve("seconds", "mean_return"), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_a_single_seed_is_shown_with_its_own_errors(runs):
    (group,) = grouped(runs[3:])
    x, mean, half_width = group.curve("n_steps", "mean_return")
    np.testing.assert_array_equal(x, runs[3].history["n_steps"])
    np.testing.assert_array_equal(mean, runs[3].history["mean_return"])
    np.testing.assert_array_equal(half_width, 2 * runs[3].history["return_standard_error"])
    assert not group.curve("n_steps", "signal_to_noise")[2].any()


def test_outcomes(runs):
    outcome, single = (group.outcome() for group in grouped(runs))
    last = [run.history["mean_return"][-1] for run in runs[:3]]
    assert outcome.mean_return == pytest.approx(np.mean(last))
    assert outcome.half_width == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(last), rel=1e-6)
    assert outcome.n_seeds == 3
    assert outcome.n_steps == pytest.approx(np.mean([run.history["n_steps"][-1] for run in runs[:3]]))
    assert outcome.seconds == pytest.approx(np.mean([run.history["seconds"][-1] for run in runs[:3]]))
    assert single.half_width == 2 * runs[3].history["return_standard_error"][-1]


def test_compare_draws_three_panels(runs, tmp_path):
    figure = fastpg.compare(runs, tmp_path / "compare.svg")
    assert (tmp_path / "compare.svg").read_text().lstrip().startswith("<?xml")
    labels = [(ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes]
    assert labels == [
        ("environment steps", "return"),
        ("seconds after the first update", "return"),
        ("environment steps", "signal-to-noise ratio of the gradient"),
    ]
    group = grouped(runs)[0]
    for ax, against, column in zip(
        figure.axes,
        ("n_steps", "seconds", "n_steps"),
        ("mean_return", "mean_return", "signal_to_noise"),
        strict=True,
    ):
        assert len(ax.lines) == 2
        x, mean, _ = group.curve(against, column)
        np.testing.assert_array_equal(ax.lines[0].get_data(), (x, mean))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Adam()", "SGD(learning_rate=0.02)"]


def test_a_resumed_run_stands_for_its_beginning(runs):
    beginning = replace(runs[0], history=runs[0].history[:2])
    for order in ([beginning, runs[0]], [runs[0], beginning]):
        (group,) = grouped(order)
        assert group.runs == [runs[0]]
    other = runs[0].history[:2].copy()
    other["mean_return"] += 1.0
    with pytest.raises(ValueError, match="the settings and the seed"):
        grouped([runs[0], replace(runs[0], history=other)])


def test_long_settings_are_told_by_the_names_of_their_classes(runs):
    network = fastpg.SoftmaxMLP.for_env(runs[0].env, hidden=(16, 16))
    labels = [group.label for group in grouped([runs[0], replace(runs[0], policy=network)])]
    assert labels == ["SoftmaxLinear", "SoftmaxMLP"]


def test_compare_reads_directories(runs, tmp_path):
    directories = [run.save(tmp_path / str(i)) for i, run in enumerate(runs)]
    assert [group.outcome() for group in grouped(directories)] == [group.outcome() for group in grouped(runs)]


def test_runs_that_were_not_noisy_or_had_one_update_are_drawn(runs, tmp_path):
    """Signal-to-noise ratios that are infinite or not known leave gaps."""
    history = runs[0].history.copy()
    history["signal_to_noise"] = np.inf
    short = [replace(run, history=run.history[:1]) for run in runs[1:3]]
    single = replace(runs[3], n_trajectories=1, history=runs[3].history.copy())
    single.history["return_standard_error"] = single.history["signal_to_noise"] = np.nan
    fastpg.compare([replace(runs[0], history=history), *short, single], tmp_path / "odd.png")


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    for none in ([], runs[0], "runs/one"):
        with pytest.raises(ValueError, match="must be a sequence of at least one run or directory"):
            fastpg.compare(none)
    with pytest.raises(ValueError, match=r"runs\[1\]: has the settings and the seed, 0, of another"):
        fastpg.compare([runs[0], runs[0]])
    with pytest.raises(ValueError, match=r"runs\[0\]: has no updates"):
        fastpg.compare([replace(runs[0], history=runs[0].history[:0])])
    with pytest.raises(ValueError, match="holds no run"):
        fastpg.compare([tmp_path])


def test_without_matplotlib_one_is_told_what_to_install(runs, monkeypatch):
    import_ = builtins.__import__

    def without(name, *arguments):
        if name.startswith("matplotlib"):
            raise ImportError("No module named 'matplotlib'")
        return import_(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    for draw in (
        estimate_of([1.0], [0.1]).plot,
        runs[0].plot,
        lambda: fastpg.compare(runs),
        lambda: plots.variance_by_estimator({"one": estimate_of([1.0], [0.1])}),
    ):
        with pytest.raises(ImportError, match="pip install matplotlib, or fastpg's extra 'cli'"):
            draw()
