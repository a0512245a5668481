"""Training a learner on a fold: what a batch is, when it stops, what it keeps, and that the judge has no say."""

from __future__ import annotations

import importlib
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from rsca_torch import Identity, InputError, Learner, NumericalWarning, leave_one_cluster_out
from rsca_torch.evaluation.fold_files import Fold, FoldFiles, code_of
from rsca_torch.learners import Recipe
from rsca_torch.learners.distances import sibling_overlap
from rsca_torch.training.fitting import fitted
from rsca_torch.training.gradient_descent import LearnerTraining, batches, train
from rsca_torch.training.members import Members, Trained


class Stretched(Learner):
    """A diagonal metric, with a loss that has its minimum where siblings are near and the field is wide."""

    def __init__(self, recipe: Recipe | None = None):
        super().__init__()
        self.recipe = Recipe(epochs=5, inner=0) if recipe is None else recipe

    def initialise(self, field, members, clusters):  # noqa: ARG002
        self.stretch = nn.Parameter(torch.ones(field.shape[1], dtype=torch.float64))
        self.seen = set(clusters)

    def forward(self, z):
        return z * self.stretch

    def loss(self, z, clusters):
        y = self(z)
        same = torch.from_numpy(clusters[:, None] == clusters)
        squares = (y[:, None] - y).square().sum(-1)
        return squares[same].mean() / squares[~same].mean()


class Broken(Stretched):
    """What it does wrong is given."""

    def __init__(self, loss, recipe=None):
        super().__init__(recipe)
        self.bad_loss = loss

    def loss(self, z, clusters):
        return self.bad_loss(self, z, clusters)


@pytest.fixture
def problem():
    """Clusters that are tight in the first two of five dimensions; field (200, 5), members (24, 5), labels."""
    rng = np.random.default_rng(3)
    labels = np.repeat([f"NGC {n}" for n in range(6)], 4)
    width = np.array([0.1, 0.2, 1, 1, 1])
    members = rng.normal(size=(6, 5))[np.repeat(range(6), 4)] * (width < 1) + width * rng.normal(size=(24, 5))
    return torch.from_numpy(rng.normal(size=(200, 5))), torch.from_numpy(members), labels


def members_of(problem, **more):
    return Members(problem[1], problem[2], **more)


class TestBatches:
    def test_all_members_are_one_batch(self, problem):
        ((z, rows),) = batches(members_of(problem), Recipe())
        assert torch.equal(z, problem[1])
        assert rows.tolist() == list(range(24))

    def test_some_clusters_with_as_many_members_each(self, problem):
        drawn = list(batches(members_of(problem), Recipe(clusters_a_batch=3, members_a_cluster=2)))
        assert len(drawn) == 4  # as many stars an epoch as there are
        for z, rows in drawn:
            assert torch.equal(z, problem[1][rows])
            names, counts = np.unique(problem[2][rows.numpy()], return_counts=True)
            assert len(names) == 3
            assert (counts == 2).all()

    def test_more_clusters_than_there_are_is_refused(self, problem):
        with pytest.raises(InputError, match=r"batch of 7 clusters with 4 members each .* has 6 clusters"):
            batches(members_of(problem), Recipe(clusters_a_batch=7))

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"epochs": -1}, "epochs >= 0"),
            ({"patience": 0}, "patience >= 1"),
            ({"inner": -1}, "inner >= 0"),
            ({"learning_rate": 0.0}, "learning_rate > 0"),
            ({"weight_decay": -1.0}, "weight_decay >= 0"),
            ({"members_a_cluster": 1}, "at least 2 clusters with 2 members"),
            ({"clusters_a_batch": 1}, "at least 2 clusters with 2 members"),
        ],
    )
    def test_recipes_that_cannot_be_meant(self, wrong, said):
        with pytest.raises(InputError, match=said):
            Recipe(**wrong)


