"""RSCA on the bins inside an element's windows: what is kept, what is refused, and the experiment."""

from __future__ import annotations

import runpy
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from rsca_torch import RSCA, InputError, NumericalWarning
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.finished_run import settings_of
from rsca_torch.learners.registry import CONFIG
from rsca_torch.survey.element_windows import inside, windows_of

SCRIPT = Path(__file__).parents[2] / "experiments" / "elements" / "planted.py"
RANGES = "[[15002.0,15005.1]]"


def assembly(asked, *options):
    with initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = compose("compare", ["checkpoints=null", "pairs=all", "compressor.clip=null", *options])
    return Assembly(config, asked.store)


def test_only_bins_inside_are_used(asked):
    of = assembly(asked, f"compressor.windows={RANGES}", "compressor.n_components=2")
    kept = asked.store.wavelength[inside(asked.store.wavelength, ((15002.0, 15005.1),))]
    assert len(kept) == 8
    for part in (of.field, of.members, of.groups, of.repeats):
        np.testing.assert_array_equal(part.wavelength, kept)
    with warnings.catch_warnings(action="ignore", category=NumericalWarning):
        layer = of.layer()
        alone = RSCA.fit(asked.store.field.on(kept), asked.store.members.on(kept), n_components=2, clip=None)
    np.testing.assert_array_equal(layer.wavelength, kept)
    np.testing.assert_allclose(layer.weight, alone.weight, rtol=1e-3, atol=1e-3)
    assert layer.embed(asked.store.field).shape == (90, 2)


def test_without_windows_all_bins_are_used(asked):
    assert assembly(asked, "compressor.n_components=2").field.n_bins == 40


def test_windows_are_part_of_a_fit_s_name_and_of_a_run_s_settings(asked):
    plain, some, others = (
        assembly(asked, "compressor.n_components=2", *given)
        for given in ([], [f"compressor.windows={RANGES}"], ["compressor.windows=[[15000,15009]]"])
    )
    names = {of.compression.checkpoint_name(of.field, 2, None) for of in (plain, some, others)}
    assert len(names) == 3
    assert "windows" not in settings_of(plain.config)["compressor"]
    assert settings_of(some.config)["compressor"]["windows"] == [[15002.0, 15005.1]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["compressor.windows=Mg"], "0 of 40 bins of the store are inside, two are needed; its bins are from 15000.00"),
        (["compressor.windows=Xx"], "no such element"),
        (["compressor.windows={a: 1}"], "expected an element's name"),
    ],
    ids=["outside", "element", "mapping"],
)
def test_windows_that_leave_nothing(asked, options, said):
    with pytest.raises(InputError, match=said):
        assembly(asked, *options)


def test_more_components_than_bins_carry_are_refused(asked):
    given = f"compressor.windows={RANGES}"
    with pytest.raises(InputError, match=r"n_components=8: spectra of 8 bins carry at most 7 components; an element"):
        _ = assembly(asked, given, "compressor.n_components=8").numbers
    assert assembly(asked, given, "compressor.n_components=7").numbers == [7]
    auto = assembly(asked, given, "compressor.n_components=auto", "compressor.candidates=[2,7,10]")
    with pytest.warns(NumericalWarning, match=r"8 bins carry at most 7 components: left out are \[10\]"):
        assert auto.numbers == [2, 7]


def test_an_element_is_in_its_windows():
    assert len(windows_of("Al", CONFIG / "element_windows")) == 2


def test_the_experiment_runs(tmp_path, monkeypatch, capsys):
    """On a small survey: aluminium's distances follow aluminium most, of all that is planted."""
    options = ["--seeds", "1", "--kinds", "giants", "--elements", "Al", "--components", "3", "--twins", "100"]
    folder = ["--folder", str(tmp_path), "--json", str(tmp_path / "all.json")]
    monkeypatch.setattr(sys, "argv", ["planted.py", *options, *folder, "simulation.n_field=150"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("| Al, K = 3"))
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[3] == "1 of 1"
    assert float(cells[1]) > 0.5 > 2 * abs(float(cells[2].split()[0])) - 0.2
    assert (tmp_path / "all.json").is_file()
