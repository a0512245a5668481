"""Exports against the layer, in a process that cannot import rsca_torch; and files that were kept."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pytest
import torch
import write_golden
from write_golden import GOLDEN

from rsca_torch import RSCA, InputError, MaskedPPCA, Removal
from rsca_torch.export import numpy_file, onnx_file, torch_file
from rsca_torch.ppca import e_step, graph

DOCS = Path(__file__).parents[2] / "docs" / "export.md"
SIZES = 1, 2, 17
WITHOUT = "import sys\nsys.modules['rsca_torch'] = None\n"
RUN_BY = {
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession(path)
program = lambda **given: session.run(None, given)[0]
""",
    "pt2": """
import torch
module = torch.export.load(path).module()
program = lambda **given: module(**{name: torch.from_numpy(array) for name, array in given.items()}).numpy()
""",
    "npz": "program = lambda **given: features(path, **given)\n",
}
JUDGE = """
import sys
import numpy as np
out, of, *answers = sys.argv[2:]
given = np.load(of)
made = {}
for names in answers:
    for size in (1, 2, 17):
        pairs = [name.split(":") for name in names.split()]
        made[f"{names} {size}"] = program(**{pair[0]: given[pair[-1]][:size].copy() for pair in pairs})
np.savez(out, **made)
"""


def reader():
    """The reader as docs/export.md prints it."""
    text = DOCS.read_text(encoding="utf-8")
    found = re.search(r"<!-- reader -->\n```python\n(.*?)```\n<!-- end -->", text, re.DOTALL)
    assert found
    return found[1]


def outside(path, spectra, tmp_path, *answers):
    """What a program makes of the first stars, in a fresh process without rsca_torch.

    Args:
        path: of the program.
        spectra: .npz of arrays.
        tmp_path: for the answers.
        answers: what the program is given for each, as "flux:holed valid".

    Returns:
        for each answer, number of stars -> features.
    """
    kind = path.suffix[1:]
    code = WITHOUT + f"path = sys.argv[1]\n{reader() if kind == 'npz' else ''}{RUN_BY[kind]}{JUDGE}"
    code += "assert not [name for name in sys.modules if name.startswith('rsca_torch.')]\n"
    out = tmp_path / "made.npz"
    command = [sys.executable, "-I", "-W", "error", "-c", code, str(path), str(out), str(spectra), *answers]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = np.load(out)
    return [{size: made[f"{names} {size}"] for size in SIZES} for names in answers]


def agree(made, expected):
    for size in SIZES:
        assert made[size].shape == expected[:size].shape
        np.testing.assert_allclose(made[size], expected[:size], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["onnx", "pt2", "npz"])
def test_a_file_that_was_kept_gives_the_same_numbers(kind, tmp_path):
    kept = np.load(GOLDEN / "expected.npz")
    (made,) = outside(GOLDEN / f"rsca.{kind}", GOLDEN / "expected.npz", tmp_path, "flux valid sigma")
    agree(made, kept["with nothing removed" if kind == "pt2" else "weighed"])  # the former's graph is half as large


@pytest.mark.parametrize("path", ["rsca.safetensors", "hub"])
def test_a_model_that_was_kept_gives_the_same_numbers(path, tolerance):
    kept, rsca = np.load(GOLDEN / "expected.npz"), RSCA.load(GOLDEN / path)
    made = write_golden.expected(rsca)
    assert made.keys() == set(kept.files)
    for name, array in made.items():
        np.testing.assert_allclose(array, kept[name], **tolerance[torch.float64])
    assert repr(rsca) == repr(write_golden.model())


def test_the_printed_reader_reads_what_is_written_now(tmp_path):
    rsca = write_golden.model()
    numpy_file.write(rsca, tmp_path / "rsca.npz")
    arrays = write_golden.expected(rsca)
    arrays["weighed, holed"] = rsca(arrays["holed"], sigma=arrays["sigma"]).numpy()
    np.savez(tmp_path / "spectra.npz", **arrays)
    of = {"flux": "complete", "flux:holed": "censored", "flux valid": "masked", "flux:holed sigma": "weighed, holed"}
    for made, answer in zip(
        outside(tmp_path / "rsca.npz", tmp_path / "spectra.npz", tmp_path, *of), of.values(), strict=True
    ):
        agree(made, arrays[answer])


def test_the_reader_has_twenty_lines_and_a_few():
    lines = [line for line in reader().splitlines() if line.strip()]
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 120


