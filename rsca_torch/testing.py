"""What every learner must hold to, as tests that a plugin's test file inherits (docs/plugins.md).

One class of one line, `class TestMyLearner(LearnerContract): make = MyLearner`, and `pytest` runs twenty-two checks on
a small drawn problem. pytest itself is not imported here.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, NoReturn
from unittest import SkipTest

import numpy as np
import torch
from torch import Tensor

from rsca_torch.errors import NumericalWarning
from rsca_torch.evaluation.leave_one_out import leave_one_cluster_out
from rsca_torch.learners.learner import Learner, Recipe
from rsca_torch.spectra.packed import PACKED, pack
from rsca_torch.training.fitting import takes_summary

__all__ = ["LearnerContract", "Problem", "drawn_problem", "drawn_spectra"]

HUGE = 1e30  # finite, and so is its square
SEED = 0
REMEDY = "fit on what initialise and loss are given, nothing else"
CLOSE = 1e-5  # of the largest value: a learner may compute in float32


class Problem(NamedTuple):
    """What a learner is tried on.

    Attributes:
        field: (F, K) float64 latents of field stars, or (F, 2, P) packed spectra.
        members: (M, K) float64 latents of cluster members, or (M, 2, P) packed spectra.
        clusters: (M,) labels.
    """

    field: Tensor
    members: Tensor
    clusters: np.ndarray

    def chosen(self, rows: np.ndarray) -> Problem:
        """With these members alone, in this order."""
        return Problem(self.field, self.members[torch.from_numpy(rows)], self.clusters[rows])


def drawn_problem() -> Problem:
    """300 field stars and 30 members of 5 clusters in 6 dimensions, well mixed; each tells siblings apart.

    Examples:
        >>> problem = drawn_problem()
        >>> problem.field.shape, problem.members.shape, len(problem.clusters)
        (torch.Size([300, 6]), torch.Size([30, 6]), 30)
    """
    rng = np.random.default_rng(SEED)
    spreads = np.linspace(0.1, 0.6, 6)
    mixing = rng.normal(size=(6, 6)) + 2 * np.eye(6)
    centres = np.repeat(rng.normal(size=(5, 6)), 6, axis=0)
    members = centres + rng.normal(size=centres.shape) * spreads
    order = rng.permutation(len(members))
    return Problem(
        torch.from_numpy(rng.normal(size=(300, 6)) @ mixing.T + 3),
        torch.from_numpy(members[order] @ mixing.T + 3),
        np.repeat([f"NGC {number}" for number in range(5)], 6)[order],
    )


def drawn_spectra() -> Problem:
    """The stars of `drawn_problem` as packed spectra of 40 bins, a sixth of which are censored, with errors."""
    latents, rng = drawn_problem(), np.random.default_rng(SEED + 1)
    loadings = rng.normal(size=(6, 40)) * 0.05
    field, members = (_observed(z.numpy() @ loadings, rng) for z in (latents.field, latents.members))
    return Problem(field, members, latents.clusters)


def _observed(change: np.ndarray, rng: np.random.Generator) -> Tensor:
    sigma = rng.uniform(0.01, 0.03, size=change.shape)
    return pack(1 + change + sigma * rng.normal(size=change.shape), rng.random(change.shape) < 5 / 6, sigma)


class LearnerContract:
    """The tests that a learner inherits; each says what to do where it fails.

    Subclasses set `make` to the learner's class, or to a function without arguments that gives a fresh learner. One
    that needs other stars than `drawn_problem` (of spectra `drawn_spectra`) overrides `problem`. Recipes are shortened
    to three epochs.

    Examples:
        >>> from rsca_torch import ScaledComponents
        >>> class TestScaledComponents(LearnerContract):
        ...     make = ScaledComponents
        >>> TestScaledComponents().test_no_fold_leaks()
    """

    make: ClassVar[Callable[[], Learner]]

    def problem(self) -> Problem:
        """The stars that the learner is tried on; 5 clusters with 2 members or more, please."""
        return drawn_spectra() if getattr(self._made(), "sees", "latents") == "spectra" else drawn_problem()

    def test_it_is_a_learner(self) -> None:
        """A fresh subclass of Learner each time, with a map of its own, and name, paper and recipe of their types."""
        learner, other = self._made(), self._made()
        assert isinstance(learner, Learner), f"make gave {type(learner).__name__}: subclass rsca_torch.Learner"
        assert learner is not other, "make gave one learner twice: give a fresh one each time, or folds share it"
        assert type(learner).forward is not Learner.forward, "define forward(z): (N, K) -> (N, D)"
        assert learner.sees in ("latents", "spectra"), f"sees is latents or spectra, got {learner.sees!r}"
        texts = isinstance(learner.name, str) and isinstance(learner.paper, str)
        assert texts, f"name and paper are texts, got {learner.name!r} and {learner.paper!r}"
        assert learner.recipe is None or isinstance(learner.recipe, Recipe), (
            f"recipe is a rsca_torch.learners.Recipe or None, got {learner.recipe!r}"
        )

    def test_an_embedding_is_one_row_a_star(self) -> None:
        """(N, K) -> (N, D), floating, D the same for every N."""
        problem, learner = self._fitted()
        sizes = set()
        for n_stars in (1, 2, 7, len(problem.field)):
            embedded = _embedded(learner, problem.field[:n_stars])
            assert isinstance(embedded, Tensor), f"forward gives a torch.Tensor, got {type(embedded).__name__}"
            assert embedded.ndim == 2, f"forward gives (N, D), got {tuple(embedded.shape)} of {n_stars} stars"
            assert len(embedded) == n_stars, f"forward gives one row a star, got {len(embedded)} of {n_stars} stars"
            assert embedded.is_floating_point(), f"distances need numbers with a fraction, got {embedded.dtype}"
            sizes.add(embedded.shape[1])
        assert len(sizes) == 1, f"D must not depend on how many stars come together, got {sorted(sizes)}"
        assert sizes != {0}, "an embedding needs one dimension at least"

    def test_the_dtype_comes_back(self) -> None:
        """float32 in, float32 out; float64 in, float64 out."""
        problem, learner = self._fitted()
        for dtype in (torch.float32, torch.float64):
            got = _embedded(learner, problem.members.to(dtype)).dtype
            assert got == dtype, f"{dtype} came and {got} went: end forward with .to(z.dtype)"

    def test_the_device_comes_back(self) -> None:
        """The embedding is where the stars are; so on a CUDA device too, where there is one."""
        problem, learner = self._fitted()
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            z = problem.members.to(device)
            got = _embedded(copy.deepcopy(learner).to(device), z).device
            assert got == z.device, (
                f"stars on {z.device} came and an embedding on {got} went: keep tensors as parameters or by "
                "register_buffer, so that they move with the learner, and make new ones with device=z.device"
            )

    def test_a_star_alone_is_as_in_company(self) -> None:
        """No star's embedding depends on the stars that come with it."""
        problem, learner = self._fitted()
        together = _embedded(learner, problem.members)
        alone = torch.cat([_embedded(learner, problem.members[n : n + 1]) for n in range(len(together))])
        assert _close(alone, together), (
            "a star is mapped otherwise alone than in company: use what initialise kept, no statistic of the batch"
        )

    def test_the_order_of_stars_does_not_matter(self) -> None:
        """Stars in another order give the same rows in that order."""
        problem, learner = self._fitted()
        order = torch.randperm(len(problem.field), generator=torch.Generator().manual_seed(SEED))
        got, expected = _embedded(learner, problem.field[order]), _embedded(learner, problem.field)[order]
        assert _close(got, expected), "rows depend on the order of stars: map every star by itself"

    def test_eval_draws_nothing(self) -> None:
        """In eval mode the same stars give exactly the same embedding."""
        problem, learner = self._fitted()
        first, second = _embedded(learner, problem.members), _embedded(learner, problem.members)
        assert torch.equal(first, second), "two calls differ in eval mode: draw only where self.training is true"

    def test_one_seed_one_fit(self) -> None:
        """Under the same seed of torch a learner is made and initialised to the bit as before."""
        problem = self.problem()
        one, other = (_initialised(self._made, problem) for _ in range(2))
        _require_alike(one, other, problem, "two fits with one seed: draw random numbers from torch's generator alone")

    def test_fits_leave_nothing_behind(self) -> None:
        """What one fold's learner saw, the next fold's does not know: neither by the class nor by the summary."""
        problem = self.problem()
        fold = problem.chosen(problem.clusters != _first_cluster(problem))
        before = _initialised(self._made, fold)
        with _quiet():
            summary = self._made().summarise(problem.field)
        _initialised(self._made, problem, summary)
        after = _initialised(self._made, fold, summary)
        remedy = "keep what initialise sees in self alone, and leave the summary as it came"
        _require_alike(before, after, problem, f"a fit before and after another one: {remedy}")

    def test_the_state_goes_into_a_fresh_learner(self) -> None:
        """state_dict is saved, loaded with weights_only=True and put into a learner that saw no star."""
        problem, learner = self._fitted()
        file = io.BytesIO()
        torch.save(learner.state_dict(), file)
        file.seek(0)
        try:
            state = torch.load(file, weights_only=True)
        except Exception as error:
            raise AssertionError(f"the state is not tensors alone: keep them by register_buffer ({error})") from error
        fresh = self._made()
        try:
            fresh.load_state_dict(state)
        except RuntimeError as error:
            raise AssertionError(
                f"a fresh learner does not take the state: make all parameters and buffers in __init__; those whose "
                f"shape only initialise knows take that of what is loaded (docs/plugins.md). {error}"
            ) from error
        assert torch.equal(_embedded(fresh.eval(), problem.field), _embedded(learner, problem.field)), (
            "a fresh learner with the state of another maps otherwise: make all that forward uses a parameter or buffer"
        )

    def test_the_embedding_is_finite(self) -> None:
        """No NaN and no infinity, in float32 either."""
        problem, learner = self._fitted()
        for z in (problem.field, problem.members, problem.field.float()):
            embedded = _embedded(learner, z)
            bad = int((~embedded.isfinite()).sum())
            assert not bad, (
                f"{bad} of {embedded.numel()} values are not finite in {z.dtype}: no distance means anything"
            )

    def test_the_embedding_is_not_constant(self) -> None:
        """Stars differ."""
        problem, learner = self._fitted()
        embedded = _embedded(learner, problem.field)
        spread = float((embedded - embedded[:1]).abs().max())
        assert spread > 1e-12 * float(embedded.abs().max()), "all stars are mapped to one point: nothing is told apart"

    def test_censored_bins_do_not_matter(self) -> None:
        """Of a learner of spectra: whatever stands in a bin whose weight is 0, no bit of the embedding changes."""
        if getattr(self._made(), "sees", "latents") != "spectra":
            raise SkipTest("sees latents, which have no bins")
        problem, learner = self._fitted()
        expected = _embedded(learner, problem.members)
        for value in (torch.nan, torch.inf, HUGE, -1.0):
            z = problem.members.clone()
            z[:, 0][z[:, 1] == 0] = value
            assert torch.equal(_embedded(learner, z), expected), (
                f"{value} as the flux of censored bins changes the embedding: take the flux of "
                "rsca_torch.spectra.packed.unpack, or torch.where(weight > 0, flux, 0)"
            )

    def test_loss_and_recipe_go_together(self) -> None:
        """A loss with a recipe, or neither; without epochs there may be either."""
        problem, learner = self._fitted()
        loss, recipe = _loss(learner, problem), learner.recipe
        if recipe is None:
            assert loss is None, "there is a loss and no recipe, so it is never minimised: set recipe = Recipe()"
        elif recipe.epochs > 0:
            assert loss is not None, "the recipe has epochs and loss gives None: give a loss, or set recipe = None"

    def test_the_loss_is_a_finite_scalar(self) -> None:
        """Of all members, and with labels as a list of any names."""
        problem, learner = self._fitted()
        for labels in (problem.clusters, _renamed(problem.clusters)):
            loss = _required_loss(learner, problem._replace(clusters=labels))
            assert isinstance(loss, Tensor), f"loss gives a torch.Tensor, got {type(loss).__name__}"
            assert loss.ndim == 0, f"loss gives a scalar, got shape {tuple(loss.shape)}: take the mean over stars"
            assert loss.isfinite(), f"the loss at the start is {loss.item()}: no step can be taken from there"

    def test_gradients_reach_every_parameter(self) -> None:
        """Finite gradients of the loss by every parameter that is not frozen, and not all zero."""
        problem, learner = self._fitted()
        loss = _required_loss(learner, problem)
        trained = {name: each for name, each in learner.named_parameters() if each.requires_grad}
        assert trained, "there is a loss and nothing to train: make an nn.Parameter, or give no loss"
        assert loss.requires_grad, "the loss does not depend on the parameters: no detach(), no no_grad() on the way"
        gradients = dict(zip(trained, torch.autograd.grad(loss, [*trained.values()], allow_unused=True), strict=True))
        unused = [name for name, gradient in gradients.items() if gradient is None]
        assert not unused, f"the loss does not depend on {', '.join(unused)}: use it, or requires_grad_(False)"
        given = {name: gradient for name, gradient in gradients.items() if gradient is not None}
        bad = [name for name, gradient in given.items() if not gradient.isfinite().all()]
        assert not bad, f"gradients by {', '.join(bad)} are not finite: mind roots and logarithms at zero"
        assert any(gradient.any() for gradient in given.values()), "all gradients are zero: training would not move"

    def test_inputs_stay_as_they_are(self) -> None:
        """Field, members and labels are the same after initialise, forward and loss."""
        problem, untouched = self.problem(), self.problem()
        learner = _initialised(self._made, problem)
        _embedded(learner, problem.members)
        _embedded(learner, problem.field)
        _loss(learner, problem)
        for name in ("field", "members"):
            same = torch.equal(getattr(problem, name), getattr(untouched, name))
            assert same, f"{name} was changed in place: other learners are given the same tensor; work on a copy"
        assert (problem.clusters == untouched.clusters).all(), "the labels were changed in place: work on a copy"

    def test_names_of_clusters_and_order_of_members_do_not_matter(self) -> None:
        """A closed form gives the same distances for other names in another order."""
        problem, learner = self._fitted()
        if _loss(learner, problem) is not None:
            raise SkipTest("has a loss: what random numbers it draws may depend on the order")
        order = np.random.default_rng(SEED).permutation(len(problem.members))
        shuffled = problem.chosen(order)
        other = _initialised(self._made, shuffled._replace(clusters=_renamed(shuffled.clusters)))
        assert _close(_distances(other, problem), _distances(learner, problem)), (
            "distances depend on how clusters are called or on the order of members: a label says only who belongs "
            "together"
        )

    def test_no_fold_leaks(self) -> None:
        """Huge numbers for the members that are held out change no bit of the learner that judges them."""
        problem = self.problem()
        held_out = torch.from_numpy(problem.clusters == _first_cluster(problem))
        signs = torch.where(torch.arange(int(held_out.sum())) % 2 == 0, HUGE, -HUGE).double()
        poisoned = problem.members.clone()
        flux = poisoned[:, 0] if poisoned.ndim == PACKED else poisoned  # with the weights that it has
        flux[held_out] = signs[:, None]
        clean, judge = self._judge(problem), self._judge(problem._replace(members=poisoned), may_refuse=True)
        assert clean is not None, "the learner that judges was never asked for an embedding: do not override __call__"
        assert judge is not None, (
            "with huge numbers for the members that are held out no learner could be fitted: " + REMEDY
        )
        _require_alike(clean, judge, problem, f"the learner that judges a cluster knows its members: {REMEDY}")

    def test_a_deep_copy_is_another_learner(self) -> None:
        """copy.deepcopy works, maps alike, and a fit of the copy leaves the first as it was."""
        problem, learner = self._fitted()
        expected = _embedded(learner, problem.field)
        try:
            other = copy.deepcopy(learner)
        except Exception as error:
            raise AssertionError(
                f"copy.deepcopy fails: keep no open files, locks or graphs in self ({error})"
            ) from error
        assert torch.equal(_embedded(other, problem.field), expected), "a deep copy maps otherwise than the first"
        _initialise(other, problem._replace(field=problem.field[::2] * 3, members=problem.members * 2))
        assert torch.equal(_embedded(learner, problem.field), expected), "a fit of a deep copy changed the first"

    def test_a_summary_is_used(self) -> None:
        """Where initialise asks for a summary it takes the one that it is given, with the same outcome as without."""
        problem, learner = self.problem(), self._made()
        if not takes_summary(learner):
            raise SkipTest("initialise does not ask for a summary")
        summary = learner.summarise(problem.field)
        assert summary is not None, "initialise asks for a summary and summarise gives None: define summarise(field)"
        with _quiet():
            without = self._made()
            without.initialise(*problem)
        with _quiet():
            given = self._made()
            object.__setattr__(given, "summarise", _not_again)
            _initialise(given, problem, summary)
        said = "a fit with and without the summary: both must come to the same"
        _require_alike(without.eval(), given.eval(), problem, said)

    def test_units_do_not_matter_where_it_says_so(self) -> None:
        """Of depends_on_units = False: every latent in a unit of its own leaves all distances as they are."""
        problem, learner = self._fitted()
        if getattr(learner, "depends_on_units", True):
            raise SkipTest("depends on the units of the latents, and is given them in units of flux")
        units = torch.logspace(-2, 2, problem.field.shape[-1], dtype=problem.field.dtype)
        scaled = problem._replace(field=problem.field * units, members=problem.members * units)
        got = _distances(_initialised(self._made, scaled), scaled)
        assert _close(got, _distances(learner, problem)), (
            "distances change with the units of the latents, though depends_on_units is False: set it to True, or "
            "divide by what initialise sees of the field in every latent"
        )

    def _made(self) -> Learner:
        """Fresh, its recipe short enough for a test."""
        learner = type(self).make()
        recipe = getattr(learner, "recipe", None)
        if isinstance(recipe, Recipe):
            few = recipe.clusters_a_batch and min(3, recipe.clusters_a_batch)
            inner = 0 if recipe.inner == 0 else 1
            learner.recipe = replace(recipe, epochs=min(3, recipe.epochs), inner=inner, clusters_a_batch=few)
        return learner

    def _fitted(self) -> tuple[Problem, Learner]:
        problem = self.problem()
        return problem, _initialised(self._made, problem)

    def _judge(self, problem: Problem, may_refuse: bool = False) -> Learner | None:
        """The one that judges the first cluster: the last that maps stars before the fold is done.

        `may_refuse`: huge numbers may be refused where they are judged; the fit is over by then.
        """
        seen: list[Any] = []

        def make() -> Learner:
            learner = self._made()
            learner.register_forward_pre_hook(lambda module, _: seen.append(module))
            return learner

        refusals = (ValueError, ArithmeticError, RuntimeError) if may_refuse else ()  # InputError is a ValueError
        with _quiet(), suppress(_Enough, *refusals):
            leave_one_cluster_out(make, *problem, seed=SEED, progress=_stop)
        return seen[-1] if seen else None


