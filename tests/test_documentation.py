"""Every public name says what it is and shows it; the examples run with the tests (pyproject.toml)."""

from __future__ import annotations

import inspect
from functools import cached_property

import pytest

import rsca_torch
import rsca_torch.learners

METHODS = (property, cached_property, classmethod, staticmethod)
PUBLIC = {
    name: thing
    for module in (rsca_torch, rsca_torch.learners)
    for name, thing in ((name, getattr(module, name)) for name in module.__all__)
    if inspect.isclass(thing) or inspect.isfunction(thing)  # Labels is a type
}
NAMED = pytest.mark.parametrize("name", PUBLIC)


def methods(kind):
    """What this package wrote of the public methods and properties of a class."""
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] == "rsca_torch":
            for name, method in vars(base).items():
                if not name.startswith("_") and (inspect.isfunction(method) or isinstance(method, METHODS)):
                    yield f"{base.__name__}.{name}", method


@NAMED
def test_a_public_name_and_its_methods_are_documented(name):
    thing = PUBLIC[name]
    assert (thing.__doc__ or "").strip()
    if inspect.isclass(thing):
        assert [said for said, method in methods(thing) if not (method.__doc__ or "").strip()] == []


@NAMED
def test_a_public_name_has_an_example(name):
    assert ">>> " in (PUBLIC[name].__doc__ or ""), f"write an example that runs into the docstring of {name}"


def test_examples_run_with_the_tests(request):
    assert request.config.getoption("doctestmodules")
    assert request.config.getini("testpaths") == ["tests", "rsca_torch"]
    assert request.config.getini("filterwarnings") == ["error"]
