"""Follow a tutorial to the letter, and tell how long it took: `python experiments/tutorials/follow.py PAGE`.

In a new folder. Blocks of Python run in one session, commands in a shell with the `rsca` of the active environment.
Blocks that are to be saved are saved. What a page prints is compared by tests/test_tutorials.py.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Follow, and print minutes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    page = parser.parse_args().page.absolute()
    text = page.read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "__main__"}
    before, began = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for found in re.finditer(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            language, block = found[1], found[2]
            saved = re.search(r"Save as `([\w.]+)`:\s*\Z", text[before : found.start()])
            before = found.end()
            if saved:
                Path(saved[1]).write_text(block, encoding="utf-8")
            elif language == "python":
                exec(compile(block, str(page), "exec"), names)
            elif language == "sh":
                for line in block.splitlines():
                    code = subprocess.run(line, shell=True).returncode
                    told = re.search(r"# ends with exit code (\d)", line)
                    if code != int(told[1] if told else 0):
                        raise SystemExit(f"{line} ended with exit code {code}")
        os.chdir(page.parent)
    print(f"{page.stem}: {(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
