"""What a model card says, word by word; the command's part is in tests/cli/test_export.py."""

from __future__ import annotations

import json
import math

import pytest
import torch
from write_golden import model

from rsca_torch import RSCA, InputError, MaskedPPCA
from rsca_torch.export import hub_folder
from rsca_torch.export.model_card import model_card
from rsca_torch.export.program import as_json, inputs_of, told_of

RATE = {"representation": "spectra", "learner": "rsca", "interval": [0.001, 0.02], "pairs": 12}


def test_what_is_known_of_a_model():
    card = model_card(model(), licence="cc-by-4.0").splitlines()
    assert "license: cc-by-4.0" in card
    assert (
        "3 features of 14 bins from 15100.00 to 15200.00 Angstrom in vacuum; 2 of them tell siblings apart. Flux is "
        "continuum-normalised, at rest." in card
    )
    assert f"- apogee, release dr17, simulated; checksum of the store: `{'0123456789abcdef' * 4}`" in card
    assert "2: A, B" in card


def test_rates_are_per_cent_and_unknown_where_there_is_none():
    rates = [{**RATE, "doppelganger_rate": 0.00345}, {**RATE, "doppelganger_rate": math.nan}]
    rates += [{**RATE, "doppelganger_rate": None, "interval": [None, math.inf]}]
    rows = [line for line in model_card(model(), rates=rates).splitlines() if line.startswith("| spectra")]
    assert rows == [
        "| spectra | rsca | 0.345 % | 0.1 % to 2 % | 12 |",
        "| spectra | rsca | not known | 0.1 % to 2 % | 12 |",
        "| spectra | rsca | not known | not known to not known | 12 |",
    ]


def test_names_cannot_be_markdown_nor_html():
    rsca = model()
    rsca.clusters = ("<script>", "M 67\n\x1b[31m", "a|b*c_d`e#[f]&")
    card = model_card(rsca, cuts=[{"cut": "x|y", "removed": 1, "kept": 2}])
    assert r"3: &#60;script&#62;, M 67  \[31m, a\|b\*c\_d\`e\#\[f\]&#38;" in card
    assert r"| x\|y | 1 | 2 |" in card
    assert "\x1b" not in card


def test_spectra_in_memory_have_no_store():
    rsca = model()
    rsca.sources = ({},)
    assert told_of(rsca)["fitted_on"] == [{"store": None}]
    assert "- spectra in memory, of which nothing is known" in model_card(rsca)


def test_what_an_export_is_given_and_tells():
    """Errors where they matter, and JSON that knows no infinity."""
    rsca = model(removing=False)
    assert inputs_of(rsca, None) == ("flux", "valid", "sigma")
    ppca = MaskedPPCA(rsca.ppca.loadings, rsca.ppca.mean, rsca.ppca.bin_variance, 1e-3)
    isotropic = RSCA(ppca, rsca.rotation, rsca.centre, rsca.sigma_r, rsca.wavelength)
    assert inputs_of(isotropic, None) == ("flux", "valid")
    assert told_of(rsca)["sigma_r"] == [0.2, 0.7, None]
    assert json.loads(as_json(told_of(rsca))) == told_of(rsca)


def test_errors_matter_to_what_is_removed_too():
    """Step 1 without them, and a removal that reads spectra with them."""
    measured = model()
    ppca = MaskedPPCA(measured.ppca.loadings, measured.ppca.mean, measured.ppca.bin_variance, 1e-3)
    steps = measured.rotation, measured.centre, measured.sigma_r, measured.wavelength
    assert [RSCA(ppca, *steps, removal).uses_sigma for removal in (None, measured.removal)] == [False, True]


def test_another_layer_has_no_hub_folder(tmp_path):
    with pytest.raises(InputError, match="a Hub folder holds an RSCA, not Linear: export it to onnx or torch"):
        hub_folder.write(torch.nn.Linear(1, 1), tmp_path / "hub")
    assert not list(tmp_path.iterdir())
