"""Large products of float32 against those of float64."""

from __future__ import annotations

import pytest
import torch

import rsca_torch.ppca.products
from rsca_torch.ppca.products import add_product, product


def drawn(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 2), (40, 513, 7), (9, 7514, 31)])
@pytest.mark.parametrize("transposed", [False, True])
def test_they_are_those_of_float64(shape, transposed):
    n, p, m = shape
    left = drawn(p, n).T if transposed else drawn(n, p)
    right = drawn(m, p).T if transposed else drawn(p, m)
    expected = left.double() @ right.double()
    assert product(left, right).dtype == torch.float32
    assert ((product(left, right) - expected).abs() <= 3e-6 * expected).all()
    total = torch.full((n, m), 2.0)
    add_product(total, left, right)
    assert ((total - 2 - expected).abs() <= 3e-6 * (expected + 2)).all()
    assert torch.equal(product(left.double(), right.double()), expected)


def test_many_terms_cost_no_digits():
    """A star's precision is a sum of thousands of terms, and its likelihood what little is left of such sums."""
    left, right = drawn(64, 7514), drawn(7514, 465)
    expected = left.double() @ right.double()
    assert float(((product(left, right) - expected) / expected).square().mean().sqrt()) < 1.3e-7


@pytest.mark.parametrize("part", [1, 40, 2**20])
def test_the_split_of_the_rows_changes_nothing(part, monkeypatch):
    monkeypatch.setattr(rsca_torch.ppca.products, "PART", part)
    total, left, right = torch.zeros(50, 8), drawn(50, 30), drawn(30, 8)
    add_product(total, left, right)
    torch.testing.assert_close(total, left @ right)


def test_what_autograd_follows_has_its_gradient():
    left, right = drawn(3, 5).requires_grad_(), drawn(5, 2)
    product(left, right).sum().backward()
    torch.testing.assert_close(left.grad, right.sum(1).expand(3, 5))


def test_without_onednn_torch_multiplies(monkeypatch):
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    left, right, total = drawn(3, 5), drawn(5, 2), torch.zeros(3, 2)
    assert torch.equal(product(left, right), left @ right)
    add_product(total, left, right)
    torch.testing.assert_close(total, left @ right)
