"""The contract of learners: the built-in ones keep it, and every check of it catches what it is there for."""

# ruff: noqa: ARG002  (learners that break a rule ignore what they are given)

from __future__ import annotations

import re
import threading
from contextlib import suppress
from pathlib import Path
from unittest import SkipTest

import hydra
import numpy as np
import pytest
import torch
from torch import nn

import rsca_torch
from rsca_torch import InputError, Learner, Scaled, leave_one_cluster_out
from rsca_torch.evaluation import folds
from rsca_torch.learners import Averaged, Recipe
from rsca_torch.learners.registry import CONFIG, builtin
from rsca_torch.testing import HUGE, LearnerContract, drawn_problem


class Diagonal(Learner):
    """Sound and trained: what the broken ones below are made of."""

    recipe = Recipe(epochs=100, learning_rate=0.05, inner=0)

    def __init__(self):
        super().__init__()
        self.register_buffer("centre", torch.empty(0, dtype=torch.float64))
        self.log_weight = nn.Parameter(torch.empty(0, dtype=torch.float64))

    def initialise(self, field, members, clusters):
        self.centre = field.mean(0)
        self.log_weight = nn.Parameter(-field.std(0).log())

    def forward(self, z):
        return ((z.double() - self.centre) * self.log_weight.exp()).to(z.dtype)

    def loss(self, z, clusters):
        squared = torch.pdist(self(z)).square()
        siblings = torch.pdist(torch.from_numpy(np.unique(clusters, return_inverse=True)[1])[:, None].double()) == 0
        return squared[siblings].mean().log() - squared[~siblings].mean().log()


class Closed(Scaled):
    """Sound and in closed form: what the other broken ones are made of."""


class TestDiagonal(LearnerContract):
    make = Diagonal


class TestClosed(LearnerContract):
    make = Closed


class TestAveraged(LearnerContract):
    make = staticmethod(lambda: Averaged([2, 4]))


class TestAveragedOfTrained(LearnerContract):
    """A function needs no staticmethod: the contract calls it from the class."""

    make = lambda: Averaged([2, 4], Diagonal)  # noqa: E731


def configured(name):
    """What `learner=name` makes."""
    with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
        return hydra.utils.instantiate(hydra.compose(overrides=[f"+learner={name}"]).learner)


BUILT_IN = [plugin.name for plugin in builtin()]
CHECKS = [name for name in vars(LearnerContract) if name.startswith("test_")]


def run(check, make):
    contract = type("Contract", (LearnerContract,), {"make": make})()
    getattr(contract, check)()


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", BUILT_IN)
def test_the_built_in_learners_keep_it(name, check):
    with suppress(SkipTest):  # there is nothing to check, as of the loss of a closed form
        run(check, lambda: configured(name))


class NoLearner(nn.Module):
    name = paper = ""
    recipe = None

    def forward(self, z):
        return z


class Mapless(Learner):
    pass


class Flat(Closed):
    def forward(self, z):
        return super().forward(z)[:, 0]


class Pairwise(Closed):
    """D grows with the number of stars."""

    def forward(self, z):
        embedded = super().forward(z)
        return embedded @ embedded.T


class Whole(Closed):
    def forward(self, z):
        return super().forward(z).round().long()


class AlwaysDouble(Closed):
    def forward(self, z):
        return super().forward(z.double())


class Elsewhere(Closed):
    def forward(self, z):
        return super().forward(z).to("meta")


class BatchCentred(Closed):
    def forward(self, z):
        embedded = super().forward(z)
        return embedded - embedded.mean(0)


class Numbered(Closed):
    """The place of a star in the batch is part of its embedding."""

    def forward(self, z):
        return super().forward(z) + torch.arange(len(z), dtype=z.dtype)[:, None]


class Noisy(Closed):
    def forward(self, z):
        embedded = super().forward(z)
        return embedded + 1e-3 * torch.randn(embedded.shape, dtype=z.dtype, generator=torch.Generator().manual_seed(0))


class Noisier(Closed):
    """Draws in eval mode too."""

    def forward(self, z):
        embedded = super().forward(z)
        return embedded + 1e-9 * torch.randn_like(embedded)


class Unseeded(Closed):
    def initialise(self, field, members, clusters, summary=None):
        super().initialise(field, members, clusters, summary)
        self.weight = self.weight * (1 + np.random.default_rng().random())


class SeesFormerMembers(Closed):
    """Every fit remembers, for all learners of the class."""

    seen = ()

    def initialise(self, field, members, clusters, summary=None):
        type(self).seen = (*type(self).seen, members)
        super().initialise(field, members, clusters, summary)
        self.centre = torch.cat(type(self).seen).mean(0)