class TestDescent:
    def test_it_is_adamw(self, problem):
        """Against plain torch, step by step."""
        learner, other = Stretched(), Stretched()
        for one in (learner, other):
            one.initialise(problem[0], problem[1], problem[2])
        recipe = Recipe(epochs=7, learning_rate=0.02, weight_decay=0.3, inner=0)
        training = train(learner, recipe, members_of(problem), 7, None)
        optimizer = torch.optim.AdamW(other.parameters(), 0.02, weight_decay=0.3)
        for reached in training.losses:
            loss = other.loss(problem[1], problem[2])
            assert float(loss.detach()) == pytest.approx(reached, rel=1e-12)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert len(training.losses) == 7
        assert torch.allclose(learner.stretch, other.stretch, rtol=1e-12)
        assert training.losses[-1] < training.losses[0]

    def test_it_ends_when_the_cluster_that_was_left_out_gets_no_better(self, problem):
        overlaps = iter([0.5, 0.4, 0.3, 0.35, 0.3, 0.31, 0.2])
        learner = Stretched()
        learner.initialise(*problem)
        recipe = Recipe(epochs=50, patience=3)
        training = train(learner, recipe, members_of(problem), 50, lambda _: next(overlaps))
        assert training.overlaps == [0.5, 0.4, 0.3, 0.35, 0.3, 0.31]
        assert training.best_epoch == 2
        assert len(training.losses) == 5

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_loss_that_is_no_number_keeps_the_last_good_weights(self, problem, value):
        calls = []

        def bad(learner, z, clusters):
            calls.append(learner.stretch.detach().clone())
            return Stretched.loss(learner, z, clusters) * (value if len(calls) == 4 else 1)

        learner = Broken(bad)
        learner.initialise(*problem)
        with pytest.warns(NumericalWarning, match=r"the loss of Broken is (nan|inf) at step 3: training stops there"):
            training = train(learner, Recipe(epochs=9, inner=0), members_of(problem), 9, None)
        assert training.stopped == 3
        assert len(training.losses) == 3
        assert torch.equal(learner.stretch, calls[2])  # those that gave the last finite loss

    @pytest.mark.parametrize(
        ("loss", "said"),
        [
            (lambda *_: None, r"Broken.loss gave None, but its recipe has 5 epochs"),
            (lambda learner, z, _: (z * learner.stretch).sum(1), r"scalar .* got shape \(24,\)"),
            (lambda *_: torch.tensor(1.0), r"scalar that depends on its parameters, got shape \(\) without a gradient"),
        ],
    )
    def test_losses_that_cannot_be_minimised(self, problem, loss, said):
        with pytest.raises(InputError, match=said):
            fitted(lambda: Broken(loss), *problem, seed=0)

    def test_nothing_to_train_is_said(self, problem):
        class Fixed(Identity):
            recipe = Recipe(epochs=3, inner=0)

        with pytest.raises(InputError, match="has a recipe of 3 epochs, but no parameter to train"):
            fitted(Fixed, *problem, seed=0)

    def test_noise_is_drawn_from_the_errors(self, problem):
        """Of the first dimension alone: with the root of its variance."""
        seen = []

        def looking(learner, z, clusters):
            seen.append(z.clone())
            return Stretched.loss(learner, z, clusters)

        roots = torch.zeros(24, 5, 5, dtype=torch.float64)
        roots[:, 0, 0] = 0.5
        learner = Broken(looking)
        learner.initialise(*problem)
        train(learner, Recipe(epochs=200, inner=0, noise=True), members_of(problem, roots=roots), 200, None)
        drawn = torch.stack(seen) - problem[1]
        assert drawn[:, :, 1:].abs().max() == 0
        assert float(drawn[:, :, 0].std()) == pytest.approx(0.5, rel=0.05)


