"""The layering: imports run one way, at the top of the file, and importing the package costs nothing unasked."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rsca_torch

PACKAGE = Path(rsca_torch.__file__).parent
ORDER = (
    "errors drawing files parallel spectra ppca survey learners removal layers training evaluation export siblings "
    "testing explanation comparison report cli __main__"
).split()
#: Imported by name, when it is needed: Lightning takes seconds to import, which a closed form does not need.
LAZY = {
    # Who interrupts it while it is loaded is told so in one line, and so is who gives it too little memory for that.
    "rsca_torch.__main__": {"rsca_torch.cli.main"},
    "rsca_torch.training.fitting": {"rsca_torch.training.gradient_descent"},
    # matplotlib, where something is plotted.
    "rsca_torch.spectra.shown": {"rsca_torch.drawing.plots"},
    # joblib, where a sweep has processes of its own; the page at its end.
    "rsca_torch.cli.sweep": {"rsca_torch.parallel.workers", "rsca_torch.report.page.page"},
    # Packages of an extra, where they are asked for.
    "rsca_torch.cli.export": {
        f"rsca_torch.export.{name}" for name in ("onnx_file", "torch_file", "numpy_file", "hub_folder")
    },
}
ENTRY_POINT = "rsca_torch.learners"  # a name that packages are asked for, no import
LONGEST = 10  # folders and entry point that one chain of imports may pass through
DESIGN = (PACKAGE.parent / "docs" / "design.md").read_text(encoding="utf-8")
MODULES = sorted(PACKAGE.rglob("*.py"))
PARSED = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))


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


def named(tree):
    """The package modules that a file names in a text, as import_module takes them; text in docstrings has blanks."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words = node.value.split(".")
            if words[0] == "rsca_torch" and all(word.isidentifier() for word in words) and len(words) > 1:
                yield node.value


def dotted(path):
    """The dotted name of a module of the package."""
    return ".".join(("rsca_torch", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def folder(name):
    """The folder, or the module at the top, that a dotted name is in."""
    return name.split(".")[1] if "." in name else "__init__"


def edges():
    """module -> the package modules that it imports, at the top of the file or by name."""
    known = {dotted(path) for path in MODULES}
    for path in MODULES:
        tree = ast.parse(path.read_text())
        inside = {
            f"{node.module}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        packages = {name.rpartition(".")[0] for name in inside & known}  # a module of theirs is meant
        names = {*imported(tree), *named(tree)} - packages - {ENTRY_POINT}
        yield dotted(path), (names | inside) & known


def test_every_module_has_a_place_in_the_order():
    top = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES} - {"__init__"}
    assert top == set(ORDER)
    assert len([path for path in PACKAGE.iterdir() if path.name not in ("__pycache__", ".DS_Store")]) <= 23


@PARSED
def test_imports_run_one_way(path):
    own = folder(dotted(path))
    names = list(imported(ast.parse(path.read_text())))
    assert own != "__init__" or not names, "the public names are in __init__.pyi"
    if own == "__init__":
        return
    assert all("." in name for name in names), "import from the module that defines it, not from the package"
    assert {folder(name) for name in names} <= set(ORDER[: ORDER.index(own) + (path.parent != PACKAGE)])


def test_nothing_is_imported_by_name_but_what_is_declared():
    by_name = {}
    for path in MODULES:
        known = {dotted(each) for each in MODULES}
        found = {name for name in named(ast.parse(path.read_text())) if name in known} - {ENTRY_POINT}
        if found:
            by_name[dotted(path)] = found
    assert by_name == LAZY


def test_no_module_imports_what_imports_it():
    graph, done, path = dict(edges()), set(), []

    def visit(name):
        assert name not in path, f"a circle: {' -> '.join([*path[path.index(name) :], name])}"
        if name in done:
            return
        path.append(name)
        for other in sorted(graph.get(name, ())):
            visit(other)
        path.pop()
        done.add(name)

    for name in sorted(graph):
        visit(name)


def test_the_longest_chain_of_folders():
    below = {}
    for name, others in edges():
        below.setdefault(folder(name), set()).update({folder(other) for other in others} - {folder(name)})
    below.pop("__init__")
    length = {}
    for one in ORDER:  # what a folder imports stands before it
        length[one] = 1 + max((length[other] for other in below[one]), default=0)
    assert max(length.values()) <= LONGEST, length


def test_the_picture_of_the_design_is_true():
    """Its arrows are the imports between folders, without those that follow from others."""
    below = {one: set() for one in ORDER}
    for name, others in edges():
        if folder(name) != "__init__":
            below[folder(name)] |= {folder(other) for other in others} - {folder(name)}
    reached = {}
    for one in ORDER:
        reached[one] = set(below[one]).union(*(reached[other] for other in below[one]))
    plain = {
        (one, other)
        for one in ORDER
        for other in below[one]
        if not any(other in reached[between] for between in below[one] - {other})
    }
    assert set(re.findall(r"^    (\w+) --> (\w+)$", DESIGN, re.MULTILINE)) == plain


def test_the_design_names_every_module():
    for path in MODULES:
        name = path.stem if path.name != "__init__.py" else path.parent.name
        if path.parent.name != "simulated" and "cli" not in path.parts and "learners" not in path.parts:
            assert re.search(rf"\b{name}\b", DESIGN), f"{path.relative_to(PACKAGE)} has no place in docs/design.md"


def test_files_are_short_enough_to_read():
    for path in MODULES:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 300 or f"`{path.relative_to(PACKAGE)}`" in DESIGN, f"{path}: {lines} lines, and no reason why"


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


def loaded_by(code):
    """The modules that are there after this."""
    code = f"import sys; {code}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_the_public_names_come_from_below_what_reads_stores_and_configurations():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    homes = {
        (node.module or alias.name).split(".")[0]
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert homes <= set(ORDER[: ORDER.index("comparison")])
    for package in (rsca_torch, rsca_torch.learners):
        assert all(hasattr(package, name) for name in package.__all__)
        stub = ast.parse((Path(package.__file__).with_suffix(".pyi")).read_text())
        (told,) = [node.value for node in stub.body if isinstance(node, ast.Assign)]
        assert sorted(ast.literal_eval(told)) == sorted(package.__all__)
    with pytest.raises(AttributeError, match="RSCB"):
        rsca_torch.RSCB  # noqa: B018


@pytest.mark.parametrize(
    ("code", "unasked"),
    [
        ("import rsca_torch", {"torch", "numpy", "astropy", "scipy"}),
        ("from rsca_torch import RSCA", {"lightning", "torchmetrics", "sklearn", "pandas", "matplotlib", "hydra"}),
        (
            "from rsca_torch import Spectra; Spectra([[1.0, 2.0]])._repr_html_()",
            {"lightning", "torchmetrics", "sklearn", "pandas", "matplotlib", "hydra", "IPython"},
        ),
        ("import rsca_torch.cli.main", {"lightning", "torchmetrics", "sklearn", "pandas", "matplotlib", "joblib"}),
    ],
    ids=["package", "layer", "notebook", "command"],
)
def test_an_import_loads_nothing_unasked(code, unasked):
    assert {name.split(".")[0] for name in loaded_by(code)} & (unasked | {"pytorch_metric_learning"}) == set()