class WritesOnTheSummary(Closed):
    """What all folds share is added to by each."""

    def summarise(self, field):
        return {"moments": super().summarise(field), "members": []}

    def initialise(self, field, members, clusters, summary=None):
        summary = summary or self.summarise(field)
        super().initialise(field, members, clusters, summary["moments"])
        summary["members"].append(members)
        self.centre = torch.cat(summary["members"]).mean(0)


class KeepsPython(Closed):
    """What forward needs is no buffer."""

    def initialise(self, field, members, clusters, summary=None):
        super().initialise(field, members, clusters, summary)
        self.factor = 2.0

    def forward(self, z):
        return super().forward(z) * getattr(self, "factor", 1.0)


class Shapeless(Diagonal):
    """A fresh one knows no number of dimensions and does not take that of what is loaded."""

    _load_from_state_dict = nn.Module._load_from_state_dict


class KeepsObjects(Closed):
    def get_extra_state(self):
        return threading.Thread  # a class: weights_only refuses it

    def set_extra_state(self, state):
        pass


class Infinite(Closed):
    def forward(self, z):
        return super().forward(z) / 0


class OverflowsInSingle(Closed):
    def forward(self, z):
        return super().forward(z) * z.new_tensor(1e39)


class Constant(Closed):
    def forward(self, z):
        return torch.ones_like(z)


class NoLoss(Diagonal):
    def loss(self, z, clusters):
        return None


class NoRecipe(Diagonal):
    recipe = None


class LossOfEach(Diagonal):
    def loss(self, z, clusters):
        return self(z).square().sum(1)


class LossNaN(Diagonal):
    def loss(self, z, clusters):
        return super().loss(z, clusters) * torch.nan


class LossKnowsNames(Diagonal):
    """Labels must be an array and are taken for numbers."""

    def loss(self, z, clusters):
        return super().loss(z, np.char.replace(clusters, "NGC ", "").astype(int))


class Detached(Diagonal):
    def loss(self, z, clusters):
        return super().loss(z, clusters).detach()


class Unused(Diagonal):
    def __init__(self):
        super().__init__()
        self.idle = nn.Parameter(torch.zeros(3))


class NothingToTrain(Closed):
    recipe = Recipe()

    def loss(self, z, clusters):
        return self(z).square().mean()


class GradientNaN(Diagonal):
    """A root of zero: its gradient is infinite."""

    def loss(self, z, clusters):
        return super().loss(z, clusters) + (self(z) - self(z)).square().sum().sqrt()


class GradientZero(Diagonal):
    def loss(self, z, clusters):
        return super().loss(z, clusters) * 0


class CentresInPlace(Closed):
    def initialise(self, field, members, clusters, summary=None):
        super().initialise(field, members, clusters)
        members -= self.centre


class ScalesInPlace(Closed):
    def forward(self, z):
        return z.mul_(2)


class SortsInPlace(Diagonal):
    def loss(self, z, clusters):
        value = super().loss(z, clusters)
        clusters.sort()
        return value


class CountsLetters(Closed):
    """Clusters weigh by their names."""

    def initialise(self, field, members, clusters, summary=None):
        super().initialise(field, members, clusters, summary)
        self.weight = self.weight * torch.tensor([len(str(clusters[0])) + ord(str(clusters[0])[-1])] * 6)[:, None]


class FirstStarLeads(Closed):
    def initialise(self, field, members, clusters, summary=None):
        super().initialise(field, members, clusters, summary)
        self.weight = self.weight * members[0].abs()


class KeepsALock(Closed):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class CopiesAreTheSame(Closed):
    def __deepcopy__(self, memo):
        return self


class SummarisesAnew(Closed):
    def initialise(self, field, members, clusters, summary=None):
        super().initialise(field, members, clusters, self.summarise(field))


class NoSummary(Closed):
    def summarise(self, field):
        return None

    def initialise(self, field, members, clusters, summary=None):
        super().initialise(field, members, clusters)


class SummaryElse(Closed):
    """The summary says something else than the field."""

    def initialise(self, field, members, clusters, summary=None):
        super().initialise(field, members, clusters, summary)
        if summary is not None:
            self.weight = self.weight + 1


class Averages(Learner):
    """Of spectra: the mean flux of the bins that are there."""

    sees = "spectra"

    def forward(self, z):
        return (z[:, 0] * z[:, 1]).sum(1, keepdim=True) / z[:, 1].sum(1, keepdim=True)


class AveragesAll(Averages):
    """What stands in a censored bin counts."""

    def forward(self, z):
        return z[:, 0].nan_to_num().mean(1, keepdim=True)


def sees_nothing():
    learner = Closed()
    learner.sees = "nothing"
    return learner


def one_for_all():
    return ONE


def oddly_named():
    learner = Closed()
    learner.name = None
    return learner


def with_a_lawless_recipe():
    learner = Closed()
    learner.recipe = {"epochs": 3}
    return learner


