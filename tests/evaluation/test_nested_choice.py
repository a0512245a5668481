"""Nested leave one cluster out against loops written from its definition; averaged learners; both end to end."""

from __future__ import annotations

import json

import hydra
import numpy as np
import pytest
import reference
import torch
from omegaconf import OmegaConf

from rsca_torch import RSCA, Identity, InputError, Learner, NumericalWarning, Scaled, ScaledComponents
from rsca_torch.cli import compare, fit
from rsca_torch.cli.main import CONFIG
from rsca_torch.evaluation import nested_choice
from rsca_torch.evaluation.fold_files import FoldFiles
from rsca_torch.evaluation.leave_one_out import leave_one_cluster_out
from rsca_torch.evaluation.nested_choice import Candidate, best, carried, nested_leave_one_cluster_out
from rsca_torch.evaluation.result import LOCOResult
from rsca_torch.learners import Averaged, Recipe
from rsca_torch.report import comparison_folder
from rsca_torch.report.figure_files import save_figure
from rsca_torch.report.pictures import draw_components
from rsca_torch.training import fitting

WEIGHTS = {
    Identity: lambda field, *_: np.eye(field.shape[1]),
    Scaled: lambda *problem: reference.scaled(*problem)[0],
    ScaledComponents: lambda *problem: reference.scaled_components(*problem)[0],
}


@pytest.fixture(scope="module")
def problem(make_clusters):
    """Clusters for which 2 or 4 components are chosen, as it depends on the cluster that is left out."""
    return make_clusters(seed=11, spreads=(0.3, 0.6, 0.7, 0.8), sizes=(6, 2, 5, 3, 4, 3), n_field=60)


def candidates_of(problem, numbers=(1, 2, 4)):
    return {number: (problem.field[:, :number], problem.members[:, :number]) for number in numbers}


def oracle(make_learner, candidates, clusters, allowed):
    """(choice, rate) by cluster, from the definition: two loops, nothing shared, every fold fitted anew."""

    def rate(number, judged, unseen):
        field, members = candidates[number]
        seen = np.array([label not in unseen for label in clusters])
        weight = WEIGHTS[make_learner](field, members[seen], clusters[seen].tolist())
        own = clusters == judged
        return reference.doppelganger_rate(members[own] @ weight.T, field @ weight.T, allowed[own])

    chosen, rates = {}, {}
    sizes = {label: int((clusters == label).sum()) for label in sorted(set(clusters.tolist()))}
    for c in sizes:
        score = {
            number: reference.global_rate({d: rate(number, d, (c, d)) for d in sizes if d != c}, sizes)
            for number in candidates
        }
        chosen[c] = min(score, key=lambda number: (score[number], number))
        rates[c] = rate(chosen[c], c, (c,))
    return chosen, rates


@pytest.mark.filterwarnings(r"ignore::rsca_torch.NumericalWarning")
@pytest.mark.parametrize("without_pairs", [None, "NGC 2"])
@pytest.mark.parametrize("make_learner", WEIGHTS, ids=lambda kind: kind.__name__)
def test_against_the_oracle(problem, make_learner, without_pairs):
    allowed = problem.allowed & (problem.clusters != without_pairs)[:, None]
    candidates = candidates_of(problem)
    result = nested_leave_one_cluster_out(make_learner, candidates, problem.clusters, allowed, keep_distances=True)
    chosen, rates = oracle(make_learner, candidates, problem.clusters, allowed)
    assert result.chosen == chosen
    assert result.loco.cluster_rates == pytest.approx(rates, abs=1e-12, nan_ok=True)
    assert result.loco.held_out
    for number, (field, members) in candidates.items():
        plain = leave_one_cluster_out(make_learner, field, members, problem.clusters, allowed)
        assert result.curve[number].interval() == plain.interval()
        assert result.curve[number].median_sibling_distance == plain.median_sibling_distance
    for label, (siblings, strangers) in result.loco.distances.items():
        threshold = result.loco.median_sibling_distance[label]
        assert np.median(siblings) == pytest.approx(threshold, rel=1e-12)
        assert len(strangers) == result.loco.pairs[label]
        if label != without_pairs:
            assert (strangers <= threshold).double().mean() == result.loco.cluster_rates[label]


