"""Opens a report in headless Chromium at 390 and 1400 px and prints it: no error, no request, nothing too wide.

    python tests/peers/report_page.py RUN            (a trainer's output folder for sadness: a report with every part is made)
    python tests/peers/report_page.py index.html     (a report that is there)

Checked at both widths: no message on the console, nothing loaded from outside the file, the page no wider than the window,
no text cut off; at 1400 px no table needs scrolling either. On A4 no table is wider than the paper. Pictures of the pages
go to target/peers/. Needs Debian's chromium (skipped without one). Pinned versions: requirements.txt.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import yaml
from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).resolve().parents[2]
PICTURES = ROOT / "target/peers"
WIDTHS = {390: "phone", 1400: "desk"}
A4_PX = 718  # 210 mm less 10 mm at both sides, at 96 pixels an inch
SKIPPED = 77
PATIENCE_MS = 180_000  # the phone's picture is 60,000 px high

TOO_WIDE = """(limit) => [...document.querySelectorAll('body *')].filter(e => {
  const box = e.getBoundingClientRect();
  return box.width > 0 && box.right > limit + 1 && !e.closest('.scroll') && !e.closest('pre') && !e.closest('svg');
}).map(e => e.tagName + '.' + e.className + ': ' + e.textContent.slice(0, 40))"""
SCROLLING = """() => [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1)
  .map(e => e.previousElementSibling?.textContent + ': ' + e.scrollWidth + ' > ' + e.clientWidth)"""
WIDE_TABLES = """(limit) => [...document.querySelectorAll('table')].filter(t => t.getBoundingClientRect().width > limit + 1)
  .map(t => t.className + ': ' + t.getBoundingClientRect().width + ' px')"""
CUT_OFF = """() => [...document.querySelectorAll('td, th, figcaption, dd, dt, h1, h2, h3, p')].filter(e => {
  const style = getComputedStyle(e);
  return style.overflow === 'hidden' && e.scrollWidth > e.clientWidth + 1;
}).map(e => e.textContent.slice(0, 40))"""


def main():
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("skipped: no chromium on this machine (Debian: apt-get install chromium)")
        sys.exit(SKIPPED)
    given = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        page = given if given.suffix == ".html" else report_of(given, pathlib.Path(folder))
        problems = look(page, chromium)
    for problem in problems:
        print(problem)
    sys.exit(bool(problems))


def report_of(run, folder):
    """The second of two nights with every method, a paper's table and EmoEdit's columns, on three faces."""
    recipe = yaml.safe_load((ROOT / "configs/nightly.yaml").read_text())
    recipe |= {"emotions": ["sadness"], "runs": [{"method": "joint", "run": str(run)}], "compatibility": "emoedit",
               "published": ["manifests/published/emoedit.yaml"], "output_dir": str(folder / "reports")}  # fmt: skip
    recipe["sources"]["max_images"] = 3
    for method in recipe["methods"]:
        if "run" in method:
            method["run"] = str(run)
    path = folder / "nightly.yaml"
    path.write_text(json.dumps(recipe))
    for date in ("2026-01-30", "2026-01-31"):
        command = [ROOT / "target/release/evaluator", "--config", path, "--date", date]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode not in (0, 1):  # 1: a gate, which a run of four steps may miss
            sys.exit(done.stderr)
    return folder / "reports/2026-01-31/index.html"


def look(path, chromium):
    problems = []
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        for width, name in WIDTHS.items():
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.on("console", lambda message: problems.append(f"{name}: console: {message.text}"))
            page.on("pageerror", lambda error: problems.append(f"{name}: {error}"))
            page.on("request", lambda request: outside(request.url, path) and problems.append(f"{name}: asks for {request.url}"))
            page.goto(path.as_uri())
            problems += [f"{name}: wider than the window: {found}" for found in page.evaluate(TOO_WIDE, width)]
            problems += [f"{name}: cut off: {found}" for found in page.evaluate(CUT_OFF)]
            if page.evaluate("document.documentElement.scrollWidth") > width:
                problems.append(f"{name}: the page scrolls sideways")
            if name == "desk":
                problems += [f"{name}: a table needs scrolling: {found}" for found in page.evaluate(SCROLLING)]
            page.screenshot(path=PICTURES / f"report-{name}.png", full_page=True, timeout=PATIENCE_MS)
            page.close()
        page = browser.new_page(viewport={"width": A4_PX, "height": 1000})
        page.emulate_media(media="print")
        page.goto(path.as_uri())
        problems += [f"print: wider than the paper: {found}" for found in page.evaluate(WIDE_TABLES, A4_PX)]
        page.pdf(path=PICTURES / "report.pdf", format="A4", margin=dict.fromkeys(("left", "right", "top", "bottom"), "10mm"))
        browser.close()
    return problems


def outside(url, path):
    return not url.startswith("data:") and url != path.as_uri()


if __name__ == "__main__":
    main()
