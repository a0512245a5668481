"""The three questions: shares that add up, and what cannot be answered is said in a sentence."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from rsca_torch import RSCA, InputError, Spectra
from rsca_torch.cli.main import main
from rsca_torch.explanation.explain import Question
from rsca_torch.explanation.naming import Names
from rsca_torch.removal import Removal
from rsca_torch.survey.described.arrays import store_of
from rsca_torch.survey.line_list import LineList

LINES = LineList(np.array([15002.0, 15008.0]), np.array(["Mg", "Fe"]), np.array(["me", "you"]))
WINDOWS = {"Mg": ((15001.0, 15003.0),), "Fe": ((15002.0, 15009.0),)}


@pytest.fixture(scope="module")
def question(asked):
    return Question(asked.model, asked.store, Names(asked.model.wavelength.numpy(), LINES, WINDOWS, 0.8))


def ids(asked):
    return [str(each) for each in asked.store.field.stars.id]


@pytest.mark.parametrize("which", ["feature", "pair", "star"])
def test_all_shares_add_up_to_one(question, asked, which):
    first, second = ids(asked)[:2]
    told = {"feature": [1], "pair": [first, second], "star": [first]}[which]
    found = getattr(question, which)(*told)
    bins = found.bins
    if which == "star":
        bins = bins[bins["FEATURE"] == bins["FEATURE"][0]]
        assert len(found.bins) == 3 * len(bins)
    for table in (bins, found.lines, found.windows):
        assert float(np.sum(table["SHARE"])) == pytest.approx(1, abs=1e-9)
    if which == "pair":
        assert float(np.sum(found.further["SHARE"])) == pytest.approx(1, abs=1e-9)


def test_a_feature_goes_with_what_it_is_made_of(question):
    found = question.feature(1)
    assert found.further["COLUMN"][0] in ("first", "some")
    assert abs(found.further["SPEARMAN"][0]) > 0.9
    assert any("1 columns have one value for all: same" in note for note in found.notes)


def test_a_pair_s_distance_is_that_of_the_features(question, asked):
    first, second = ids(asked)[:2]
    found = question.pair(first, second)
    y = asked.model.embed(asked.store.field.take([0, 1])).double()
    distance = float((y[0] - y[1]).norm())
    assert f"distance {distance:.3f}" in found.notes[0]
    _, valid, _ = asked.store.field.read(np.array([0, 1]))
    assert found.bins["VALID"].tolist() == valid.sum(0).tolist()
    alone = float(np.sum(found.bins["SHARE"][found.bins["VALID"] == 1]))
    assert f"{int((valid.sum(0) == 1).sum())} in one alone (their share: {alone:.3f})" in found.notes[2]


def test_a_star_stands_out_in_units_of_the_field(question, asked):
    names = ids(asked)
    found = question.star(names[5])
    features = asked.model.embed(asked.store.field).double()
    units = (features[5] - features.mean(0)) / features.std(0)
    telling = asked.model.sigma_r.isfinite()
    expected = torch.where(telling, units, 0).abs()
    assert found.further["FEATURE"][0] == int(expected.argmax()) + 1
    np.testing.assert_allclose(np.abs(found.further["UNITS"]), expected.sort(descending=True).values, rtol=1e-4)
    assert "Mg 15002.0" in found.further["LINES"][0]
    assert found.further["AS_FAR"][0] == pytest.approx(
        float(
            ((features - features.mean(0)).abs() >= (features[5] - features.mean(0)).abs())
            .double()
            .mean(0)[int(expected.argmax())]
        ),
        abs=0.02,
    )


@pytest.mark.parametrize("number", [0, -1, 5, 1.5, True, "2"], ids=repr)
def test_a_feature_that_is_not_there(question, number):
    with pytest.raises(InputError, match="the model has features 1 to 4, 1 the most important"):
        question.feature(number)


def test_a_feature_that_tells_nothing(asked):
    model = copy.deepcopy(asked.model)
    model.sigma_r[3] = torch.inf
    question = Question(model, asked.store, Names(model.wavelength.numpy(), LINES, {}, 0.8))
    with pytest.raises(InputError, match=r"feature=4: it tells nothing about siblings .*: 1 to 3 of 4 do"):
        question.feature(4)


def test_one_star_is_no_pair(question, asked):
    star = ids(asked)[0]
    with pytest.raises(InputError, match="two different stars expected"):
        question.pair(star, star)


def test_a_star_without_a_valid_bin_is_refused_and_left_out_of_the_field(asked):
    """Of a model of the first twenty bins, as one of an element's windows has few."""
    store = asked.store
    few = store.wavelength[:20]
    model = RSCA.fit(store.field.on(few), store.members.on(few), n_components=2, clip=None, floor=None)
    question = Question(model, store, Names(few, LINES, {}, 0.8))
    assert "1 field stars without a valid bin are left out" in question.notes
    _, valid, _ = store.field.on(few).read(slice(None))
    blind = ids(asked)[int(np.flatnonzero(~valid.any(1).numpy())[0])]
    for answer in (lambda: question.star(blind), lambda: question.pair(blind, ids(asked)[0])):
        with pytest.raises(InputError, match=f"star '{blind}' has no valid bin among the model's 20"):
            answer()


