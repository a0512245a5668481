"""For griffe, which reads docstrings for the site: `Example:` and a bare `>>>` are sections, as `Examples:` is."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Otherwise an example's code would be text, its prompts quotations and its brackets links."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Of every docstring."""
        if obj.docstring is None:
            return
        text = re.sub(r"^Example:$", "Examples:", inspect.cleandoc(obj.docstring.value), flags=re.MULTILINE)
        obj.docstring.value = re.sub(
            r"^>>> .*?(?=\n\n|\Z)",
            lambda bare: "Examples:\n" + textwrap.indent(bare[0], "    "),
            text,
            flags=re.MULTILINE | re.DOTALL,
        )