ONE = Closed()
LABELS = "test_names_of_clusters_and_order_of_members_do_not_matter"
ROUND_TRIP = "test_the_state_goes_into_a_fresh_learner"
GRADIENTS = "test_gradients_reach_every_parameter"


class Unitless(Closed):
    """It says that units do not matter, and its distances are those of the latents."""

    depends_on_units = False

    def forward(self, z):
        return z


BROKEN = [
    ("test_units_do_not_matter_where_it_says_so", Unitless, "distances change with the units"),
    ("test_it_is_a_learner", NoLearner, "subclass rsca_torch.Learner"),
    ("test_it_is_a_learner", Mapless, "define forward"),
    ("test_it_is_a_learner", one_for_all, "give a fresh one each time"),
    ("test_it_is_a_learner", oddly_named, "name and paper are texts, got None"),
    ("test_it_is_a_learner", with_a_lawless_recipe, r"Recipe or None, got \{'epochs': 3\}"),
    ("test_it_is_a_learner", sees_nothing, "sees is latents or spectra, got 'nothing'"),
    ("test_an_embedding_is_one_row_a_star", Flat, r"forward gives \(N, D\), got \(1,\)"),
    ("test_an_embedding_is_one_row_a_star", Pairwise, r"D must not depend .* got \[1, 2, 7, 300\]"),
    ("test_an_embedding_is_one_row_a_star", Whole, "got torch.int64"),
    ("test_the_dtype_comes_back", AlwaysDouble, "torch.float32 came and torch.float64 went"),
    ("test_the_device_comes_back", Elsewhere, "an embedding on meta"),
    ("test_a_star_alone_is_as_in_company", BatchCentred, "no statistic of the batch"),
    ("test_the_order_of_stars_does_not_matter", Numbered, "map every star by itself"),
    ("test_the_order_of_stars_does_not_matter", Noisy, "map every star by itself"),
    ("test_eval_draws_nothing", Noisier, "two calls differ in eval mode"),
    ("test_one_seed_one_fit", Unseeded, "weight differs: two fits with one seed"),
    ("test_fits_leave_nothing_behind", SeesFormerMembers, "centre differs: a fit before and after another one"),
    ("test_fits_leave_nothing_behind", WritesOnTheSummary, "centre differs: .* leave the summary as it came"),
    (ROUND_TRIP, KeepsPython, "maps otherwise"),
    (ROUND_TRIP, Shapeless, "does not take the state"),
    (ROUND_TRIP, KeepsObjects, "not tensors alone"),
    ("test_the_embedding_is_finite", Infinite, "values are not finite in torch.float64"),
    ("test_the_embedding_is_finite", OverflowsInSingle, "values are not finite in torch.float32"),
    ("test_the_embedding_is_not_constant", Constant, "mapped to one point"),
    ("test_censored_bins_do_not_matter", Averages, "nan as the flux of censored bins changes the embedding"),
    ("test_censored_bins_do_not_matter", AveragesAll, "inf as the flux of censored bins changes the embedding"),
    ("test_loss_and_recipe_go_together", NoLoss, "has epochs and loss gives None"),
    ("test_loss_and_recipe_go_together", NoRecipe, "a loss and no recipe"),
    ("test_the_loss_is_a_finite_scalar", LossOfEach, r"gives a scalar, got shape \(30,\)"),
    ("test_the_loss_is_a_finite_scalar", LossNaN, "the loss at the start is nan"),
    ("test_the_loss_is_a_finite_scalar", LossKnowsNames, "invalid literal"),
    (GRADIENTS, Detached, "does not depend on the parameters"),
    (GRADIENTS, Unused, "does not depend on idle"),
    (GRADIENTS, NothingToTrain, "nothing to train"),
    (GRADIENTS, GradientNaN, "gradients by log_weight are not finite"),
    (GRADIENTS, GradientZero, "all gradients are zero"),
    ("test_inputs_stay_as_they_are", CentresInPlace, "members was changed in place"),
    ("test_inputs_stay_as_they_are", ScalesInPlace, "field was changed in place"),
    ("test_inputs_stay_as_they_are", SortsInPlace, "the labels were changed in place"),
    (LABELS, CountsLetters, "depend on how clusters are called"),
    (LABELS, FirstStarLeads, "or on the order of members"),
    ("test_a_deep_copy_is_another_learner", KeepsALock, "copy.deepcopy fails"),
    ("test_a_deep_copy_is_another_learner", CopiesAreTheSame, "a fit of a deep copy changed the first"),
    ("test_a_summary_is_used", SummarisesAnew, "summarises the field again"),
    ("test_a_summary_is_used", NoSummary, "summarise gives None"),
    ("test_a_summary_is_used", SummaryElse, "weight differs: a fit with and without the summary"),
]


