"""EM under Lightning is EM: bit for bit in one process, in several, and after the process was killed."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import Callback, Trainer

import rsca_torch
from rsca_torch import InputError, NumericalWarning
from rsca_torch.ppca.extrapolation import run_em
from rsca_torch.ppca.fit import fit_ppca
from rsca_torch.ppca.initialisation import first_guess
from rsca_torch.ppca.lightning import AllReduce, LightningEM, PPCATraining, SpectraDataModule
from rsca_torch.spectra.blocks import Arrays, Blocks, bin_sums

FITS = [("isotropic", None), ("measured", None), ("measured+scatter", None), ("measured+scatter", 6.0)]
EVERY_FIT = pytest.mark.parametrize(("noise", "clip"), FITS)
ROWS = 7  # stars a block
ITERATION = 5  # at which a process is killed


def spectra():
    """Also what the killed processes fit, so that it must not depend on anything of pytest's."""
    rng = np.random.default_rng(70)
    shape = 60, 10
    sigma = rng.uniform(0.1, 0.6, size=shape)
    noise = np.sqrt(sigma**2 + 0.1) * rng.normal(size=shape)
    flux = 1 + rng.normal(size=(60, 2)) @ rng.normal(size=(2, 10)) + noise
    flux[[5, 20, 41], [3, 8, 0]] += 30
    valid = rng.random(shape) > 0.2
    return Arrays(flux, valid, sigma)


def problem(noise="measured+scatter", clip=None):
    """The arguments of an EM loop: blocks of six stars, a first guess, tolerance, most iterations, clip."""
    blocks = Blocks(spectra(), noise).keep()
    blocks.rows = ROWS
    theta = first_guess(blocks, bin_sums(blocks), 2, 1e-9, clip)
    return blocks, theta, 1e-9, 200, clip


def same(one, other):
    """Bit for bit."""
    return one.history == other.history and all(
        torch.equal(*pair) for pair in zip(one.reached, other.reached, strict=True)
    )


@EVERY_FIT
def test_it_is_em(noise, clip):
    steps, expected_steps = [], []
    expected = run_em(*problem(noise, clip), lambda *step: expected_steps.append(step))
    ascent = LightningEM()(*problem(noise, clip), lambda *step: steps.append(step))
    assert len(problem()[0]) == 9  # several blocks an iteration
    assert same(ascent, expected)
    assert (ascent.converged, ascent.share_set_aside) == (expected.converged, expected.share_set_aside)
    assert steps == expected_steps
    assert len(steps) > 6


@EVERY_FIT
def test_it_is_an_engine_of_a_fit(noise, clip):
    options = {"n_components": 2, "noise": noise, "clip": clip}
    fits = [fit_ppca(spectra(), **options, em_loop=em_loop) for em_loop in (run_em, LightningEM())]
    assert fits[0].history == fits[1].history
    assert all(torch.equal(*pair) for pair in zip(fits[0].buffers(), fits[1].buffers(), strict=True))


def test_it_says_nothing(capfd, monkeypatch):
    logger = logging.getLogger("lightning.pytorch")
    monkeypatch.setattr(logger, "level", logging.INFO)
    LightningEM()(*problem())
    assert capfd.readouterr() == ("", "")
    assert logger.level == logging.INFO


def test_a_failure_inside_is_raised_and_lightning_may_speak_again():
    blocks, theta, *rest = problem()
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    with pytest.raises(InputError, match="not a finite number"):
        LightningEM()(blocks, theta._replace(mean=theta.mean * torch.nan), *rest)
    assert logger.level == before


def test_an_interrupt_is_no_end_of_the_fit():
    def progress(iteration, _):
        if iteration == 3:
            raise KeyboardInterrupt

    heard = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        LightningEM()(*problem(), progress)
    assert signal.getsignal(signal.SIGINT) is heard


