"""`rsca export`, and the model folder that it writes."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from rsca_torch import RSCA, InputError, Spectra, fit_ppca
from rsca_torch.cli.main import main
from rsca_torch.export.hub import HubRSCA
from rsca_torch.survey.described.arrays import store_of

GOLDEN = Path(__file__).parents[1] / "export" / "golden"
MODEL = f"model={GOLDEN / 'rsca.safetensors'}"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fitted(here):
    """A store, and a model that says it was fitted on it."""
    flux = 1 + 0.1 * np.random.default_rng(0).normal(size=(12, 5))
    stars = {"id": [f"s{n}" for n in range(12)], "group": ["NGC 1", "NGC 1"] + [""] * 10}
    spectra = Spectra(flux, None, np.full(flux.shape, 0.05), 15100 + np.arange(5), stars)
    store = store_of(spectra, here / "store")
    ppca = fit_ppca(spectra, n_components=1)
    one = torch.ones(1).double()
    RSCA(ppca, one[:, None], 0 * one, one, spectra.wavelength, None, ["NGC 1"], [store.origin]).save("rsca.safetensors")
    return store


def test_numpy(here, capsys, caplog):
    caplog.set_level("INFO")
    assert main(["export", MODEL, "to=numpy", "out=new/rsca.npz"]) == 0
    assert sorted(path.name for path in (here / "new").iterdir()) == ["rsca.npz", "rsca.npz.sha256"]
    assert "RSCA of 3 features and 14 bins in new/rsca.npz, its checksum in rsca.npz.sha256" in caplog.text
    assert main(["export", MODEL, "to=numpy", "out=new/rsca.npz"]) == 2
    assert "holds another run" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["to=tflite"], "to=tflite: onnx, torch, numpy, hub expected"),
        (["to=numpy", "dtype=float32"], "dtype: no effect with to=numpy; leave it out"),
        (["to=onnx", "licence=mit", "run=x"], "run, licence: no effect with to=onnx; leave it out"),
        (["to=torch", "dtype=int8"], "dtype=int8: float64 or float32 expected"),
        (["to=torch", "inputs=[valid]"], "inputs: flux and maybe valid and sigma expected, got valid"),
        (["to=hub", "run=nowhere"], "no finished run in nowhere"),
        (["to=hub", "store=nowhere"], "nowhere"),
    ],
    ids=["format", "numpy", "onnx", "dtype", "inputs", "run", "store"],
)
def test_what_cannot_be_meant(options, said, capsys):
    assert main(["export", MODEL, *options, "out=out"]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert said in shown
    assert not Path("out").exists()


def test_a_package_that_is_not_there(here, capsys, monkeypatch):
    def lacking(name, *args):
        if name == "rsca_torch.export.onnx_file":
            raise ModuleNotFoundError("no", name="onnxscript")
        return found(name, *args)

    found = importlib.import_module
    monkeypatch.setattr("rsca_torch.cli.export.importlib.import_module", lacking)
    assert main(["export", MODEL, "to=onnx", "out=out"]) == 2
    assert "to=onnx needs onnxscript: pip install 'rsca_torch[export]'" in capsys.readouterr().err
    assert not (here / "out").exists()


def results(of, **others):
    """results.json as `rsca compare` writes it, as far as it is read."""
    one = {"representation": "spectra", "learner": "RSCA|", "doppelganger_rate": 0.0123, "interval": [0.01, 0.02]}
    content = {"schema": 1, "store": {"checksum": of.checksum}, "results": [{**one, "pairs": 77}], **others}
    Path("run").mkdir(exist_ok=True)
    Path("run/results.json").write_text(json.dumps(content))


def test_a_hub_folder_tells_what_is_known(fitted, capsys):
    results(fitted)
    options = ["store=store", "run=run", "licence=cc-by-4.0"]
    assert main(["export", "model=rsca.safetensors", "to=hub", "out=hub", *options]) == 0
    card = Path("hub/README.md").read_text()
    assert "license: cc-by-4.0" in card
    assert f"checksum of the store: `{fitted.checksum}`" in card
    assert all(f"| {one['cut']} | {one['removed']} | {one['kept']} |" in card for one in fitted.selection)
    assert "1: NGC 1" in card
    assert "| spectra | RSCA\\| | 1.23 % | 1 % to 2 % | 77 |" in card
    assert "not known" not in card
    assert main(["export", "model=rsca.safetensors", "to=hub", "out=bare"]) == 0
    assert Path("bare/README.md").read_text().count("not known") == 3
    assert "license: unknown" in Path("bare/README.md").read_text()
    capsys.readouterr()


def test_cuts_and_rates_of_other_data_are_refused(fitted, capsys):
    results(fitted, store={"checksum": "0" * 64})
    assert main(["export", "model=rsca.safetensors", "to=hub", "out=hub", "run=run"]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert f"run=run is of the store {'0' * 16}, the model was fitted on {fitted.checksum[:16]}: give that one" in shown
    results(fitted, schema=9)
    assert main(["export", "model=rsca.safetensors", "to=hub", "out=hub", "run=run"]) == 2
    assert "results of schema 9" in " ".join(capsys.readouterr().err.split())
    assert main(["export", MODEL, "to=hub", "out=hub", "store=store"]) == 2
    assert "store=store is of the store" in " ".join(capsys.readouterr().err.split())


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        return Path(shutil.copytree(GOLDEN / "hub", tmp_path / "hub"))

    def test_the_mixin_reads_and_writes_it(self, folder, tmp_path, monkeypatch):
        monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
        model = HubRSCA.from_pretrained(str(folder))
        flux = np.load(GOLDEN / "expected.npz")
        np.testing.assert_allclose(model(flux["flux"], flux["valid"], flux["sigma"]), flux["weighed"], atol=1e-9)
        model.save_pretrained(tmp_path / "copy")
        assert {path.name for path in (tmp_path / "copy").iterdir()} == {path.name for path in folder.iterdir()}
        assert repr(RSCA.load(tmp_path / "copy")) == repr(RSCA.load(folder))

    @pytest.mark.parametrize("name", ["model.safetensors", "config.json", "SHA256SUMS"])
    def test_a_missing_file(self, folder, name):
        (folder / name).unlink()
        with pytest.raises(InputError, match=f"hub is no whole model folder: {name} is not in it"):
            RSCA.load(folder)

    @pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
    @pytest.mark.parametrize("how", ["cut", "flipped"])
    def test_an_altered_file(self, folder, name, how):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 4
        (folder / name).write_bytes(content if how == "flipped" else content[:-10])
        for load in (RSCA.load, HubRSCA.from_pretrained):
            with pytest.raises(InputError, match=f"hub is damaged: {name} is not what SHA256SUMS says"):
                load(folder)

    def test_an_edited_card_is_no_damage(self, folder):
        (folder / "README.md").write_text("Ours.")
        assert len(RSCA.load(folder).wavelength) == 14

    def test_a_newer_folder(self, folder):
        told = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(told | {"schema": 2}))
        lines = [
            f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}"
            for name in ("model.safetensors", "config.json")
        ]
        (folder / "SHA256SUMS").write_text("\n".join(lines))
        with pytest.raises(InputError, match="no model folder of schema 1, but 2, of a newer rsca_torch: update"):
            RSCA.load(folder)