class TestFitted:
    def test_an_overlap_is_a_share_of_pairs(self):
        siblings, strangers = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([2.0, 3.0, 0.5, 9.0])
        expected = np.mean([[stranger <= sibling for stranger in strangers] for sibling in siblings])
        assert sibling_overlap(siblings, strangers) == pytest.approx(float(expected))

    def test_an_inner_cluster_is_compared_with_whom_it_may_be(self, problem, monkeypatch):
        """Distances to the allowed field stars alone, and no others mapped."""
        field, members, labels = problem
        flags = np.random.default_rng(0).random((24, 200)) < 0.1
        inner = labels == "NGC 0"
        expected = torch.cdist(members[inner], field)[torch.from_numpy(flags[inner])].sort().values
        seen = []
        monkeypatch.setattr(
            "rsca_torch.training.fitting.sibling_overlap", lambda _, strangers: seen.append(strangers) or 0.5
        )
        fitted(lambda: Stretched(Recipe(epochs=1, inner=1)), field, Members(members, labels, flags), labels, 0)
        assert torch.allclose(seen[0].sort().values, expected)
        with pytest.raises(InputError, match="which pairs may be compared is not known"):
            Members(members, labels).compared()

    def test_inner_clusters_choose_how_long(self, problem):
        """The largest, each from a start that it took no part in; the median of their best epochs is taken."""
        field, members, labels = problem
        kept = np.ones(24, dtype=bool)
        kept[[0, 4, 12]] = False  # of NGC 0, 1 and 3 three members are left, of the others four
        problem = field, members[torch.from_numpy(kept)], labels[kept]
        made = []

        def make():
            made.append(Stretched(Recipe(epochs=30, inner=4, patience=5, learning_rate=0.1)))
            return made[-1]

        learner = fitted(make, *problem, seed=0)
        trained = learner.trained
        assert isinstance(trained, Trained)
        assert sorted(trained.best) == ["NGC 0", "NGC 2", "NGC 4", "NGC 5"]
        assert trained.epochs == round(float(np.median(list(trained.best.values()))))
        everyone = set(problem[2])
        assert [everyone - one.seen for one in made] == [set(), {"NGC 2"}, {"NGC 4"}, {"NGC 5"}, {"NGC 0"}, set()]
        assert trained.variance == pytest.approx(float(learner(problem[0]).detach().var(0).sum()))
        assert 1 <= trained.effective_rank <= 5

    def test_the_same_seed_gives_the_same_bits_whatever_was_drawn_before(self, problem):
        class Drawn(Stretched):
            def initialise(self, field, members, clusters):
                super().initialise(field, members, clusters)
                self.stretch.data += torch.rand(5)

        recipe = Recipe(epochs=4, inner=2, clusters_a_batch=3, members_a_cluster=2)
        stretches = []
        for draws, seed in ((0, 1), (3, 1), (0, 2)):
            torch.rand(draws)
            np.random.random(draws)  # noqa: NPY002
            stretches.append(fitted(lambda: Drawn(recipe), *problem, seed=seed).stretch)
        assert torch.equal(stretches[0], stretches[1])
        assert not torch.equal(stretches[0], stretches[2])

    def test_a_collapse_is_said(self, problem):
        def shrink(learner, z, _):
            return (learner.stretch[1:] * z[:, 1:]).square().mean()

        recipe = Recipe(epochs=300, inner=0, learning_rate=0.1)
        with pytest.warns(NumericalWarning, match=r"embedding of Broken has collapsed: effective rank 1\.\d+ of 5"):
            fitted(lambda: Broken(shrink, recipe), *problem, seed=0)

    def test_no_epochs_give_the_start(self, problem):
        learner = fitted(lambda: Stretched(Recipe(epochs=0)), *problem, seed=0)
        assert torch.equal(learner.stretch, torch.ones(5, dtype=torch.float64))
        assert learner.trained is None

    def test_the_training_is_logged(self, problem, tmp_path):
        fitted(Stretched, *problem, seed=0, logger=CSVLogger(tmp_path, name="one", version=""))
        rows = (tmp_path / "one" / "metrics.csv").read_text().splitlines()
        assert rows[0].split(",") == ["loss", "step"]
        assert len(rows) == 6