def test_another_grid_says_both_and_a_part_of_one_is_told(asked, tmp_path):
    spectra = asked.spectra
    moved = Spectra(spectra.flux, spectra.valid, spectra.sigma, spectra.wavelength + 0.13, spectra.stars)
    names = Names(asked.model.wavelength.numpy(), LINES, {}, 0.8)
    with pytest.raises(InputError, match=r"40 bins from 15000.13 .* 40 bins from 15000 to 15015.6 A.*resample"):
        Question(asked.model, store_of(moved, tmp_path / "moved"), names)
    part = store_of(spectra.on(spectra.wavelength[:30]), tmp_path / "part")
    found = Question(asked.model, part, names).pair(*ids(asked)[:2])
    assert "10 of the model's 40 bins are not in the store: as censored" in found.notes
    assert (found.bins["SHARE"][30:] == 0).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra")
def test_all_commands_say_the_same_of_another_grid(asked, tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.chdir(tmp_path)
    spectra, star = asked.spectra, ids(asked)[0]
    moved = Spectra(spectra.flux, spectra.valid, spectra.sigma, spectra.wavelength + 0.13, spectra.stars)
    for name, of in (("moved", moved), ("part", spectra.on(spectra.wavelength[:30]))):
        store_of(of, tmp_path / name)
        given = [f"model={asked.file}", f"store={name}"]
        for command, *options in (["embed", f"out={name}.fits"], ["siblings", f"star={star}", "pairs=all", "n=3"]):
            caplog.clear()
            assert main([command, *given, *options]) == (2 if name == "moved" else 0)
            if name == "moved":
                said = " ".join(capsys.readouterr().err.split())
                assert "40 bins from 15000.13 to 15015.73 Angstrom, wanted are 40 bins from 15000 to 15015.6 A" in said
                assert "grid: {resample: {start: 15000, step: 0.4, n: 40, log: false}}" in said
            else:
                assert "warning: 10 of the model's 40 bins are not in the store: as censored" in caplog.text
    assert main(["explain", f"model={asked.file}", "store=moved", f"star={star}", "out=moved.png"]) == 2
    assert "grid: {resample: {start: 15000," in " ".join(capsys.readouterr().err.split())


def test_a_store_without_a_field_is_refused(asked, tmp_path):
    of = asked.spectra.stars.group != ""
    of[0] = True
    few = store_of(asked.spectra.take(of), tmp_path / "few")
    with pytest.raises(InputError, match=r"1 of 1 field stars of the store .* two are needed"):
        Question(asked.model, few, Names(asked.model.wavelength.numpy(), LINES, {}, 0.8))


def test_some_field_stars_stand_for_all(asked):
    names = Names(asked.model.wavelength.numpy(), LINES, {}, 0.8)
    question = Question(asked.model, asked.store, names, most=30)
    assert len(question.field) == 30
    assert question.notes == ["30 of 90 field stars, evenly spaced, stand for the field"]


def test_what_the_model_removes_is_removed_here_too(asked):
    ppca = asked.model.ppca
    reading = torch.eye(4, dtype=torch.float64)[:1]
    removal = Removal(ppca, ppca.loadings[:, :1], reading, torch.zeros(4).double(), torch.ones(1).double())
    steps = asked.model.rotation, asked.model.centre, asked.model.sigma_r, asked.model.wavelength
    model = RSCA(ppca, *steps, removal)
    found = Question(model, asked.store, Names(model.wavelength.numpy(), LINES, {}, 0.8)).pair(*ids(asked)[:2])
    y = model.embed(asked.store.field.take([0, 1])).double()
    assert f"distance {float((y[0] - y[1]).norm()):.3f}" in found.notes[0]
    assert float(np.sum(found.bins["SHARE"])) == pytest.approx(1, abs=1e-9)