def test_the_printed_resampling_brings_spectra_to_the_bins_of_an_export():
    """A line that is wider than the pixels of both grids; bins beyond the spectrum, and beside a bad pixel, are NaN."""
    found = re.search(r"<!-- resampling -->\n```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    space: dict[str, object] = {}
    exec(found[1], space)
    told = {"wavelength": (15000 * 10 ** (6e-6 * np.r_[0:40, 70:200])).tolist()}
    wavelength = np.arange(15001, 15050, 0.15)
    flux, sigma = (1 - 0.3 * np.exp(-(((at - 15025) / 3) ** 2) / 2) for at in (wavelength, np.full(len(wavelength), 0)))
    flux[200] = np.nan
    made, error = space["on_the_bins_of"](told, wavelength, flux, 0.01 * sigma)
    bins = np.array(told["wavelength"])
    inside = (bins > 15001.2) & (bins < 15049) & (np.abs(bins - wavelength[200]) > 0.2)
    expected = 1 - 0.3 * np.exp(-(((bins - 15025) / 3) ** 2) / 2)
    np.testing.assert_allclose(made[inside], expected[inside], atol=1e-3)
    assert np.isnan(made[bins < 15001]).all()
    assert np.isnan(made[np.abs(bins - wavelength[200]) < 0.1]).all()
    assert (error[inside] < 0.01).all()


def test_what_a_reader_cannot_refuse_is_nan():
    """A valid bin without a flux, or without a positive error; in an invalid bin neither matters."""
    space: dict[str, object] = {}
    exec(reader(), space)
    kept = np.load(GOLDEN / "expected.npz")
    flux, valid, sigma = (kept[name][:6].copy() for name in ("flux", "valid", "sigma"))
    free, sure = (int(np.flatnonzero(valid[0] == is_valid)[0]) for is_valid in (False, True))
    flux[0, free] = sigma[0, free] = np.nan
    flux[1, sure], sigma[2, sure], sigma[4, sure] = np.nan, 0, -sigma[4, sure]
    valid[[1, 2, 4], sure] = True
    made = space["features"](GOLDEN / "rsca.npz", flux, valid, sigma)
    assert np.isfinite(made).all(1).tolist() == [True, False, False, True, False, True]
    np.testing.assert_allclose(made[[0, 3, 5]], kept["weighed"][[0, 3, 5]], atol=1e-9)


@pytest.fixture
def quick(monkeypatch):
    """Of ten rounds of setting bins aside two, which are enough here: graphs are followed in less time."""
    for module in (e_step, graph):
        monkeypatch.setattr(module, "ROUNDS", 2)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("write", "kind", "inputs", "answers"),
    [
        (onnx_file.write, "onnx", None, {"flux valid sigma": "weighed"}),
        (torch_file.write, "pt2", ["flux"], {"flux": "complete", "flux:holed": "censored"}),
    ],
    ids=["onnx", "torch"],
)
def test_what_is_written_now(write, kind, inputs, answers, tmp_path):
    """In float32, as most would serve it."""
    rsca = write_golden.model(removing=kind == "onnx")  # the other graph is half as large
    path = tmp_path / f"rsca.{kind}"
    write(rsca, path, inputs, torch.float32)
    arrays = write_golden.expected(rsca)
    given = {name: array if array.dtype == bool else array.astype(np.float32) for name, array in arrays.items()}
    np.savez(tmp_path / "spectra.npz", **given)
    for made, answer in zip(outside(path, tmp_path / "spectra.npz", tmp_path, *answers), answers.values(), strict=True):
        assert made[1].dtype == np.float32
        agree(made, arrays[answer])
    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == Path(f"{path}.sha256").read_text().split()[0]
    assert str(Path.home().parent / "work").encode() not in content
    assert b"graph.py" not in content


def told(path):
    """What a file says of itself."""
    if path.suffix == ".onnx":
        import onnx

        return json.loads({entry.key: entry.value for entry in onnx.load(path).metadata_props}["rsca_torch"])
    if path.suffix == ".pt2":
        more = {torch_file.TOLD: ""}
        torch.export.load(path, extra_files=more)
        return json.loads(more[torch_file.TOLD])
    if path.is_dir():
        return json.loads((path / "config.json").read_text())
    return json.loads(str(np.load(path)["told"]))


@pytest.mark.parametrize("name", ["rsca.onnx", "rsca.pt2", "rsca.npz", "hub"])
def test_a_file_says_what_it_is(name):
    said, rsca = told(GOLDEN / name), write_golden.model()
    assert said["schema"] == 1
    assert said["wavelength_unit"] == "Angstrom, in vacuum"
    np.testing.assert_array_equal(said["wavelength"], rsca.wavelength)
    assert said["sigma_r"] == [0.2, 0.7, None]
    assert said["clusters"] == ["A", "B"]
    assert said["fitted_on"] == list(rsca.sources)


