"""Files that were damaged, or say what cannot be: each kind by hand, besides what `fuzz` finds at random."""

from __future__ import annotations

import errno
import json
import logging
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from astropy.io import fits
from safetensors.torch import load, save

from rsca_torch import RSCA, MaskedPPCA
from rsca_torch.cli import messages
from rsca_torch.comparison.finished_run import finished_rate, rate_told
from rsca_torch.errors import InputError
from rsca_torch.evaluation.fold_files import Fold, FoldFiles
from rsca_torch.files.checked import json_of, read_json, rows_of, sealed, unsealed
from rsca_torch.files.tables import read_table
from rsca_torch.files.whole import MACHINE
from rsca_torch.ppca.e_step import Parameters
from rsca_torch.ppca.extrapolation import Ascent
from rsca_torch.report.figure_files import save_figure
from rsca_torch.report.terminal import plain_table
from rsca_torch.survey.aspcapstar_folder import read_folder
from rsca_torch.survey.described.description import Description
from rsca_torch.survey.described.star_file import opened
from rsca_torch.survey.download.manifest import MANIFEST, Manifest
from rsca_torch.survey.fits_files import UnusableFileError, open_fits, require_whole

# --- FITS ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path):
    """Two images of 700 numbers, of which the first is of ones and the second of twos."""
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.full(700, 1.0)), fits.ImageHDU(np.full(700, 2.0))]
    fits.HDUList(hdus).writeto(tmp_path / "star.fits")
    return tmp_path / "star.fits"


def first_of(path):
    with open_fits(path) as hdus:
        return require_whole(hdus, 1, "flux").data[0]


def test_a_damaged_end_shifts_nothing_unnoticed(images):
    assert first_of(images) == 1
    content = bytearray(images.read_bytes())
    end = content.index(b"END" + b" " * 77, 2880)  # of the first image
    content[end : end + 3] = b"ENX"
    images.write_bytes(content)
    with pytest.raises(UnusableFileError, match="a header without a proper end"):
        first_of(images)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"NAXIS   =                    1", b"NAXIS   =           2147483648"),
        (b"NAXIS1  =                  700", b"NAXIS1  =                   -1"),
        (b"BITPIX  =                  -64", b"BITPIX  =                    7"),
        (b"NAXIS1  =                  700", b"NAXIS1  =                1E400"),
        (b"XTENSION= 'IMAGE   '          ", b"END                           "),
        (b"PCOUNT  =                    0", b"PCOUNT  =  9999999999999999999"),
    ],
)
def test_headers_that_say_what_cannot_be(images, old, new):
    content = images.read_bytes()
    assert old in content
    images.write_bytes(content.replace(old, new))
    with pytest.raises(UnusableFileError):
        first_of(images)


def test_padding_behind_the_last_hdu_is_nothing_and_anything_else_is_refused(images):
    content = images.read_bytes()
    images.write_bytes(content + b"\0" * 2880 + b" " * 2880)
    assert first_of(images) == 1
    images.write_bytes(content[:2880] + b"\0" * 8 + content[2888:])  # the library would read on, header after header
    with pytest.raises(UnusableFileError, match="what begins at byte 2880 is no header of FITS"):
        first_of(images)


def test_an_error_of_the_library_is_told_and_one_of_ours_is_not_hidden(images):
    with pytest.raises(UnusableFileError, match="unreadable file"), open_fits(images):
        np.linalg.inv(np.zeros((2, 2)))  # an exception of another package that nobody thought of
    with pytest.raises(MemoryError), open_fits(images):
        raise MemoryError


def test_a_pipe_or_a_device_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "star.fits")
    for path in (tmp_path / "star.fits", os.devnull):
        with pytest.raises(UnusableFileError, match="no regular file"), open_fits(type(tmp_path)(path)):
            pass
    with pytest.raises(ValueError, match="no file"):
        read_table(tmp_path / "star.fits")
    with pytest.raises(InputError, match="no file"):
        Description.of(tmp_path / "star.fits")


def test_a_folder_that_cannot_be_listed_does_not_make_the_survey_smaller(tmp_path, monkeypatch):
    scandir = os.scandir

    def failing(path):
        if str(path).endswith("deep"):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return scandir(path)

    (tmp_path / "deep").mkdir()
    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(OSError, match="Input/output error"):
        read_folder(tmp_path, "aspcapStar-*.fits", None)


@pytest.mark.parametrize(("code", "expected"), [(errno.EIO, InputError), (errno.EACCES, UnusableFileError)])
def test_a_file_server_that_fails_is_no_fault_of_a_file(tmp_path, code, expected):
    (tmp_path / "rows.npz").write_bytes(b"PK")
    with pytest.raises(expected), opened(tmp_path / "rows.npz"):
        raise OSError(code, os.strerror(code))


# --- what this program keeps -----------------------------------------------------------------------------------------


