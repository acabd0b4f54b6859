"""A real browser without a window: what it prints, measures and finds in a page."""

from __future__ import annotations

import html as escaping
import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


def browse(page: Path, width: int, *arguments: str, height: int = 2400) -> str:
    """Run chromium without a window on a file; return what it prints."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         f"--window-size={width},{height}", f"--user-data-dir={page.parent / 'browser'}",
         *arguments, page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


def found_in(page: Path, width: int, script: str, height: int = 2400) -> Any:
    """Return what a script leaves in ``found``, in a frame of this size around the page.

    A window cannot be narrower than 500 pixels. The page's policy, which allows no script but
    its own, is taken out. What the script awaits is waited for.
    """
    tell = "parent.document.body.textContent = 'found ' + JSON.stringify(found) + ' end';"
    text = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text(encoding="utf-8"))
    body = f"(async () => {{ {script}\n{tell} }})();"
    text = text.replace("</body>", f"<script>{body}</script></body>")
    frame = page.with_name("frame.html")
    frame.write_text(
        f'<meta charset="utf-8"><body style="margin: 0"><iframe style="border: 0" width="{width}" '
        f'height="{height}" srcdoc="{escaping.escape(text)}"></iframe></body>',
        encoding="utf-8",
    )
    waiting = "--virtual-time-budget=60000"
    seen = escaping.unescape(browse(frame, max(width, 1400), "--dump-dom", waiting))
    found = re.search(r"found (.*) end", seen, re.S)
    assert found, seen[-2000:]
    return json.loads(found[1])


def accessibility_faults(page: Path, width: int) -> list[str]:
    """Return what axe-core calls serious or critical in a page: its rule, and where."""
    spec = importlib.util.find_spec("axe_core_python")
    if spec is None or spec.origin is None:
        pytest.skip("axe-core-python is not installed (make test)")
    axe = Path(spec.origin).with_name("axe.min.js").read_text(encoding="utf-8")
    wanted = "const found = (await axe.run(document, {resultTypes: ['violations']})).violations;"
    return [
        f"{one['id']}: {node['html'][:120]}"
        for one in found_in(page, width, f"{axe}\n{wanted}")
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def printed(page: Path) -> bytes:
    """Return the PDF that chromium prints of a page."""
    pdf = page.with_suffix(".pdf")
    browse(page, 1280, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    return pdf.read_bytes()
