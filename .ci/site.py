"""What the documentation site shows and nobody writes by hand: a hook of mkdocs (.mkdocs.yml).

Data comes from the package's docstrings, the comments in conf/, `rsca COMMAND --help` and the tutorials' blocks, and
goes to pages under reference/ and notebooks beside the tutorials. Formulas (fences called `math`) become MathML, which
browsers show without a script; their font is copied to the site.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[1]
DOCS, CONF = ROOT / "docs", ROOT / "conf"
WIDTH = 100  # columns of a command's help
FONT = "fonts/STIXTwoMath-Regular.ttf"  # of the package ziamath
NOTEBOOKS = ("my-arrays",)  # tutorials that are notebooks too
SHOWN = 60  # characters of a value in a table


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Formulas, and the pages of the Python reference in the navigation."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "math", "class": "math", "format": formula})
    (reference,) = (part["Reference"] for part in config.nav or [] if "Reference" in part)
    (python,) = (part for part in reference if "Python" in part)
    python["Python"] = [{folder: f"reference/python/{folder}.md"} for folder in public()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what is made."""
    from mkdocs.structure.files import File

    made = {"reference/commands.md": commands(), "reference/configuration.md": configuration()}
    made |= {f"reference/python/{folder}.md": python_page(folder, names) for folder, names in public().items()}
    for page in NOTEBOOKS:
        made[f"tutorials/{page}.ipynb"] = notebook((DOCS / "tutorials" / f"{page}.md").read_text(encoding="utf-8"))
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    ziamath = importlib.import_module("ziamath").__file__
    files.append(File.generated(config, FONT, abs_src_path=str(Path(str(ziamath)).parent / FONT)))
    return files


def formula(source: str, *_: object, **__: object) -> str:
    r"""LaTeX as MathML; what stands in `\tag{...}` is the formula's number, in the margin."""
    from latex2mathml.converter import convert

    number = "".join(re.findall(r"\\tag\{(.*?)\}", source))
    lines = [line for line in re.sub(r"\\tag\{.*?\}", "", source).strip().split("\n\n") if line.strip()]
    shown = "".join(f"<div>{convert(line.strip(), display='block')}</div>" for line in lines)
    anchor = f' id="equation-{escape(number)}"' if number else ""
    return (
        f'<div class="formula"{anchor}><div>{shown}</div><span>{f"({escape(number)})" if number else ""}</span></div>'
    )


def public() -> dict[str, list[str]]:
    """Folder of rsca_torch/ -> dotted names: what the package names, and what blocks of the pages import."""
    package = importlib.import_module("rsca_torch")
    learners = importlib.import_module("rsca_torch.learners")
    things = [(module, name) for module in (package, learners) for name in module.__all__]
    things += [(importlib.import_module(module), name) for module, name in imported()]
    found: defaultdict[str, set[str]] = defaultdict(set)
    for module, name in things:
        thing = getattr(module, name, None)  # None: a module that nobody imported yet
        where = str(getattr(thing, "__module__", ""))
        if where.startswith("rsca_torch."):  # no module, nor the version
            folder = where.split(".")[1] if where.count(".") > 1 else "rsca_torch"
            found[folder].add(f"{where}.{getattr(thing, '__name__', name)}")
    return {folder: sorted(found[folder], key=lambda name: name.rpartition(".")[2].lower()) for folder in sorted(found)}


def imported() -> Iterator[tuple[str, str]]:
    """(module, name) of what the pages' blocks of Python import of this package."""
    for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]:
        for block in re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "rsca_torch":
                    yield from ((str(node.module), each.name) for each in node.names)


def python_page(folder: str, names: list[str]) -> str:
    """Of a folder: what it is, then each public name from its docstring."""
    module = "rsca_torch" if folder == "rsca_torch" else f"rsca_torch.{folder}"
    said = importlib.import_module(module).__doc__ or ""
    imports = "\n".join(f"- [`{name}`][{name}]" for name in names)
    return "\n\n".join([f"# {module}", said.split("\n\n")[0], imports, *(f"::: {name}" for name in names)]) + "\n"


def commands() -> str:
    """`rsca COMMAND --help` of every command."""
    from rsca_torch.cli.help import help_of
    from rsca_torch.cli.main import COMMANDS
    from rsca_torch.learners.registry import register

    register()
    head = (
        "# Commands\n\nWhat `rsca COMMAND --help` prints, for every command. An option is typed `key=value` behind the "
        "command's name; [configuration](configuration.md) has those of every group that may be chosen.\n"
    )
    parts = [f"## rsca {name}\n\n```text\n{help_of(name, [], WIDTH)}\n```\n" for name in COMMANDS]
    return "\n".join([head, *parts])


def configuration() -> str:
    """Every YAML of conf/: its first sentence, and each key with its value and its comment."""
    from rsca_torch.cli.meanings import first_sentence

    head = (
        "# Configuration\n\nThe groups of options, as the files of `conf/` have them. `GROUP=NAME` chooses one on the "
        "command line, `GROUP.key=value` changes one of its options. [Commands](commands.md) says which command has "
        "which.\n"
    )
    parts = [head]
    for folder in sorted(each for each in CONF.iterdir() if each.is_dir()):
        parts.append(f"## {folder.name}\n")
        for path in sorted(folder.glob("*.yaml")):
            text = path.read_text(encoding="utf-8")
            parts.append(f"### {folder.name}={path.stem}\n\n{_cell(first_sentence(text))}.\n")
            rows = [f"| `{key}` | {value} | {_cell(said)} |" for key, value, said in options(text)]
            if rows:
                parts.append("\n".join(["| key | value | what it means |", "|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def options(text: str) -> Iterator[tuple[str, str, str]]:
    """(dotted key, value as Markdown, meaning) of a YAML."""
    from rsca_torch.cli.meanings import comments

    values: Any = yaml.safe_load(text) or {}
    meanings = comments(text)
    for key, said in meanings.items():
        found: Any = values
        for part in key.split("."):
            found = found.get(part, KeyError) if isinstance(found, dict) else KeyError
        if found is KeyError:  # a place that the defaults list fills
            continue
        if isinstance(found, dict) and any(f"{key}.{inner}" in meanings for inner in found):
            yield key, "", said
            continue
        written = yaml.safe_dump(found, default_flow_style=True, width=10_000, sort_keys=False).split("\n")[0]
        written = written if len(written) <= SHOWN else f"{written[: SHOWN - 3]}..."
        yield key, f"`{_cell(written, code=True)}`", said


def _cell(text: str, code: bool = False) -> str:
    """Text in a table's cell: nothing in it ends the cell or starts markup."""
    safe = text.replace("|", "\\|")
    return safe if code else re.sub(r"([*_\[\]{}])", r"\\\1", escape(safe, quote=False))


def notebook(text: str) -> str:
    """A tutorial as a notebook: its blocks of Python are cells."""
    import jupytext

    made = jupytext.reads(text, fmt="md")
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for number, cell in enumerate(made.cells):
        cell["id"] = f"cell-{number}"  # jupytext draws them at random
    return str(jupytext.writes(made, fmt="ipynb"))
