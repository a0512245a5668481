"""The layering: imports run one way, at the top of the file, and importing the package costs nothing unasked."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rsca_torch

PACKAGE = Path(rsca_torch.__file__).parent
ORDER = (
    "errors quiet whole arrays spectra survey blocks packed weights posterior em online climb start ppca finders "
    "datamodule training learners removal rsca doppelganger learning descent folds loco fold_files nested plugins "
    "testing representation comparison report pictures runs sweep gathering run_groups terminal sweep_report "
    "found_censoring simulated_store compression run_folder study reproduction commands cli"
).split()
MODULES = sorted(PACKAGE.rglob("*.py"))
PARSED = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))


def part(name):
    """The first name below rsca_torch in a dotted module name."""
    return name.split(".")[1]


def imported(tree):
    """The dotted names of package modules that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "rsca_torch")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "rsca_torch":
                yield from (f"rsca_torch.{alias.name}" for alias in node.names)
            elif node.module.split(".")[0] == "rsca_torch":
                yield node.module


def foreign(tree):
    """The first names of all modules that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


def test_every_module_has_a_place_in_the_order():
    top = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES} - {"__init__"}
    assert top == set(ORDER)


@PARSED
def test_imports_run_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    names = list(imported(ast.parse(path.read_text())))
    if own == "__init__":  # the public names: from anywhere but the command line's modules
        assert {part(name) for name in names} <= set(ORDER[: ORDER.index("representation")])
        return
    allowed = set(ORDER[: ORDER.index(own)])
    if path.parent != PACKAGE:
        allowed.add(own)  # inside a folder the order is the folder's own
    assert all("." in name for name in names), "import from the module that defines it, not from the package"
    assert {part(name) for name in names} <= allowed


@PARSED
def test_no_function_imports(path):
    tree = ast.parse(path.read_text())
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    inside = [
        f"{path.name}:{node.lineno}"
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert inside == []


def test_modules_are_named_after_what_they_hold():
    names = {part.removesuffix(".py") for path in MODULES for part in path.relative_to(PACKAGE).parts}
    words = {word for name in names for word in name.split("_")}
    assert words.isdisjoint({"utils", "util", "helpers", "helper", "common", "base", "misc"})


def test_the_import_is_inert():
    """No plotting, no command line, and what it exports is there."""
    code = (
        "import sys, rsca_torch; "
        "assert all(hasattr(rsca_torch, name) for name in rsca_torch.__all__); "
        "print(*(name for name in sys.modules if name.split('.')[0] in ('rsca_torch', 'hydra', 'lightning', 'rich')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {name for name in loaded if name.split(".")[0] != "rsca_torch"} == set()
    # torchmetrics itself imports matplotlib where it is installed: so not sys.modules but the loaded files are asked.
    files = {".".join(("rsca_torch", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in MODULES}
    opened = [path for name, path in files.items() if name.removesuffix(".__init__") in loaded]
    assert len(opened) == len(loaded) >= 9
    for path in opened:
        assert "matplotlib" not in foreign(ast.parse(path.read_text())), path
