"""Options that would vanish: each is refused with what may have been meant, and none of those that are there."""

from __future__ import annotations

import pytest

from rsca_torch.cli import main as module

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra")

REFUSED = {
    "compare ++compresor.tolerance=1": "did you mean compressor.tolerance?",
    "compare +compressor.tolerence=1": "did you mean compressor.tolerance?",
    "compare ++seeds=3": "did you mean seed?",
    "compare learner=RSCA": "Available options in 'learner'",
    "compare learner=nca ++learner.recipe.epoch=3": "did you mean learner.recipe.epochs?",
    "compare logger=null +logger.save_dir=x": "logger has options, but no class that takes them",
    "compare +learner@baseline.rca=rca": "did you mean baselines.raw?",
    "compare ++figures_of_merit.overlap.clusters=3": "sibling_overlap has no option clusters",
    "compare ~pairs +pairs.max_velocity=3": "pairs has options, but no class that takes them (_target_); "
    "choose one of all, paper",
    "compare baselines=null ++baselines.raw.top=3": "baselines.raw has options, but no class that takes them",
    "compare ++abundances.abundances.element=[Fe]": "rsca compare has no option abundances.abundances.element; did you",
    "reproduce figure2 ++experiments.figure2.threshold=3": "rsca reproduce has no option experiments.figure2.threshold",
    "simulate root=x ++simulation.nfield=3": "did you mean simulation.n_field?",
    "learners ++x=3": "rsca learners has no option x",
    "compare ++hydra.jobs.x=1": "hydra.jobs.x: Hydra has no option jobs there; did you mean job?",
    "compare -m seed=0,1 ++hydra.job.nam=x": "Hydra has no option nam there; did you mean name?",
}


@pytest.mark.parametrize("given", REFUSED)
def test_what_would_vanish_is_refused(given, monkeypatch, capfd):
    ran = []
    monkeypatch.setattr(module, "_function", lambda _: ran.append)
    assert module.main(given.split()) == 2
    assert REFUSED[given] in capfd.readouterr().err
    assert ran == []


@pytest.mark.parametrize(
    "given",
    [
        "compare +learner@baselines.rca=rca",
        "compare -m seed=0 +figure_of_merit@figures_of_merit.other=overlap out=sweep",
        "compare seed=1 -m out=sweep",
        "compare hydra.job.name=x ++hydra.launcher.n_jobs=2 ++hydra.job.env_set.A=b",
    ],
)
def test_what_is_there_is_taken(given, monkeypatch, tmp_path):
    ran = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_function", lambda _: ran.append)
    assert module.main(given.split()) == 0
    assert len(ran) == 1
