"""The one assembly: what is fitted in which order, what a choice of components honours, `rsca fit` in Python."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import ClassVar

import hydra
import numpy as np
import pytest
import torch

from rsca_torch import RSCA, InputError
from rsca_torch.cli.main import main
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.learners import NCA, Recipe
from rsca_torch.learners.registry import CONFIG
from rsca_torch.spectra.view import View
from rsca_torch.survey.simulated.store import simulated_store

pytestmark = pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("survey")


def assembly_of(folder, *overrides, command="compare"):
    settings = [f"simulated={folder}", "simulation.n_field=150", "simulation.stars.clusters=8"]
    settings += ["compressor.tolerance=1e-2", "checkpoints=null"]
    with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = hydra.compose(command, [*settings, *overrides])
    return Assembly(config, simulated_store(config))


def test_a_simulated_survey_is_not_set_beside_what_was_counted_on_the_sky(folder):
    published = assembly_of(folder).store.manifest["survey"]["published"]
    assert {*published} == {"why"}
    assert published["why"]["star_bad"]


def test_each_smaller_fit_starts_from_the_larger_one(folder):
    assembly, asked = assembly_of(folder, "compressor.n_components=[2,4,3]"), []
    fit = type(assembly.compression).fit

    def recorded(self, field, members, n_components, start=None):
        asked.append((n_components, start))
        return fit(self, field, members, n_components, start)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(assembly.compression), "fit", recorded)
        on = assembly.spectra
    assert [(number, start and start.n_components) for number, start in asked] == [(4, None), (3, 4), (2, 3)]
    assert [ppca.n_components for ppca in on.ppcas] == [2, 4, 3]
    assert assembly.compressed(3) is assembly.candidates[3]


def test_a_fit_is_the_same_whatever_was_fitted_before(folder):
    """One number is configured: smaller fits start from it, larger ones from the next of their own list."""
    made = {}
    for asked in ([2, 4, 3, 6, 5], [6, 5, 4, 3, 2], [3, 5, 6, 2, 4]):
        assembly = assembly_of(folder, "compressor.n_components=4")
        for number in asked:
            for among in ((), (2, 5, 6)):
                latents = assembly.compressed(number, among).members
                torch.testing.assert_close(latents, made.setdefault((number, among), latents), rtol=0, atol=0)
    for number in (2, 3, 4):
        assert torch.equal(made[number, ()], made[number, (2, 5, 6)])
    assert not torch.equal(made[5, ()], made[5, (2, 5, 6)])


class Drawing(NCA):
    """Remembers what it was trained on."""

    seen: ClassVar[list[torch.Tensor]] = []

    def loss(self, z, clusters):
        self.seen.append(z.detach().clone())
        return super().loss(z, clusters)


def test_a_choice_of_components_honours_the_noise_that_a_learner_draws(folder, tmp_path):
    """With `auto` as with one number: the latents of two steps of one training differ, as they are drawn anew."""
    for number in ("4", "auto"):
        assembly = assembly_of(folder, f"compressor.n_components={number}", "compressor.candidates=[4]", "logger=null")
        recipe = Recipe(epochs=2, inner=0, noise=True)
        assembly.make_learner = lambda recipe=recipe: Drawing(recipe=recipe)
        assembly.config.baselines, assembly.config.abundances = {}, {}
        Drawing.seen.clear()
        result = assembly.compare(tmp_path).results[0]
        assert (result.nested is not None) == (number == "auto")
        assert len(Drawing.seen) >= 2 * len(result.loco.cluster_rates)
        assert not torch.equal(Drawing.seen[0], Drawing.seen[1])


def test_a_choice_of_components_keeps_its_folds(folder, tmp_path):
    options = ("compressor.n_components=auto", "compressor.candidates=[2,3]", f"checkpoints={tmp_path}", "learner=nca")
    options += ("learner.recipe.epochs=1", "learner.recipe.inner=0", "abundances={}", "baselines={}")

    def judged():
        assembly = assembly_of(folder, *options[:2], *options[3:6], options[2], "logger=null")
        assembly.config.baselines, assembly.config.abundances = {}, {}
        return assembly, assembly.compare(tmp_path / "logs").results[0]

    assembly, first = judged()
    kept = sorted(tmp_path.glob("folds/*/*.safetensors"))
    clusters = len(first.loco.cluster_rates)
    assert len(kept) >= 2 * clusters * (clusters + 1) // 2
    times = [file.stat().st_mtime_ns for file in kept]
    _, again = judged()
    np.testing.assert_equal(again.loco.cluster_rates, first.loco.cluster_rates)
    assert [file.stat().st_mtime_ns for file in kept] == times
    assembly.training.forget()
    assert not list(tmp_path.glob("folds/*/*.safetensors"))


def test_rsca_in_python_is_what_rsca_fit_saves(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assembly = assembly_of(folder, command="fit", *["out=x", "compressor.tolerance=1e-4"])  # noqa: B026
    store = assembly.store
    options = [f"store={store.path}", "compressor.n_components=6", "checkpoints=null"]
    assert main(["fit", *options, "out=rsca.safetensors"]) == 0
    saved = RSCA.load("rsca.safetensors")
    for field, members in (
        (store.select(~store.is_member), store.select(store.is_member)),
        (store.spectra(~store.is_member), store.spectra(store.is_member)),
    ):
        model = RSCA.fit(field, members, n_components=6, repeats=store.repeats)
        torch.testing.assert_close(model.weight, saved.weight, rtol=1e-9, atol=1e-12)
        assert model.clusters == saved.clusters
        assert len(model.clusters) == store.manifest["counts"]["clusters"]
        assert repr(model).splitlines()[:2] == repr(saved).splitlines()[:2]
        assert model.version == saved.version == version("rsca_torch")
        assert saved.sources == (store.origin,)
        assert model.sources == ((store.origin,) if isinstance(field, View) else ({},))
        torch.testing.assert_close(model.embed(store.select()), saved.embed(store.spectra()), rtol=1e-5, atol=1e-6)


def test_fit_of_auto_is_the_best_of_the_curve(folder):
    assembly = assembly_of(
        folder, "compressor.n_components=auto", "compressor.candidates=[2,5]", "out=x", command="fit"
    )
    rates = {number: assembly.judged(on).rate for number, on in assembly.candidates.items()}
    assert len(assembly.layer().sigma_r) == min(rates, key=lambda number: (rates[number], number))


def test_what_cannot_become_one_layer_is_refused(folder):
    with pytest.raises(InputError, match=r"one n_components or auto expected, got \[2, 3\]"):
        assembly_of(folder, "compressor.n_components=[2,3]", "out=x", command="fit").layer()
    with pytest.raises(InputError, match="fit makes an RSCA model: learner=rsca expected, got"):
        assembly_of(folder, "learner=raw", "out=x", command="fit").layer()


def test_columns_are_found_by_role_or_name(folder):
    assembly = assembly_of(folder)
    stars = assembly.field.stars
    np.testing.assert_array_equal(assembly.column("velocity"), stars["VHELIO_AVG"])
    np.testing.assert_array_equal(assembly.column("VHELIO_AVG", members=True), assembly.members.stars["VHELIO_AVG"])
    with pytest.raises(InputError, match="the star table has no column NONE"):
        assembly.column("NONE")


def test_a_figure_of_merit_costs_one_file_and_one_yaml(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nearness.py").write_text(
        "def nearest(siblings, strangers):\n    return float(siblings.min() / strangers.min())\n"
    )
    (tmp_path / "conf" / "figure_of_merit").mkdir(parents=True)
    (tmp_path / "conf" / "figure_of_merit" / "nearest.yaml").write_text("_target_: nearness.nearest\n_partial_: true\n")
    monkeypatch.syspath_prepend(tmp_path)
    store = f"store={assembly_of(folder).store.path}"
    place, asked = f"hydra.searchpath=[file://{tmp_path}/conf]", "+figure_of_merit@figures_of_merit.nearest=nearest"
    quick = ["compressor.n_components=3", "compressor.tolerance=1e-2", "checkpoints=null", "figures=false"]
    assert main(["compare", store, "out=out", *quick, place, asked]) == 0
    result = json.loads((tmp_path / "out" / "results.json").read_text())["results"][0]
    judged = {entry["cluster"]: entry["pairs"] for entry in result["clusters"]}
    for merit in ("overlap", "nearest"):
        told = result["figures_of_merit"][merit]
        assert list(told["clusters"]) == list(judged)
        known = {cluster: value for cluster, value in told["clusters"].items() if value is not None}
        assert set(known) == {cluster for cluster, pairs in judged.items() if pairs}
        sizes = {entry["cluster"]: entry["members"] for entry in result["clusters"]}
        mean = sum(value * sizes[cluster] for cluster, value in known.items()) / sum(
            sizes[cluster] for cluster in known
        )
        assert told["value"] == pytest.approx(mean)
        low, high = told["interval"]
        assert low <= told["value"] <= high


def test_abundances_that_the_table_lacks_leave_the_rest(folder, tmp_path, caplog):
    assembly = assembly_of(folder, "compressor.n_components=3", "abundances.abundance_subset.elements=[Fe,Uue]")
    assembly.config.baselines = {}
    judged = {result.representation.name for result in assembly.compare(tmp_path).results}
    assert judged == {"spectra", "abundances"}
    assert "abundance subset left out: " in caplog.text
    assert "Uue" in caplog.text