class TestFolds:
    """In leave_one_cluster_out."""

    def test_a_learner_with_a_loss_is_trained_in_every_fold(self, problem):
        result = leave_one_cluster_out(Stretched, *problem)
        assert {trained.epochs for trained in result.trained.values()} == {5}
        assert list(result.trained) == list(result.cluster_rates)
        untrained = leave_one_cluster_out(lambda: Stretched(Recipe(epochs=0)), *problem)
        assert untrained.trained == {}
        assert result.rate < untrained.rate

    def test_an_interrupted_run_goes_on_in_the_fold_where_it_stopped(self, problem, tmp_path):
        whole = leave_one_cluster_out(Stretched, *problem, keep_distances=True)
        kept, made = FoldFiles(tmp_path / "folds"), []

        def stopping():
            if len(made) == 3:
                raise KeyboardInterrupt
            made.append(None)
            return Stretched()

        with pytest.raises(KeyboardInterrupt):
            leave_one_cluster_out(stopping, *problem, keep_distances=True, kept=kept)
        made.clear()

        def counting():
            made.append(None)
            return Stretched()

        again = leave_one_cluster_out(counting, *problem, keep_distances=True, kept=kept)
        assert len(made) == 3  # of six
        assert again.cluster_rates == whole.cluster_rates
        assert again.median_sibling_distance == whole.median_sibling_distance
        assert again.trained == whole.trained
        for cluster, distances in whole.distances.items():
            assert all(torch.equal(*pair) for pair in zip(distances, again.distances[cluster], strict=True))

    def test_folds_of_an_older_learner_are_not_those_of_its_new_code(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(tmp_path)
        code = "from rsca_torch import Identity\nclass Mine(Identity):\n    factor = 1\n"
        (tmp_path / "mine_that_changes.py").write_text(code)
        learner = importlib.import_module("mine_that_changes").Mine()
        before = code_of(learner)
        assert code_of(learner) == before != code_of(Identity())
        (tmp_path / "mine_that_changes.py").write_text(code.replace("1", "2"))
        assert code_of(learner) != before
        monkeypatch.delitem(sys.modules, "mine_that_changes")

    def test_a_learner_that_cannot_be_sent_to_other_processes(self, problem):
        held = (line for line in "ab")
        with pytest.raises(InputError, match=r"sent to other processes, .*generator.* or give processes=1"):
            leave_one_cluster_out(lambda: (held, Stretched())[1], *problem, processes=2)

    def test_folds_are_kept_whole(self, tmp_path):
        trained = Trained(3, [1.0, 0.5, 0.25], {"a b": 2}, [], 1.5, 2.5, None)
        fold = Fold(float("nan"), 3, 0, 1.5, torch.rand(3).double(), torch.zeros(0).double(), "said", trained)
        files = FoldFiles(tmp_path / "new" / "folds")
        assert files.get(("NGC 188",)) is None
        files.put(("NGC 188",), fold)
        got = files.get(("NGC 188",))
        assert np.isnan(got.rate)
        assert (got.members, got.pairs, got.median_sibling_distance, got.note) == (3, 0, 1.5, "said")
        assert got.trained == trained
        assert torch.equal(got.siblings, fold.siblings)
        assert len(got.strangers) == 0
        assert files.get(("NGC 1",)) is None
        (file,) = (tmp_path / "new" / "folds").iterdir()
        file.write_bytes(file.read_bytes()[:50])
        assert files.get(("NGC 188",)) is None

    def test_several_processes_give_the_rates_of_one(self, problem):
        one = leave_one_cluster_out(Stretched, *problem)
        two = leave_one_cluster_out(Stretched, *problem, processes=2)
        assert two.cluster_rates == one.cluster_rates
        assert list(two.cluster_rates) == list(one.cluster_rates)
        assert two.trained == one.trained

    @pytest.mark.parametrize(
        ("embedding", "said"),
        [
            (lambda z: z[:, 0], r"must map \(.*, 5\) to \(.*, D\) numbers, got float64 of shape"),
            (lambda z: z[:2], r"must map"),
            (lambda z: z.long(), r"must map .* got int64"),
            (lambda z: z * torch.nan, "not finite"),
        ],
    )
    def test_embeddings_that_mean_nothing(self, problem, embedding, said):
        class Bad(Learner):
            def forward(self, z):
                return embedding(z)

        with pytest.raises(InputError, match=said):
            leave_one_cluster_out(Bad, *problem)

    def test_a_map_to_one_point_is_said(self, problem):
        class Point(Learner):
            def forward(self, z):
                return torch.ones_like(z)

        with pytest.warns(NumericalWarning, match="in 6 of 6 folds, first: Point gives every star the same embedding"):
            assert leave_one_cluster_out(Point, *problem).rate == 1

    def test_the_held_out_cluster_has_no_say(self, problem):
        """Poisoned with huge numbers, it leaves the learner that judges it as it is, inner clusters and all."""
        field, members, labels = problem
        learners = []

        def make():
            learners.append(Stretched(Recipe(epochs=6, inner=2, patience=2, learning_rate=0.1)))
            return learners[-1]

        leave_one_cluster_out(make, field, members, labels)
        clean, per_fold = [one.stretch.detach() for one in learners], len(learners) // 6
        poisoned = members.clone()
        poisoned[labels == "NGC 2"] = 1e30
        learners.clear()
        leave_one_cluster_out(make, field, poisoned, labels)
        same = [torch.equal(a, b.stretch) for a, b in zip(clean, learners, strict=True)]
        folds = [all(same[start:stop]) for start, stop in pairwise(range(0, len(same) + 1, per_fold))]
        assert folds == [False, False, True, False, False, False]


def test_lightning_is_told_nothing_of_the_judge(problem):
    """What the LightningModule and its data hold are the training members alone."""
    learner = Stretched()
    learner.initialise(*problem)
    given = members_of(problem)[problem[2] != "NGC 1"]
    training = LearnerTraining(learner, Recipe(), given)
    assert "NGC 1" not in set(training.members.labels)
    ((z, rows),) = batches(given, Recipe())
    assert torch.equal(z, problem[1][torch.from_numpy(problem[2] != "NGC 1")])
    assert "NGC 1" not in given.labels[rows.numpy()]
