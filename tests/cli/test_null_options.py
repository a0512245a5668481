"""Options set to null: which may be, as whoever takes them says; of the others one sentence."""

from __future__ import annotations

import pytest

from rsca_torch.cli import main as module

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra")

REFUSED = {
    "compressor.tolerance=null": "compressor.tolerance=null: a value like 0.0001 expected",
    "compressor.max_iterations=null": "compressor.max_iterations=null: a value like 500 expected",
    "compressor.n_components=null": "compressor.n_components=null: a value like 60 expected",
    "compressor.products=null": "compressor.products=null: a value like float32 expected",
    "learner=nca learner.recipe.epochs=null": "learner.recipe.epochs=null: a value like",
    "learner=nca learner.penalty=null": "learner.penalty=null: a value like",
    "simulation.n_field=null": "simulation.n_field=null: a value like",
    "survey.most_missing=null": "survey.most_missing=null: a value like 0.5 expected",
    "survey.name=null": "survey.name=null: a value like apogee_dr16 expected",
    "seed=null": "seed=null: a value like 0 expected",
    "processes=null": "processes=null: a value like 1 expected",
    "figures=null": "figures=null: a value like True expected",
}
TAKEN = [
    "compressor.clip=null",
    "compressor.remove=null",
    "pairs.max_velocity=null",
    "learner.top=null",
    "checkpoints=null",
    "logger=null",
    "survey.members=null",
    "survey.roles.extinction=null",
    "survey.membership.above=null",
    "learner=nca learner.recipe.inner=null",
    "trainer.precision=null",
]


@pytest.fixture
def ran(monkeypatch):
    """Of `rsca compare`, what its options are found to be."""
    configs = []
    monkeypatch.setattr(module, "_function", lambda _: configs.append)
    return configs


@pytest.mark.parametrize("options", REFUSED)
def test_what_needs_a_value_is_refused(options, ran, capfd):
    assert module.main(["compare", *options.split()]) == 2
    assert f"error: {REFUSED[options]}" in capfd.readouterr().err
    assert ran == []


@pytest.mark.parametrize("options", TAKEN)
def test_what_can_do_without_is_taken(options, ran):
    options = [f"+{each}" if each.startswith("trainer.") else each for each in options.split()]
    assert module.main(["compare", *options]) == 0
    assert len(ran) == 1
