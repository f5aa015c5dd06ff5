"""Headless Chromium for tests: a page laid out at several widths, and what sticks out of where it belongs."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = (Path(__file__).parent / "page_probe.js").read_text()


def lay_out(page: str, widths: list[int], folder: Path) -> dict[int, dict[str, Any]]:
    """What the probe finds in a page at each width in pixels, each in a frame of its own of one window."""
    (folder / "page.html").write_text(page.replace("</body>", f"<script>{PROBE}</script></body>"), encoding="utf-8")
    frames = "".join(f'<iframe src="page.html" style="width:{width}px;height:800px;border:0"></iframe>'
                     for width in widths)
    collect = ("const found = []; addEventListener('message', event => { found.push(event.data);"
               "document.getElementById('found').textContent = JSON.stringify(found); });")
    (folder / "frames.html").write_text(f"<!DOCTYPE html><body><script>{collect}</script>{frames}<pre id=found></pre>")
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
         "--virtual-time-budget=20000", "--window-size=1600,900", "--dump-dom", f"file://{folder / 'frames.html'}"],
        capture_output=True, text=True, timeout=100)
    text = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    assert text and text[1], done.stderr[-2000:]
    return {one["width"]: one for one in json.loads(html.unescape(text[1]))}