@pytest.mark.filterwarnings(r"ignore::rsca_torch.NumericalWarning")
def test_the_choice_depends_on_the_cluster_left_out(problem):
    """Else the tests of this file could not tell a nested choice from one made on all clusters."""
    result = nested_leave_one_cluster_out(ScaledComponents, candidates_of(problem), problem.clusters, problem.allowed)
    assert len(set(result.chosen.values())) > 1
    assert result.loco.rate > min(loco.rate for loco in result.curve.values()) == result.curve[result.best].rate


@pytest.mark.filterwarnings(r"ignore::rsca_torch.NumericalWarning")
@pytest.mark.parametrize("make_learner", [Scaled, ScaledComponents], ids=lambda kind: kind.__name__)
def test_poison(problem, make_learner):
    """What the held-out members are changes by no bit what was chosen for them, nor the learner that judges them."""

    def choices_and_judges(members):
        made = []

        class Recorded(make_learner):
            def initialise(self, field, members, clusters, **options):
                super().initialise(field, members, clusters, **options)
                made.append((field.shape[1], frozenset(clusters.tolist()), self))

        candidates = {number: (problem.field[:, :number], members[:, :number]) for number in (1, 2, 4)}
        chosen = nested_leave_one_cluster_out(Recorded, candidates, problem.clusters, problem.allowed).chosen
        everyone = frozenset(problem.clusters.tolist())
        judges = {
            c: next(learner for width, seen, learner in made if (width, seen) == (number, everyone - {c}))
            for c, number in chosen.items()
        }
        return chosen, judges

    clean_choice, clean = choices_and_judges(problem.members)
    moved = set()
    for label in np.unique(problem.clusters):
        inside = problem.clusters == label
        poisoned = problem.members.copy()
        poisoned[inside] = 1e6 * np.random.default_rng(3).normal(size=(inside.sum(), poisoned.shape[1]))
        choice, judges = choices_and_judges(poisoned)
        assert choice[label] == clean_choice[label]
        assert all(torch.equal(a, b) for a, b in zip(clean[label].buffers(), judges[label].buffers(), strict=True))
        moved |= {c for c in choice if choice[c] != clean_choice[c]}
    assert moved, "the poison must matter to some other cluster's choice, or this test sees nothing"


def test_one_learner_serves_both_of_a_pair(problem):
    seen = []

    class Recorder(Learner):
        def initialise(self, field, members, clusters):
            assert len(members) == len(clusters)
            seen.append((field.shape[1], frozenset(clusters.tolist())))

        def forward(self, z):
            assert not self.training
            return z

    done = []
    nested_leave_one_cluster_out(
        Recorder, candidates_of(problem), problem.clusters, problem.allowed, progress=lambda *at: done.append(at)
    )
    assert len(seen) == len(set(seen)) == 3 * (6 + 6 * 5 / 2)
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_a_tie_goes_to_the_smaller_number(problem):
    same = (problem.field[:, :2], problem.members[:, :2])
    for order in ((5, 2, 3), (3, 5, 2)):
        result = nested_leave_one_cluster_out(Identity, dict.fromkeys(order, same), problem.clusters, problem.allowed)
        assert list(result.curve) == [2, 3, 5]
        assert set(result.chosen.values()) == {result.best} == {2}


def test_the_best_is_the_lowest_rate():
    curve = {n: LOCOResult({"a": rate}, {"a": 2}, {"a": 1}, {"a": 1.0}) for n, rate in {9: 0.2, 4: 0.1, 6: 0.1}.items()}
    assert best(curve) == 4


def test_no_pair_to_choose_by(problem):
    only = problem.allowed & (problem.clusters == "NGC 2")[:, None]
    with (
        pytest.warns(NumericalWarning, match="no allowed pair"),
        pytest.raises(InputError, match="no cluster that may take part in the choice of n_components has an allowed"),
    ):
        nested_leave_one_cluster_out(Identity, candidates_of(problem), problem.clusters, only)