def test_json_that_cannot_be_read_is_one_kind_of_error(tmp_path):
    for content in (b"", b"[]", b"3", b"[" * 100_000, b"\xff", b'{"a": 1'):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"."):
            read_json(tmp_path / "x.json")
    told = sealed({"a": [1, 2.5, None]})
    assert unsealed(json_of(json.dumps(told))) == {"a": [1, 2.5, None]}
    with pytest.raises(ValueError, match="checksum"):
        unsealed({**told, "b": 1})


def test_cells_may_be_long(tmp_path):
    (tmp_path / "x.csv").write_text(f"a,b\n{'x' * 200_000},2\n")
    assert [len(row[0]) for row in rows_of(tmp_path / "x.csv")] == [1, 200_000]


def ended():
    """The number of a process that has ended."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


@pytest.fixture
def kept(tmp_path):
    folds, left_out = FoldFiles(tmp_path), ("A", "B")
    siblings, strangers = torch.rand(4, dtype=torch.float64), torch.rand(9, dtype=torch.float64)
    folds.put(left_out, Fold(0.25, 4, 9, 0.5, siblings, strangers, merits={"overlap": float("nan")}))
    return folds, left_out, next(tmp_path.iterdir())


def resealed(file, **changes):
    """With other values, and the checksum that belongs to them."""
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    told = unsealed(json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["fold"]))
    file.write_bytes(save(load(content), metadata={"fold": json.dumps(sealed({**told, **changes}))}))


def test_a_kept_fold_comes_back(kept, caplog):
    folds, left_out, _ = kept
    assert folds.get(left_out).rate == 0.25
    assert folds.get(("B", "A")) is None
    assert not caplog.records


def test_what_a_run_left_that_was_killed_when_it_had_just_kept_a_fold_goes(kept):
    folds, left_out, file = kept
    left = file.with_name(f".{file.name}.{MACHINE}-{ended()}-0123abcd")
    left.mkdir()
    folds.get(left_out)
    assert not left.exists()


@pytest.mark.parametrize("rate", [-1, 7.5, float("inf"), "x"])
def test_a_rate_that_is_none_is_not_believed(kept, caplog, rate):
    folds, left_out, file = kept
    resealed(file, rate=rate)
    assert folds.get(left_out) is None
    assert "is damaged" in caplog.text
    with pytest.raises((ValueError, TypeError)):
        rate_told(rate)


def test_flipped_bits_of_a_fold(kept, caplog):
    folds, left_out, file = kept
    whole = file.read_bytes()
    for place in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 2
        file.write_bytes(changed)
        read = folds.get(left_out)
        assert read is None or (read.rate, read.members, read.pairs) == (0.25, 4, 9)
        if read is not None:  # blanks of the header alone
            assert torch.equal(read.siblings, load(whole)["siblings"])
    assert "is damaged" in caplog.text
    other = folds._file(("C",))
    other.write_bytes(whole)
    assert folds.get(("C",)) is None


def test_a_checkpoint_that_was_changed():
    zeros = torch.zeros(9, dtype=torch.float64)
    theta = Parameters(torch.ones(9, 1).double(), zeros, zeros[0])
    ascent = Ascent(theta, 1e-4, 9, history=[1.0])
    state = ascent.state_dict()
    other = Ascent(theta, 1e-4, 9)
    other.load_state_dict(state)
    assert other.history == [1.0]
    for name, value in (("history", [2.0]), ("converged", True), ("trial", [theta.loadings * 2, *theta[1:]])):
        with pytest.raises(ValueError, match="checksum"):
            other.load_state_dict({**state, name: value})
    with pytest.raises(ValueError, match="not a finite number"):
        other.load_state_dict(Ascent(theta._replace(loadings=theta.loadings * torch.nan), 1e-4, 9).state_dict())


def test_a_manifest_of_a_download_that_is_damaged(tmp_path, caplog):
    (tmp_path / MANIFEST).write_text("a,whole,x,y,sha1,.\nb,absent,,,,.\n")
    assert Manifest(tmp_path, reading=True).absent == {"b"}
    assert "is damaged in 1 lines" in caplog.text


def test_results_that_are_damaged_count_as_none(tmp_path):
    for content in ("[" * 100_000, "3", json.dumps({"schema": 1, "config": 3, "store": {"checksum": "a"}})):
        (tmp_path / "results.json").write_text(content)
        assert finished_rate(tmp_path, {}, "a") is None


def model():
    axes = torch.tensor([[0.3, 0.0], [0.0, 0.4], [0.1, 0.1]]).double()
    ppca = MaskedPPCA(axes, torch.ones(3).double(), torch.full((3,), 1e-4).double(), noise_variance=1e-4)
    steps = torch.eye(2).double(), torch.zeros(2).double(), torch.tensor([0.1, torch.inf]).double()
    return RSCA(ppca, *steps, torch.tensor([5000.0, 5001.0, 5002.0]).double())


def with_buffer(name, value):
    made = model()
    part = made.ppca if name in dict(made.ppca.named_buffers()) else made
    part.register_buffer(name, value)
    return made


def with_told(name, value):
    made = model()
    setattr(made.ppca if hasattr(made.ppca, name) else made, name, value)
    return made


SENSELESS = {
    "NaN": lambda: with_buffer("weight", torch.full((2, 3), torch.nan).double()),
    "infinite": lambda: with_buffer("loadings", torch.full((3, 2), torch.inf).double()),
    "negative": lambda: with_buffer("sigma_r", torch.tensor([-1.0, 1.0]).double()),
    "bins": lambda: with_buffer("wavelength", torch.ones(4).double()),
    "features": lambda: with_buffer("bias", torch.ones(3).double()),
    "calibration": lambda: with_told("calibration", {"pairs": {"slope": "x"}}),
    "clip": lambda: with_told("clip", "five"),
    "sources": lambda: with_told("sources", ("a",)),
}


def test_a_model_comes_back(tmp_path):
    model().save(tmp_path / "m.safetensors")
    assert RSCA.load(tmp_path / "m.safetensors").sigma_r.isfinite().tolist() == [True, False]


@pytest.mark.parametrize("what", SENSELESS)
def test_a_model_that_makes_no_sense_is_refused_whatever_its_checksum_says(tmp_path, what):
    SENSELESS[what]().save(tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="holds no RSCA that can be used"):
        RSCA.load(tmp_path / "m.safetensors")


# --- YAML ------------------------------------------------------------------------------------------------------------

BOMB = "a: &a [x,x,x]\nb: &b [*a,*a]\n"


@pytest.mark.parametrize("text", [BOMB, "a: " + "[" * 500 + "]" * 500])
def test_small_yaml_that_means_something_huge(tmp_path, text):
    (tmp_path / "d.yaml").write_text(text)
    with pytest.raises(InputError, match=r"aliases|nested too deeply"):
        Description.of(tmp_path / "d.yaml")


# --- names -----------------------------------------------------------------------------------------------------------

NAMES = ["[/red]", "a$b_{$c", "\x1b[31mred", "n" * 300, "<script>", "\u202eabc", "a\nb"]


@pytest.mark.filterwarnings("ignore:Tight layout")
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_are_shown_as_they_are(tmp_path, capsys, name):
    from matplotlib.figure import Figure
    from rich.console import Console

    table = plain_table([name], title=name)
    table.add_row(name)
    Console(width=2000).print(table)
    messages.print_error(f"the cluster {name}")
    record = logging.makeLogRecord({"msg": "of %s", "args": (name,)})
    messages._shown_plainly(record)
    shown = capsys.readouterr()
    for text in (shown.out, shown.err, record.getMessage()):
        assert "\x1b[31mred" not in text
        assert "\u202e" not in text
    if name.isprintable():
        assert shown.out.count(name) == 3
        assert name in shown.err.replace("\n", "")
    figure = Figure()
    panel = figure.subplots()
    panel.plot([0], [0], label=name)
    panel.set_title(name)
    panel.set_xticks([0], [name])
    panel.legend()
    save_figure(figure, tmp_path, "picture")
    assert (tmp_path / "picture.pdf").stat().st_size > 1000


def test_text_that_is_no_utf8_is_latin_1():
    from rsca_torch.spectra.labels import as_text

    assert as_text(np.array([b"M\xfcller", "Müller".encode()])).tolist() == ["Müller", "Müller"]


def test_nul_in_an_option_is_refused(capsys):
    from rsca_torch.cli.main import main

    assert main(["cite", "run=a\0b"]) == 2
    assert "holds NUL" in capsys.readouterr().err


# --- commands look at the store's checksum ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["embed", "siblings", "explain"])
def test_a_store_whose_flux_was_changed_is_refused(tmp_path, monkeypatch, command):
    import importlib

    told = []
    store = SimpleNamespace(
        verify=lambda: told.append("verified") or (_ for _ in ()).throw(InputError("changed")), path=tmp_path
    )
    if command == "siblings":
        from rsca_torch.siblings import embedded_stars

        monkeypatch.setattr(embedded_stars, "Store", SimpleNamespace)

        class Part(list):
            wavelength = None

            def on(self, _):
                return self

        store.select, store.groups = (lambda: Part([1])), []
        monkeypatch.setattr(embedded_stars, "lacking", lambda *_: "")
        with pytest.raises(InputError, match="changed"):
            embedded_stars.embedded_stars(model(), store)
        return
    module = importlib.import_module(f"rsca_torch.cli.{command}")
    monkeypatch.setattr(module, "Store", SimpleNamespace(open=lambda _: store))
    monkeypatch.setattr(module, "RSCA", SimpleNamespace(load=lambda _: model()))
    config = {"lines": None, "windows": None, "model": "m", "store": "s", "reach": 1.0, "stars": None, "feature": 1}
    asked = tmp_path / "out.fits" if command == "embed" else "feature"
    run = module._embed if command == "embed" else module._explained
    with pytest.raises(InputError, match="changed"):
        run(SimpleNamespace(**config, parallel=None), asked)
