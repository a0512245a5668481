"""report.html as tests read it: its texts, its scripts, and what it does in a browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest


class Read(HTMLParser):
    """Texts, scripts by id, and everything that is fetched from somewhere."""

    def __init__(self, page):
        super().__init__()
        self.inside, self.text, self.scripts, self.sources, self.tags = [], [], {}, [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.sources += [value for name, value in attrs.items() if name in ("src", "href", "srcset", "data", "action")]
        if tag in ("script", "style"):
            self.inside.append(attrs.get("id") or tag)

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.inside.pop()

    def handle_data(self, data):
        if self.inside:
            self.scripts[self.inside[-1]] = self.scripts.get(self.inside[-1], "") + data
        else:
            self.text.append(data)

    @property
    def said(self):
        return " ".join(" ".join(self.text).split())


def page_of(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


TRIED = """
<script>
addEventListener("error", (event) => { parent.postMessage({ error: event.message }, "*"); });
const wait = (time) => new Promise((go) => setTimeout(go, time));
const until = async (ready) => { for (let n = 0; n < 200 && !ready(); n++) await wait(50); };
const texts = (part) => part.textContent + (part.shadowRoot ? deep(part.shadowRoot) : "");
const deep = (root) => [...root.querySelectorAll("*")].map(texts).join(" ");
(async () => {
  const told = {};
  %s
  told.width = innerWidth;
  told.wide = document.documentElement.scrollWidth <= document.documentElement.clientWidth;
  parent.postMessage(told, "*");
})();
</script>
</body>
"""
#: A window of Chromium is 500 pixels wide at least; a frame in it may be as narrow as a phone.
FRAME = """<!DOCTYPE html>
<iframe src="page.html" style="width: %dpx; height: 900px; border: 0"></iframe>
<script>
addEventListener("message", (event) => {
  const text = document.createElement("pre");
  text.textContent = JSON.stringify(event.data);
  document.body.append(text);
});
</script>
"""


def browsed(page, folder, width, script=""):
    """What a script finds in a page in Chromium, in its object `told`; there is no network, and no error is seen."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs Chromium")
    (folder / "page.html").write_text(page.replace("</body>", TRIED.replace("%s", script)), encoding="utf-8")
    path = folder / "frame.html"
    path.write_text(FRAME % width, encoding="utf-8")
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1400,1000",
        "--virtual-time-budget=20000",
        f"--user-data-dir={folder}/profile",
        "--enable-logging=stderr",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    done = subprocess.run(
        [chromium, *options, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "[bokeh" not in line]
    assert not console
    (told,) = re.findall("<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    told = json.loads(html.unescape(told))
    assert told["width"] == width, told
    return told