def test_a_cluster_of_one_takes_no_part(problem):
    clusters = problem.clusters.copy()
    clusters[np.flatnonzero(clusters == "NGC 0")[0]] = "Loner"
    seen = set()

    class Recorded(Scaled):
        def initialise(self, field, members, clusters, **options):
            super().initialise(field, members, clusters, **options)
            seen.update(clusters.tolist())

    known = clusters != "Loner"
    parts = {number: (field, members[known]) for number, (field, members) in candidates_of(problem, (1, 2)).items()}
    alone = nested_leave_one_cluster_out(Scaled, parts, clusters[known], problem.allowed[known])
    with pytest.warns(NumericalWarning, match=r"one member .*: Loner"):
        result = nested_leave_one_cluster_out(Recorded, candidates_of(problem, (1, 2)), clusters, problem.allowed)
    assert result == alone
    assert seen == set(clusters[known].tolist())


LABELS = np.repeat(["a", "b", "c", "d"], [4, 7, 3, 5])  # without b and d: 7 members of 2 clusters carry 5


def test_candidates_that_the_members_cannot_carry_are_named():
    assert carried([5, 1], 100, LABELS) == [1, 5]
    with pytest.warns(NumericalWarning, match=r"left out: 6, 40 \(100 field stars .* at most 5\)"):
        assert carried([40, 6, 5], 100, LABELS) == [5]
    with pytest.warns(NumericalWarning, match=r"left out: 4 .* at most 3\)"):
        assert carried([3, 4], 4, LABELS) == [3]
    with pytest.raises(InputError, match=r"no candidate for n_components is left of 6, 7: .* at most 5; give smaller"):
        carried([6, 7], 100, LABELS)
    with pytest.raises(InputError, match="no candidate for n_components is left of 1"):
        carried([1], 100, LABELS[:11])


def test_what_is_carried_is_what_the_smallest_fold_can_fit():
    rng = np.random.default_rng(0)
    field, members = rng.normal(size=(50, 6)), 0.1 * rng.normal(size=(len(LABELS), 6))
    sets = {number: (field[:, :number], members[:, :number]) for number in (5, 6)}
    with pytest.warns(NumericalWarning, match="left out: 6 "):
        assert set(nested_leave_one_cluster_out(ScaledComponents, sets, LABELS).curve) == {5}
    smallest = np.isin(LABELS, ["a", "c"])
    with pytest.raises(InputError, match="can carry at most 5"):
        ScaledComponents().initialise(field, members[smallest], LABELS[smallest])


@pytest.mark.parametrize("given", [[], [0, 3], [2, "x"], [2, 2], [2.5], [True], [None]], ids=str)
def test_candidates_are_different_whole_numbers(given):
    with pytest.raises(InputError, match=r"candidates .* whole numbers of at least 1, one or more, each once: got \["):
        carried(given, 100, LABELS)


# What a fixed number of components honours, the choice honours too


class Stretched(Learner):
    """A diagonal metric that is trained on latents drawn from their errors, for as long as an inner cluster says."""

    recipe = Recipe(epochs=6, inner=1, patience=3, learning_rate=0.3, noise=True)

    def initialise(self, field, members, clusters):  # noqa: ARG002
        self.stretch = torch.nn.Parameter(torch.ones(field.shape[1], dtype=torch.float64))

    def forward(self, z):
        return z * self.stretch

    def loss(self, z, clusters):
        squares = (self(z)[:, None] - self(z)).square().sum(-1)
        same = torch.from_numpy(clusters[:, None] == clusters)
        return squares[same].mean() / squares[~same].mean()


class Counted(Stretched):
    fits = 0

    def initialise(self, *given):
        super().initialise(*given)
        type(self).fits += 1


@pytest.fixture
def trained(problem):
    """Candidates with errors, labels, allowed pairs."""
    roots = torch.from_numpy(np.random.default_rng(5).normal(size=(len(problem.members), 4, 4)))
    each = {
        number: Candidate(*latents, roots[:, :number, :number]) for number, latents in candidates_of(problem).items()
    }
    return each, problem.clusters, problem.allowed & (np.arange(60) % 3 > 0)