@pytest.mark.parametrize(("check", "broken", "says"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_each_check_catches_what_it_is_there_for(check, broken, says):
    with pytest.raises((AssertionError, ValueError), match=says):
        run(check, broken)


@pytest.mark.parametrize("name", [*BUILT_IN, "Diagonal"])
def test_the_filter_of_folds_is_what_keeps_members_out(monkeypatch, name):
    """The poison test fails as soon as a fold is fitted on the cluster that it judges."""
    make = Diagonal if name == "Diagonal" else lambda: configured(name)
    fitted = folds.Task.fitted
    monkeypatch.setattr(folds.Task, "fitted", lambda task, seen, name: fitted(task, np.ones_like(seen), name))
    if name in ("raw", "pca_whitening"):  # they learn nothing from members, so there is nothing that could leak
        run("test_no_fold_leaks", make)
        return
    with pytest.raises(AssertionError, match="fit on what initialise and loss are given, nothing else"):
        run("test_no_fold_leaks", make)


class Telepath(Diagonal):
    """Has a way to the members that are held out: no parameter or buffer need show it."""

    everyone = ()
    keeps_it_in = "python"

    def initialise(self, field, members, clusters):
        super().initialise(field, members, clusters)
        leaked = type(self).everyone.abs().mean()
        if self.keeps_it_in == "python":
            self.factor = float(leaked)
        else:
            self.centre = self.centre + leaked * 1e-40  # a bit, with huge numbers, and none without

    def forward(self, z):
        return super().forward(z) * getattr(self, "factor", 1.0)


@pytest.mark.parametrize(("place", "says"), [("python", "embedding"), ("buffer", "centre")])
def test_a_leak_by_the_back_door_is_caught(monkeypatch, place, says):
    monkeypatch.setattr(Telepath, "keeps_it_in", place)

    def watched(make, field, members, clusters, **options):
        monkeypatch.setattr(Telepath, "everyone", members)
        return leave_one_cluster_out(make, field, members, clusters, **options)

    monkeypatch.setattr("rsca_torch.testing.leave_one_cluster_out", watched)
    with pytest.raises(AssertionError, match=f"{says} differs: the learner that judges a cluster knows its members"):
        run("test_no_fold_leaks", Telepath)


class Refuses(Closed):
    """Maps no huge numbers, and says so."""

    def forward(self, z):
        if z.abs().max() >= HUGE:
            raise InputError("too far away")
        return super().forward(z)


def test_a_learner_may_refuse_to_map_huge_numbers():
    run("test_no_fold_leaks", Refuses)


class NeverFits(Closed):
    def initialise(self, field, members, clusters, summary=None):
        raise InputError("not on these stars")


def test_what_cannot_be_fitted_is_no_pass():
    with pytest.raises(InputError, match="not on these stars"):
        run("test_no_fold_leaks", NeverFits)


def test_checks_without_an_object_are_skipped():
    for check in ("test_the_loss_is_a_finite_scalar", GRADIENTS):
        with pytest.raises(SkipTest, match="a closed form"):
            run(check, Closed)
    with pytest.raises(SkipTest, match="sees latents"):
        run("test_censored_bins_do_not_matter", Closed)
    with pytest.raises(SkipTest, match="depends on the units"):
        run("test_units_do_not_matter_where_it_says_so", Diagonal)
    with pytest.raises(SkipTest, match="has a loss"):
        run(LABELS, Diagonal)
    with pytest.raises(SkipTest, match="does not ask for a summary"):
        run("test_a_summary_is_used", Diagonal)


def test_recipes_are_short_in_the_contract_and_nowhere_else():
    made = type("Contract", (LearnerContract,), {"make": Diagonal})()._made()
    assert (made.recipe.epochs, made.recipe.learning_rate, made.recipe.inner) == (3, 0.05, 0)
    assert Diagonal.recipe.epochs == 100


def test_every_check_is_documented_and_has_a_learner_that_it_catches():
    caught = {check for check, _, _ in BROKEN} | {"test_no_fold_leaks"}
    assert caught == set(CHECKS)
    assert len(CHECKS) == 22
    for check in CHECKS:
        assert len(getattr(LearnerContract, check).__doc__.splitlines()) == 1


def test_the_drawn_problem():
    problem, again = drawn_problem(), drawn_problem()
    assert torch.equal(problem.members, again.members)
    assert (tuple(problem.field.shape), tuple(problem.members.shape)) == ((300, 6), (30, 6))
    assert problem.field.dtype == problem.members.dtype == torch.float64
    assert np.unique(problem.clusters, return_counts=True)[1].tolist() == [6] * 5


def test_the_package_does_not_need_pytest():
    for path in Path(rsca_torch.__file__).parent.rglob("*.py"):
        assert not re.search(r"^\s*(import|from) pytest", path.read_text(), re.MULTILINE), path