class TestCheckpoint:
    """The file that is written after each iteration."""

    def test_it_changes_nothing(self, tmp_path):
        file = tmp_path / "new" / "fit.ckpt"
        assert same(LightningEM(checkpoint=file)(*problem()), run_em(*problem()))
        assert [path.name for path in file.parent.iterdir()] == ["fit.ckpt"]

    def test_of_a_finished_fit_is_its_result(self, tmp_path):
        file = tmp_path / "fit.ckpt"
        finished = LightningEM(checkpoint=file)(*problem())
        written = file.stat().st_mtime_ns
        steps = []
        again = LightningEM(checkpoint=file)(*problem(), lambda *step: steps.append(step))
        assert same(again, finished)
        assert again.converged
        assert not steps
        assert file.stat().st_mtime_ns == written

    def test_an_interrupted_fit_goes_on(self, tmp_path):
        file, steps = tmp_path / "fit.ckpt", []

        def stop(iteration, _):
            if iteration == ITERATION:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            LightningEM(checkpoint=file)(*problem(), stop)
        ascent = LightningEM(checkpoint=file)(*problem(), lambda *step: steps.append(step))
        assert same(ascent, run_em(*problem()))
        assert 2 < steps[0][0] <= ITERATION + 1

    @pytest.mark.parametrize("where", ["progress", "step"])
    def test_a_killed_fit_goes_on(self, where, tmp_path):
        """By the operating system, between two iterations or in the middle of an iteration: nothing is tidied up."""
        file, steps = tmp_path / "fit.ckpt", []
        path = os.pathsep.join([str(Path(rsca_torch.__file__).parents[1]), str(Path(__file__).parent)])
        killed = subprocess.run(
            [sys.executable, __file__, where, str(file)], env={**os.environ, "PYTHONPATH": path}, check=False
        )
        assert killed.returncode == (9 if where == "progress" else -signal.SIGKILL)
        ascent = LightningEM(checkpoint=file)(*problem(clip=6.0), lambda *step: steps.append(step))
        expected = run_em(*problem(clip=6.0))
        assert same(ascent, expected)
        assert ascent.share_set_aside == expected.share_set_aside
        first = ITERATION if where == "progress" else ITERATION + 1  # progress comes before the file
        assert steps[0] == (first, expected.history[first - 1])
        assert len(expected.history) > first + 3

    @pytest.mark.parametrize("damage", ["empty", "cut", "text", "other"])
    def test_a_damaged_file_is_said(self, damage, tmp_path):
        file = tmp_path / "fit.ckpt"
        LightningEM(checkpoint=file)(*problem()[:3], 3)
        whole = file.read_bytes()
        if damage == "other":
            torch.save({"weights": torch.zeros(3)}, file)
        else:
            file.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"to be continued"}[damage])
        with pytest.raises(InputError, match=r"fit.ckpt is no checkpoint of a fit \(\w+\): remove it"):
            LightningEM(checkpoint=file)(*problem())


def test_blocks_keep_their_size_and_their_stars_in_another_process():
    """Workers that are spawned get the blocks pickled, and import the package anew."""
    blocks = problem()[0].sample(20)
    blocks.rows = 3
    copy = pickle.loads(pickle.dumps(blocks))
    assert (copy.rows, copy.stars, copy.noise, len(copy)) == (3, blocks.stars, blocks.noise, len(blocks))
    for one, other in zip(blocks, copy, strict=True):
        assert torch.equal(one.flux, other.flux)
        assert torch.equal(one.noise, other.noise)


@pytest.mark.parametrize("rows", [7, 60])
def test_every_process_has_as_many_batches(rows):
    """Nine blocks for two processes, and one block."""
    batches = []
    for rank in range(2):
        blocks = Blocks(spectra(), "measured")
        blocks.rows = rows
        module = SpectraDataModule(blocks)
        module.trainer = SimpleNamespace(global_rank=rank, world_size=2)
        batches.append(list(module.train_dataloader()))
    assert sum(block.n_valid for block in itertools.chain(*batches)) == int(spectra().valid.sum())
    assert len(batches[0]) == len(batches[1])


class GroupAtTheEnd(Callback):
    """Notes in a file of each process whether its group of processes is left when the Trainer is done."""

    def __init__(self, folder):
        self.folder = folder

    def on_fit_end(self, trainer, pl_module):  # noqa: ARG002  (Lightning's)
        (self.folder / f"{pl_module.global_rank}.txt").write_text(str(torch.distributed.is_initialized()))