def curves_without_each(monkeypatch, *given, **options):
    """The result, and the rates by number of components that each cluster's choice is made of."""
    seen = []
    monkeypatch.setattr(nested_choice, "best", lambda curve: seen.append(curve) or best(curve))
    result = nested_leave_one_cluster_out(*given, **options)
    monkeypatch.undo()
    rates = [{number: loco.cluster_rates for number, loco in curve.items()} for curve in seen]
    return result, dict(zip(result.chosen, rates, strict=True))


def plain_without_each(each, clusters, allowed):
    """The same by leave one cluster out of a survey that lacks the cluster."""
    curves = {}
    for cluster in np.unique(clusters):
        rest = clusters != cluster
        curves[str(cluster)] = {
            number: leave_one_cluster_out(
                Stretched,
                on.field,
                on.members[rest],
                clusters[rest],
                None if allowed is None else allowed[rest],
                roots=None if on.roots is None else on.roots[torch.from_numpy(rest)],
            ).cluster_rates
            for number, on in each.items()
        }
    return curves


def test_the_choice_is_made_with_errors_and_allowed_pairs(trained, monkeypatch):
    """As leave one cluster out would rank the candidates, were the cluster not there."""
    each, clusters, allowed = trained
    result, got = curves_without_each(monkeypatch, Stretched, *trained)
    expected = plain_without_each(*trained)
    for cluster, curve in expected.items():
        assert got[cluster] == {number: pytest.approx(rates, abs=1e-12) for number, rates in curve.items()}
    exact = {number: on._replace(roots=None) for number, on in each.items()}
    assert plain_without_each(exact, clusters, allowed) != expected, "or this test sees no errors"
    for number, on in each.items():
        plain = leave_one_cluster_out(Stretched, on.field, on.members, clusters, allowed, roots=on.roots)
        assert result.curve[number] == plain