def test_an_altered_npz_is_refused_by_its_reader():
    """Each member of the archive has a checksum of its own, which Python looks at."""
    content = (GOLDEN / "rsca.npz").read_bytes()
    space: dict[str, object] = {}
    exec(reader(), space)
    flux = np.load(GOLDEN / "expected.npz")["flux"]
    altered = bytearray(content)
    altered[content.index(b"weight.npy") + 400] ^= 1  # among the numbers
    for changed in (bytes(altered), content[:-200]):
        with pytest.raises((BadZipFile, ValueError), match=r"CRC|zip|pickled"):
            space["features"](io.BytesIO(changed), flux)


def test_inputs_that_a_program_cannot_have():
    rsca = write_golden.model()
    for inputs in (["valid"], ["flux", "error"], []):
        with pytest.raises(InputError, match="flux and maybe valid and sigma expected"):
            torch_file.write(rsca, "nowhere", inputs)
    with pytest.raises(InputError, match="RSCA alone"):
        numpy_file.write(torch.nn.Linear(1, 1), "nowhere")


def test_onnx_solves_more_components_than_one_block_has(tmp_path):
    """Elimination goes block by block of 16; 20 components are two."""
    rng, n_components, n_bins = np.random.default_rng(8), 20, 30
    loadings = torch.from_numpy(rng.normal(size=(n_bins, n_components)) * 0.2)
    ppca = MaskedPPCA(loadings, torch.ones(n_bins).double(), torch.full((n_bins,), 1e-3).double(), 1e-3, [1.0, 2.0])
    eye, zeros = torch.eye(n_components).double(), torch.zeros(n_components).double()
    rsca = RSCA(ppca, eye, zeros, zeros + 0.5, torch.arange(n_bins).double())
    flux = torch.from_numpy(1 + rng.normal(size=(17, n_components)) @ loadings.numpy().T)
    valid = torch.from_numpy(rng.random((17, n_bins)) > 0.3)
    onnx_file.write(rsca, tmp_path / "rsca.onnx")
    np.savez(tmp_path / "given.npz", flux=flux.numpy(), valid=valid.numpy())
    (made,) = outside(tmp_path / "rsca.onnx", tmp_path / "given.npz", tmp_path, "flux valid")
    agree(made, rsca(flux, valid).numpy())


def test_errors_that_do_not_matter_are_refused(tmp_path):
    ppca = MaskedPPCA(torch.ones(4, 1).double(), torch.ones(4).double(), torch.ones(4).double(), 1.0, [1.0, 2.0])
    one = torch.ones(1).double()
    rsca = RSCA(ppca, one[:, None], one, one / 2, torch.arange(4).double())
    with pytest.raises(InputError, match="sigma"):
        torch_file.write(rsca, tmp_path / "rsca.pt2", inputs=["flux", "sigma"])
    assert not list(tmp_path.iterdir())


def test_a_state_without_a_removal_takes_away_the_one_that_is_there():
    plain, removing = (write_golden.model(removing=each) for each in (False, True))
    removing.load_state_dict(plain.state_dict())
    assert removing.removal is None
    flux, valid, sigma = write_golden.spectra()
    torch.testing.assert_close(removing(flux, valid, sigma), plain(flux, valid, sigma), equal_nan=True)


@pytest.mark.parametrize("kind", ["isotropic, nothing set aside", "measured, nothing set aside", "something removed"])
def test_the_printed_reader_reads_every_kind_of_model(kind, tmp_path):
    """What is removed is read by a step 1 of its own, with its own loadings and noise."""
    golden, rng = write_golden.model(), np.random.default_rng(2)
    own = golden.ppca
    clip, noise = (5.0, None) if kind == "something removed" else (None, 1e-3 if kind.startswith("iso") else None)
    scatter = None if noise else own.scatter
    ppca = MaskedPPCA(own.loadings, own.mean, own.bin_variance, noise, [1.0, 2.0], scatter=scatter, clip=clip)
    removal = None
    if kind == "something removed":
        loadings = torch.from_numpy(rng.normal(size=own.loadings.shape) / 4)
        other = MaskedPPCA(loadings, own.mean + 0.01, own.bin_variance * 3, None, scatter=own.scatter * 2, clip=None)
        reading = golden.removal.reading
        removal = Removal(other, golden.removal.directions, reading, reading[0] / 9, golden.removal.shares)
    rsca = RSCA(ppca, golden.rotation, golden.centre, golden.sigma_r, golden.wavelength, removal)
    numpy_file.write(rsca, tmp_path / "rsca.npz")
    space: dict[str, object] = {}
    exec(reader(), space)
    flux, valid, sigma = write_golden.spectra()
    flux[5, valid[5].nonzero()[0]] += 0.3  # what would be set aside, were anything
    for given in ((flux,), (flux, valid), (flux, valid, sigma)):
        made = space["features"](tmp_path / "rsca.npz", *(each.numpy() for each in given))
        np.testing.assert_allclose(made, rsca(*given), rtol=0, atol=1e-9)