def test_two_processes(tmp_path):
    """Nine blocks, five in one and four in the other: sums in another order, so the same but for rounding."""
    file = tmp_path / "fit.ckpt"

    def two(**options):
        strategy = AllReduce(start_method="spawn", process_group_backend="gloo")
        options["callbacks"].append(GroupAtTheEnd(tmp_path))
        return Trainer(accelerator="cpu", devices=2, strategy=strategy, default_root_dir=tmp_path, **options)

    ascent = LightningEM(two, file)(*problem(clip=6.0))
    # gloo's threads abort a process that ends in its group, now and then
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == ["False", "False"]
    expected = run_em(*problem(clip=6.0))
    assert ascent.converged
    assert ascent.done
    np.testing.assert_allclose(ascent.history[:9], expected.history[:9], rtol=1e-9)
    assert ascent.share_set_aside == expected.share_set_aside > 0
    assert ascent.history[-1] == pytest.approx(expected.history[-1], abs=1e-8)
    for got, wanted in zip(ascent.reached, expected.reached, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)
    assert LightningEM(checkpoint=file)(*problem(clip=6.0)).history == ascent.history  # the file is of the whole fit


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ({"limit_train_batches": 0.5}, "needs all spectra"),
        ({"limit_train_batches": 1}, "needs all spectra"),
        ({"overfit_batches": 1}, "needs all spectra"),
        ({"fast_dev_run": True}, "needs all spectra"),
        ({"max_steps": 3}, "max_iterations"),
        ({"max_time": {"seconds": 1}}, "max_iterations"),
        ({"accumulate_grad_batches": 2}, "no gradient"),
        ({"precision": "bf16-true"}, "so few digits"),
        ({"precision": "16-true"}, "so few digits"),
        ({"precision": "bf16-mixed"}, "so few digits"),
    ],
)
def test_a_trainer_that_would_fit_something_else_is_refused(option, why):
    one = {"accelerator": "cpu", "devices": 1}
    for make in (partial(Trainer, **one, **option), lambda **given: Trainer(**{**given, **one, **option})):
        with pytest.raises(InputError, match=rf"trainer.{next(iter(option))}.*{why}"):
            LightningEM(make)(*problem())


@pytest.mark.parametrize("name", ["max_epochs", "logger", "callbacks", "limit_val_batches", "gradient_clip_val"])
def test_an_option_of_the_trainer_without_a_part_in_it_is_refused(name):
    with pytest.raises(InputError, match=f"trainer.{name}=3: .*leave it out"):
        LightningEM(partial(Trainer, **{name: 3}))


@pytest.mark.parametrize("precision", [32, "64-true"])
def test_all_digits_are_allowed(precision):
    ascent = LightningEM(partial(Trainer, accelerator="cpu", devices=1, precision=precision))(*problem())
    assert ascent.history[-1] == pytest.approx(run_em(*problem()).history[-1], abs=1e-6)


def test_a_longer_fit_is_not_taken_for_a_shorter_one(tmp_path):
    file = tmp_path / "fit.ckpt"
    finished = LightningEM(checkpoint=file)(*problem())
    written = file.read_bytes()
    arguments = list(problem())
    arguments[3] = 4
    assert same(LightningEM(checkpoint=file)(*arguments), run_em(*arguments))
    assert file.read_bytes() == written
    assert len(finished.history) > arguments[3]


def test_a_fit_that_ran_out_of_iterations_is_said(tmp_path):
    em_loop = LightningEM(checkpoint=tmp_path / "fit.ckpt")
    with pytest.warns(NumericalWarning, match="has not converged in 3 iterations"):
        fit_ppca(spectra(), n_components=2, noise="isotropic", tolerance=1e-14, max_iterations=3, em_loop=em_loop)


def _be_killed(where, file):
    """In a process of its own."""
    if where == "progress":

        def progress(iteration, _):
            if iteration == ITERATION:
                os._exit(9)

        LightningEM(checkpoint=Path(file))(*problem(clip=6.0), progress)
    step = PPCATraining.training_step

    def training_step(self, block, number):
        if len(self.ascent.history) == ITERATION and number == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        step(self, block, number)

    PPCATraining.training_step = training_step
    LightningEM(checkpoint=Path(file))(*problem(clip=6.0))


if __name__ == "__main__":
    torch.set_num_threads(1)  # as in conftest.py
    _be_killed(*sys.argv[1:])