def test_allowed_pairs_have_a_say_in_how_long_the_learners_of_the_choice_train(trained, monkeypatch):
    """Their inner clusters are compared with the field stars that they may be compared with, and no others."""
    seen = []
    overlap = fitting.sibling_overlap
    monkeypatch.setattr(
        fitting, "sibling_overlap", lambda near, far: seen.append((len(near), len(far))) or overlap(near, far)
    )
    nested_leave_one_cluster_out(Stretched, *trained)
    _, clusters, allowed = trained
    possible = {
        (n * (n - 1) // 2, int(allowed[clusters == cluster].sum()))
        for cluster, n in zip(*np.unique(clusters, return_counts=True), strict=True)
    }
    assert set(seen) <= possible


def test_finished_folds_are_not_fitted_again(trained, tmp_path):
    each, *rest = trained
    kept = {number: on._replace(kept=FoldFiles(tmp_path / str(number))) for number, on in each.items()}
    first = nested_leave_one_cluster_out(Counted, kept, *rest, keep_distances=True)
    assert Counted.fits > 0
    names = {path.name for path in (tmp_path / "4").iterdir()}
    assert len(names) == 6 + 6 * 5, "a file a cluster, and two a pair"
    Counted.fits = 0
    again = nested_leave_one_cluster_out(Counted, kept, *rest, keep_distances=True)
    assert Counted.fits == 0
    assert (again.chosen, again.curve) == (first.chosen, first.curve)
    for cluster, distances in first.loco.distances.items():
        assert all(torch.equal(*pair) for pair in zip(distances, again.loco.distances[cluster], strict=True))


def test_several_processes_choose_as_one_does(trained):
    """The learners of the choice are fitted there too: none here."""
    each, *rest = trained
    one = nested_leave_one_cluster_out(Counted, {2: each[2]}, *rest)
    Counted.fits = 0
    two = nested_leave_one_cluster_out(Counted, {2: each[2]}, *rest, processes=2)
    assert Counted.fits == 0
    assert two == one


def test_every_training_of_the_choice_is_logged_under_a_name_of_its_own(trained):
    names = []
    each, *rest = trained
    nested_leave_one_cluster_out(Stretched, {2: each[2]}, *rest, logger=lambda name: names.append(name) or False)
    assert len(names) == len(set(names)) == 6 + 15
    assert {"2 components without NGC 0", "2 components without NGC 0 and NGC 1"} <= set(names)


# Averaged


@pytest.fixture
def averaged(small):
    learner = Averaged([3, 4])
    learner.initialise(*latents(small), small.clusters)
    return learner


def latents(problem):
    """Two representations side by side: three columns, and all four."""
    return [torch.from_numpy(np.hstack([z[:, :3], z])) for z in (problem.field, problem.members)]


def test_squared_distances_are_averaged(small, averaged):
    expected = 0
    for columns in (slice(0, 3), slice(0, 4)):
        weight, _ = reference.scaled_components(small.field[:, columns], small.members[:, columns], small.clusters)
        embedded = small.field[:, columns] @ weight.T
        expected += np.square(embedded[:, None] - embedded).sum(2) / 2
    embedded = averaged(latents(small)[0])
    assert embedded.shape == (150, 7)
    assert averaged.name == "rsca"
    np.testing.assert_allclose(torch.cdist(embedded, embedded).square(), expected, rtol=1e-9, atol=1e-9)


def test_of_one_part_it_is_that_part(small):
    field, members = (torch.from_numpy(z) for z in (small.field, small.members))
    one, alone = Averaged([4]), ScaledComponents()
    for learner in (one, alone):
        learner.initialise(field, members, small.clusters)
    assert torch.equal(one(field), alone(field))


def test_state_dict_round_trip(small, averaged):
    other = Averaged([3, 4])
    other.load_state_dict(averaged.state_dict())
    z = latents(small)[0]
    assert torch.equal(other(z), averaged(z))


def test_the_part_says_name_and_loss(small):
    class Trained(Learner):
        def forward(self, z):
            return z

        def loss(self, z, clusters):
            return z.mean() * len(clusters)

    z = latents(small)[1]
    learner = Averaged([3, 4], Trained)
    assert learner.name == "Trained"
    expected = len(z) * (z[:, :3].mean() + z[:, 3:].mean()) / 2
    torch.testing.assert_close(learner.loss(z, small.clusters), expected)
    assert Averaged([3, 4]).loss(z, small.clusters) is None


def test_widths_are_checked(small, averaged):
    with pytest.raises(InputError, match=r"latents \(N, 7\) expected for widths \(3, 4\), got \(150, 4\)"):
        averaged(small.field)
    for widths in ([], [0], ["x"]):
        with pytest.raises(InputError, match="widths must be whole numbers of at least 1"):
            Averaged(widths)


# End to end


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return tmp_path_factory.mktemp("survey")


def configured(command, survey, n_components, *overrides):
    """The command's configuration on one small simulated survey, as Hydra composes it."""
    with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = hydra.compose(
            command,
            [
                f"simulated={survey / 'simulated'}",
                "simulation.n_field=60",
                "simulation.stars.clusters=8",
                f"compressor.n_components={n_components}",
                "compressor.candidates=[4,2,200]",
                "compressor.max_iterations=4",
                *(["~learner@baselines.scaled", "calibration=null"] if command == "compare" else []),
                *overrides,
            ],
        )
    if command == "compare":
        config.abundances = {}
    else:
        OmegaConf.update(config, "pairs", OmegaConf.load(CONFIG / "pairs" / "paper.yaml"), force_add=True)
    return config


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
def test_compare_and_fit_choose(survey, monkeypatch):
    drawn = []
    monkeypatch.setattr(comparison_folder, "_draw", lambda folder, comparison, *_: drawn.append((folder, comparison)))
    compare.run(configured("compare", survey, "auto", f"out={survey / 'auto'}"))
    content = json.loads((survey / "auto" / "results.json").read_text())
    assert content["config"]["compressor"]["n_components"] == "auto"
    *held_out, in_sample = content["results"]
    assert [entry["learner"] for entry in held_out] == ["rsca", "raw"]
    for entry in held_out:
        step_1 = entry["compressor"]
        assert step_1["n_components"] == "auto"
        assert [point["n_components"] for point in step_1["curve"]] == [2, 4]
        rates = {point["n_components"]: point["doppelganger_rate"] for point in step_1["curve"]}
        assert step_1["chosen"] == min(rates, key=rates.get)
        assert step_1["chosen_without"].keys() == {cluster["cluster"] for cluster in entry["clusters"]}
        assert all(point["interval"][0] <= point["doppelganger_rate"] for point in step_1["curve"])
    assert not in_sample["held_out"]
    assert in_sample["compressor"]["chosen"] == held_out[0]["compressor"]["chosen"]

    model = RSCA.load(survey / "auto" / "rsca.safetensors")
    assert len(model.sigma_r) == in_sample["compressor"]["chosen"]
    fit.run(configured("fit", survey, "auto", f"out={survey / 'fitted.safetensors'}"))
    assert torch.equal(RSCA.load(survey / "fitted.safetensors").weight, model.weight)

    ((_, comparison),) = drawn
    figure = draw_components(comparison.results[0].nested, comparison.results[0].learner)
    line = figure.axes[0].lines[0]
    np.testing.assert_array_equal(line.get_xdata(), [2, 4])
    curve = held_out[0]["compressor"]["curve"]
    np.testing.assert_array_equal(line.get_ydata(), [point["doppelganger_rate"] for point in curve])
    save_figure(figure, survey, "components")
    assert (survey / "components.png").stat().st_size > 0


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
def test_compare_averages(survey, caplog):
    caplog.set_level("INFO", logger="rsca_torch")
    compare.run(configured("compare", survey, "[4,2]", "figures=false", f"out={survey / 'averaged'}"))
    content = json.loads((survey / "averaged" / "results.json").read_text())
    assert "candidates" not in content["config"]["compressor"]
    for entry in content["results"]:
        assert entry["compressor"]["n_components"] == [4, 2]
        assert [model["n_components"] for model in entry["compressor"]["models"]] == [4, 2]
    assert [entry["learner"] for entry in content["results"]] == ["rsca", "raw", "rsca"]
    assert not (survey / "averaged" / "rsca.safetensors").exists()
    assert "no rsca.safetensors, but learner.pt" in caplog.text
    assert torch.load(survey / "averaged" / "learner.pt", weights_only=True)["parts.1.weight"].shape == (2, 2)


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
@pytest.mark.parametrize(
    ("command", "n_components", "overrides", "message"),
    [
        (
            "compare",
            "0",
            [],
            r"n_components=0: expected a whole number of at least 1, .* such as \[20, 30\] .* or auto",
        ),
        ("compare", "aut", [], r"n_components=aut: expected a whole number"),
        ("compare", "[20,x]", [], r"n_components=\[20, 'x'\]: expected a whole number"),
        ("compare", "[20,20]", [], r"n_components=\[20, 20\]: expected a whole number"),
        ("compare", "[]", [], r"n_components=\[\]: expected a whole number"),
        ("compare", "[4,140]", [], r"\[4, 140\]: 76 field stars can carry at most 74 components"),
        ("compare", "auto", ["compressor.candidates=[]"], r"candidates for n_components must be .* got \[\]"),
        ("compare", "auto", ["compressor.candidates=null"], r"candidates for n_components must be .* got \[None\]"),
        ("compare", "auto", ["compressor.candidates=[190]"], r"no candidate for n_components is left of 190"),
        ("fit", "[2,3]", [], r"one n_components or auto expected, got \[2, 3\] \(rsca compare averages\)"),
    ],
)
def test_bad_numbers_are_refused_before_step_1(survey, command, n_components, overrides, message, monkeypatch):
    module = {"compare": compare, "fit": fit}[command]
    monkeypatch.setattr("rsca_torch.comparison.assembly.represent", None)
    config = configured(command, survey, n_components, f"out={survey / 'refused'}", *overrides)
    with pytest.raises(InputError, match=message):
        module.run(config)
    assert not (survey / "refused").exists()