class _Enough(Exception):  # noqa: N818  (no error)
    """One fold is done."""


def _stop(*_: int) -> NoReturn:
    raise _Enough


def _not_again(_: Tensor) -> NoReturn:
    raise AssertionError("initialise summarises the field again though a summary is given: use it where it is not None")


@contextmanager
def _quiet() -> Iterator[None]:
    """With random numbers of its own seed, and without what the numbers of a small problem make learners say."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.default_generator.manual_seed(SEED)
        warnings.simplefilter("ignore", NumericalWarning)
        yield


def _initialise(learner: Learner, problem: Problem, summary: Any = None) -> None:  # noqa: ANN401  (the learner's affair)
    """Where it takes a summary of the field with the one that is given, or its own."""
    given = {}
    if takes_summary(learner):
        given["summary"] = learner.summarise(problem.field) if summary is None else summary
    learner.initialise(*problem, **given)


def _initialised(make: Callable[[], Learner], problem: Problem, summary: Any = None) -> Learner:  # noqa: ANN401  (as above)
    """Made and initialised under one seed, in eval mode."""
    with _quiet():
        learner = make()
        _initialise(learner, problem, summary)
    return learner.eval()


@torch.no_grad()
def _embedded(learner: Learner, z: Tensor) -> Tensor:
    embedded: Tensor = learner(z)
    return embedded


def _loss(learner: Learner, problem: Problem) -> Tensor | None:
    with _quiet():
        learner.train()
        loss = learner.loss(problem.members, problem.clusters)
        learner.eval()
    return loss


def _required_loss(learner: Learner, problem: Problem) -> Tensor:
    loss = _loss(learner, problem)
    if loss is None:
        raise SkipTest("a closed form: there is no loss")
    return loss


def _first_cluster(problem: Problem) -> str:
    """The one that leave one cluster out judges first."""
    names, sizes = np.unique(problem.clusters, return_counts=True)
    return str(names[sizes > 1][0])


def _renamed(clusters: np.ndarray) -> Any:  # noqa: ANN401  (labels may be a list, where arrays are declared)
    """Other names that sort the other way round."""
    names, number = np.unique(clusters, return_inverse=True)
    return [f"M {len(names) - n}" for n in number]


def _distances(learner: Learner, problem: Problem) -> Tensor:
    embedded = _embedded(learner, torch.cat([problem.members, problem.field[:100]]))
    return torch.cdist(embedded, embedded, compute_mode="donot_use_mm_for_euclid_dist")


def _close(got: Tensor, expected: Tensor) -> bool:
    return got.shape == expected.shape and bool((got - expected).abs().max() <= CLOSE * expected.abs().max())


def _require_alike(one: Learner, other: Learner, problem: Problem, said: str) -> None:
    """Two learners to the bit; `said` goes on where what differs was named."""
    tensors, others = ({**dict(each.named_parameters()), **dict(each.named_buffers())} for each in (one, other))
    lacking = sorted(tensors.keys() ^ others.keys())
    assert not lacking, f"{', '.join(lacking)} is not in both: {said}"
    unlike = [name for name, tensor in tensors.items() if not torch.equal(tensor, others[name])]
    assert not unlike, f"{', '.join(unlike)} differs: {said}"
    same = torch.equal(_embedded(one, problem.field), _embedded(other, problem.field))
    assert same, f"the embedding differs: {said}"
