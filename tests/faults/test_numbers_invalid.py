"""What stands in an invalid bin changes no bit of anything: NaN, infinity, 1e300, zero and negative errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numbers_survey import BINS, JUNK, drawn, examples, fitted, spectra

from rsca_torch import Spectra, fit_ppca
from rsca_torch.ppca.fit import compress
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.removal import Grouping, Removal, without

pytestmark = pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
SOME_JUNK = st.lists(JUNK, min_size=7, max_size=7)


def spoiled(part, junk):
    """The same with junk, bin after bin, wherever a bin is invalid."""
    flux, sigma, invalid = part.flux.copy(), part.sigma.copy(), ~part.valid
    count = int(invalid.sum())
    flux[invalid], sigma[invalid] = np.resize(junk, count), np.resize(junk[::-1], count)
    return type(part)(flux=flux, sigma=sigma, valid=part.valid)


def bits(*tensors):
    return [np.asarray(tensor).tobytes() for tensor in tensors]


@examples(4)
@given(junk=SOME_JUNK)
@pytest.mark.parametrize(
    "options", [{}, {"clip": 5.0}, {"noise": "isotropic"}], ids=["measured", "clipped", "one noise"]
)
def test_a_model_and_its_features(junk, options):
    survey = drawn()
    model = fitted(survey, **options)
    survey.field, survey.members = (spoiled(part, junk) for part in (survey.field, survey.members))
    other, members = fitted(survey, **options), survey.members
    assert bits(other.weight, other.bias, other.sigma_r) == bits(model.weight, model.bias, model.sigma_r)
    plain = drawn().members
    for given_sigma in ((), (True,)):
        clean, dirty = ((part.flux, part.valid, *(part.sigma for _ in given_sigma)) for part in (plain, members))
        assert bits(model(*clean)) == bits(model(*dirty))
    assert bits(model.embed(spectra(plain))) == bits(model.embed(spectra(members)))


@examples(15)
@given(junk=SOME_JUNK, clip=st.sampled_from([None, 5.0]))
def test_what_step_1_says_of_stars(junk, clip):
    part, axes = drawn(3, missing=0.4).field, np.random.default_rng(7).normal(size=(BINS, 3))
    scatter = torch.full((BINS,), 0.01).double()
    model = MaskedPPCA(torch.tensor(axes), torch.ones(BINS).double(), scatter, None, scatter=scatter, clip=clip)
    clean, dirty = ((some.flux, some.valid, some.sigma) for some in (part, spoiled(part, junk)))
    for ask in (model.posterior, model.reconstruct, model.set_aside, model.log_likelihood):
        found = [answer if isinstance(answer, tuple) else (answer,) for answer in (ask(*clean), ask(*dirty))]
        assert bits(*found[0]) == bits(*found[1]), ask.__name__


@examples(8)
@given(junk=SOME_JUNK)
def test_a_fit_of_arrays_as_they_come(junk):
    part = drawn(5).field
    models = [fit_ppca(some.flux, some.valid, 2, some.sigma) for some in (part, spoiled(part, junk))]
    assert bits(models[0].loadings, models[0].mean) == bits(models[1].loadings, models[1].mean)
    assert models[0].history == models[1].history


@examples(5)
@given(junk=SOME_JUNK)
def test_what_is_removed(junk):
    """A hyperplane that stars of one value share, read from what is valid."""
    part = drawn(9, n_field=60).field
    group = np.arange(60) // 3
    part.flux = part.flux + 2 * np.random.default_rng(1).normal(size=20)[group][:, None] * np.linspace(-1, 1, BINS)

    def removed(some):
        stars = {"id": np.arange(60), "fibre": group}
        field = Spectra(some.flux, some.valid, some.sigma, None, stars)
        ppca = compress(field, field, 4, "measured")
        removal, _ = Grouping("fibre", shuffles=3).find(ppca, field)
        assert isinstance(removal, Removal)
        assert len(removal)
        return removal.directions, removal.reading, without(field, removal).read(slice(None))[0][field.valid]

    assert bits(*removed(part)) == bits(*removed(spoiled(part, junk)))
