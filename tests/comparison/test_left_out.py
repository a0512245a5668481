"""What cannot be judged is left out with its reason, and the rest stands; groups of options that are null."""

from __future__ import annotations

import hydra
import numpy as np
import pytest
import torch
from astropy.table import Table

from rsca_torch import Identity, InputError, NumericalWarning, ScaledComponents, allowed_pairs
from rsca_torch.cli.main import CONFIG, main
from rsca_torch.comparison.abundances import abundances
from rsca_torch.comparison.comparison import compare
from rsca_torch.comparison.groups_given import every_group, without_null
from rsca_torch.comparison.representation import Representation
from rsca_torch.learners import RCA
from rsca_torch.spectra.stars import Stars
from rsca_torch.testing import drawn_problem

ELEMENTS = ["A", "B", "C", "D", "E", "F"]


def table(latents, group):
    latents, group = np.asarray(latents), np.asarray(group)
    stars = Table({"id": [f"{number}" for number in range(len(latents))], "group": group})
    stars["velocity"], stars["extinction"] = np.zeros(len(latents)), np.zeros(len(latents))
    for element, column in zip(ELEMENTS, latents.T, strict=True):
        stars[f"{element}_H"] = column
    return Stars.of(stars)


@pytest.fixture
def few():
    """Six elements of nine members in three clusters: six degrees of freedom, four in a fold."""
    problem = drawn_problem()
    kept = np.concatenate([np.flatnonzero(problem.clusters == name)[:3] for name in ("NGC 0", "NGC 1", "NGC 2")])
    field, members = table(np.asarray(problem.field), [""] * 300), table(problem.members[kept], problem.clusters[kept])
    latents = torch.as_tensor(problem.field), torch.as_tensor(problem.members[kept])
    spectra = Representation("spectra", *latents, field, members)
    return spectra, abundances("abundances", field, members, ELEMENTS)


def test_a_learner_that_cannot_be_judged_on_abundances_leaves_the_rest(few):
    spectra, of_elements = few
    stars = spectra.field_stars, spectra.member_stars
    small = Representation("spectra", spectra.field[:, :2], spectra.members[:, :2], *stars)
    with pytest.warns(NumericalWarning) as said:
        comparison = compare([small, of_elements], [RCA, Identity], allowed_pairs)
    told = [f"{result.learner} {result.representation.name} {result.loco.held_out}" for result in comparison.results]
    assert told == ["rca spectra True", "raw spectra True", "rca spectra False", "raw abundances True"]
    (left_out,) = (str(warning.message) for warning in said if "left out" in str(warning.message))
    assert left_out.startswith("rca on abundances is left out: inside clusters 6 members of 2 clusters span 4 of 6")
    assert "give fewer elements, abundances.abundances.elements=[...] to 4" in left_out
    assert "n_components" not in left_out


def test_a_baseline_that_cannot_be_judged_leaves_the_judged_learner(few):
    spectra, _ = few
    with pytest.warns(NumericalWarning, match="rca on spectra is left out: .*lower n_components"):
        comparison = compare([spectra], [Identity, RCA], allowed_pairs)
    assert [result.learner for result in comparison.results] == ["raw", "raw"]
    with pytest.raises(InputError, match="span 4 of 6 dimensions"):  # nothing stands without it
        compare([spectra], [RCA, Identity], allowed_pairs)


def test_rsca_copes_with_more_elements_than_degrees_of_freedom_and_says_so(few):
    _, of_elements = few
    with pytest.warns(NumericalWarning, match="2 of 6 dimensions are not spanned by 6 members of 2 clusters"):
        compare([of_elements], [ScaledComponents], allowed_pairs)


def test_directions_in_which_no_siblings_can_differ_weigh_nothing(few):
    spectra, _ = few
    kept = np.isin(spectra.clusters, ["NGC 0", "NGC 1"])
    arguments = spectra.field, spectra.members[kept], spectra.clusters[kept]
    with pytest.raises(InputError, match="at most 4"):
        ScaledComponents().initialise(*arguments)
    learner = ScaledComponents(unspanned="drop")
    with pytest.warns(NumericalWarning, match=r"^2 of 6 .* not spanned .* \(members minus clusters\): weight 0"):
        learner.initialise(*arguments)
    assert learner.weight.shape == (6, 6)
    assert (learner.weight[-2:] == 0).all()
    assert learner.sigma_r[-2:].isinf().all()
    telling = 6 - learner.dropped
    assert learner.dropped >= 2
    assert (learner.weight[:telling].abs().sum(1) > 0).all()
    # along what is left the field is white and siblings do not correlate, as ever
    unscaled = (learner.weight[:telling] * learner.sigma_r[:telling, None]).numpy()
    np.testing.assert_allclose(np.cov(np.asarray(spectra.field) @ unscaled.T, rowvar=False), np.eye(telling), atol=1e-8)
    with pytest.raises(InputError, match='unspanned must be "refuse" or "drop"'):
        ScaledComponents(unspanned="keep")


def test_enough_members_are_not_told_apart():
    problem = drawn_problem()
    both = [ScaledComponents(unspanned=way) for way in ("refuse", "drop")]
    for learner in both:
        learner.initialise(problem.field, problem.members, problem.clusters)
    assert torch.equal(both[0].weight, both[1].weight)


def test_masked_abundances_are_missing():
    problem = drawn_problem()
    field, members = table(np.asarray(problem.field), [""] * 300), table(problem.members, problem.clusters)
    field = Stars.of(Table(field, masked=True))
    field["A_H"].mask[:3] = True
    with pytest.warns(NumericalWarning, match="3 of 300 field stars lack an abundance"):
        assert abundances("x", field, members, ELEMENTS).field.shape == (297, 6)


@pytest.mark.parametrize("name", ["compressor", "trainer", "learner", "pairs", "simulation", "survey", "censoring"])
def test_a_group_that_is_needed_says_why(name, capsys):
    assert main(["compare", f"{name}=null"]) == 2
    said = capsys.readouterr().err
    assert f"{name}=null: " in said
    assert f"{name}=" in said.partition(": ")[2] or name == "trainer"


def test_groups_that_may_be_empty_are():
    groups = {path.name for path in CONFIG.iterdir() if path.is_dir()}
    given = [without_null(each, groups) for each in ("abundances=null", "baselines=null", "figures_of_merit=null")]
    given += [without_null("learner@baselines.raw=null", groups)]
    with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = every_group(hydra.compose("compare", given[:3]))
        one = every_group(hydra.compose("compare", [given[3], "~figure_of_merit@figures_of_merit.overlap"]))
    assert [config[name] for name in ("abundances", "baselines", "figures_of_merit")] == [{}, {}, {}]
    assert list(one.baselines) == ["scaled"]
    assert one.figures_of_merit == {}
