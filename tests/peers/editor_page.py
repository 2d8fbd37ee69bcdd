"""Uses the editor's page in headless Chromium as a person does, and holds what it downloads against `editor`'s own file.

    python tests/peers/editor_page.py RUN            (a run's folder; its first emotion is pressed)
    python tests/peers/editor_page.py RUN --axe      (axe-core, from npm, looks for barriers in every state of the page)

Drops a photo, presses an emotion, moves the slider by keys, drags the divider, looks at the sweep, downloads. Checked at
390 px (dark) and 1400 px (light): no message on the console, no request to elsewhere, nothing wider than the window, no
older picture in a newer one's place. Screenshots go to target/peers/. Needs Debian's chromium, and --axe needs npm (skipped
without). Pinned versions: requirements.txt; axe-core below.
"""
import base64
import io
import pathlib
import shutil
import subprocess
import sys
import tempfile

from editor_server import ROOT, by_editor, server
from PIL import Image
from playwright.sync_api import sync_playwright

PICTURES = ROOT / "target/peers"
PHOTOS = ROOT / "tests/fixtures"
WINDOWS = {"desk": (1400, 900, "light"), "phone": (390, 844, "dark")}
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
AXE = "axe-core@4.14.1"
SERIOUS = ("serious", "critical")
SKIPPED = 77
PATIENCE_MS = 120_000

DROP = """([name, kind, content]) => {
  const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type: kind }));
  dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
}"""
TOO_WIDE = """(limit) => [...document.querySelectorAll('body *')].filter(e => {
  const box = e.getBoundingClientRect();
  return box.width > 0 && (box.right > limit + 1 || box.left < -1) && !e.closest('.strip');
}).map(e => `${e.tagName}.${e.className}: ${e.textContent.slice(0, 40)}`)"""
SHOWN = """() => {
  const image = document.getElementById('after');
  const canvas = Object.assign(document.createElement('canvas'), { width: image.naturalWidth, height: image.naturalHeight });
  canvas.getContext('2d').drawImage(image, 0, 0);
  return canvas.toDataURL('image/png').split(',')[1];
}"""


def main():
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("skipped: no chromium on this machine (Debian: apt-get install chromium)")
        sys.exit(SKIPPED)
    run = pathlib.Path(sys.argv[1]).resolve()
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        axe = axe_source(pathlib.Path(folder)) if "--axe" in sys.argv else None
        problems = look(run, chromium, pathlib.Path(folder), axe)
    for problem in problems:
        print(problem)
    sys.exit(bool(problems))


def axe_source(folder):
    if shutil.which("npm") is None:
        print("skipped: axe-core needs npm, which is not here")
        sys.exit(SKIPPED)
    packed = subprocess.run(["npm", "pack", "--silent", AXE], cwd=folder, capture_output=True, text=True)
    if packed.returncode != 0:
        print(f"skipped: npm cannot fetch {AXE}: {packed.stderr.strip()[-200:]}")
        sys.exit(SKIPPED)
    subprocess.run(["tar", "-xzf", packed.stdout.strip().splitlines()[-1]], cwd=folder, check=True)
    return (folder / "package/axe.min.js").read_text()


def look(run, chromium, folder, axe):
    problems = []
    with server(run) as editor, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        for name, (width, height, scheme) in WINDOWS.items():
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.on("console", lambda message, name=name: problems.append(f"{name}: console: {message.text}"))
            page.on("pageerror", lambda error, name=name: problems.append(f"{name}: {error}"))
            page.on("request", lambda r, name=name: elsewhere(r.url, editor.at) and problems.append(f"{name}: asks for {r.url}"))
            visit = Visit(page, name, width, axe, problems)
            visit.use(run, editor, folder)
            context.close()
        browser.close()
    return problems


def elsewhere(url, at):
    return not url.startswith((f"http://{at}/", f"blob:http://{at}/"))


class Visit:
    """A person with two photos before one window."""

    def __init__(self, page, name, width, axe, problems):
        self.page, self.name, self.width, self.axe, self.problems = page, name, width, axe, problems

    def expect(self, holds, what):
        if not holds:
            self.problems.append(f"{self.name}: {what}")

    def state(self, label):
        """A picture of the page as it is now, its width, and what axe says of it."""
        self.page.evaluate("scrollTo(0, 0)")
        too_wide = self.page.evaluate(TOO_WIDE, self.width)
        self.expect(not too_wide, f"{label}: wider than the window: {too_wide}")
        self.expect(self.page.evaluate("document.documentElement.scrollWidth") <= self.width, f"{label}: scrolls sideways")
        self.page.screenshot(path=PICTURES / f"editor-{self.name}-{label}.png", full_page=True)
        if self.axe is None:
            return
        self.page.evaluate(self.axe)
        found = self.page.evaluate("axe.run()")["violations"]
        for violation in found:
            line = f"{label}: axe: {violation['impact']}: {violation['id']}: {violation['nodes'][0]['html'][:120]}"
            print(f"{self.name}: {line}")
            self.expect(violation["impact"] not in SERIOUS, line)

    def drop(self, path, kind):
        content = base64.b64encode(path.read_bytes()).decode()
        self.page.evaluate(DROP, [path.name, kind, content])

    def wait_for_edit(self, strength):
        self.page.wait_for_function("(text) => document.getElementById('after').alt.endsWith(text)", arg=f"at {strength}")
        self.page.wait_for_function("() => !document.getElementById('frame').classList.contains('working')")

    def use(self, run, editor, folder):
        page = self.page
        page.goto(f"http://{editor.at}/")
        page.wait_for_selector("#emotions button")
        self.state("empty")
        photo = PHOTOS / "photos/exif/dated.jpg"
        self.drop(photo, "image/jpeg")
        page.locator("#compare").wait_for()
        emotion = page.locator("#emotions button").first
        emotion.click()
        self.wait_for_edit("0.5")
        self.expect(emotion.get_attribute("aria-pressed") == "true", "the pressed emotion does not say so")
        self.keys_move_the_strength(run, photo, emotion.get_attribute("data-emotion"), folder)
        self.divider_follows()
        page.get_by_role("button", name="Compare strengths").click()
        page.wait_for_function("() => document.querySelectorAll('.strip img:not([hidden])').length === 6")
        self.state("edited")
        self.downloads(run, photo, emotion.get_attribute("data-emotion"), folder)
        page.get_by_text("How these edits are made").click()
        page.get_by_role("link", name="edit_config.json").first.wait_for()
        self.state("about")
        page.get_by_role("button", name="Forget").click()
        page.get_by_text("The photo is forgotten").wait_for()
        self.refuses_what_is_no_photo()

    def keys_move_the_strength(self, run, photo, emotion, folder):
        slider = self.page.get_by_label("Strength", exact=True)
        slider.focus()
        for _ in range(5):  # quicker than pictures come: only the last one may stay
            self.page.keyboard.press("ArrowRight")
        self.wait_for_edit("0.75")
        by_editor(run, photo, folder / "shown.png", emotion, 0.75)
        shown = Image.open(io.BytesIO(base64.b64decode(self.page.evaluate(SHOWN)))).convert("RGB")
        same = shown.tobytes() == Image.open(folder / "shown.png").convert("RGB").tobytes()
        self.expect(same, "the picture shown is not the edit at 0.75")

    def divider_follows(self):
        divider, box = self.page.get_by_role("slider", name="Divider"), self.page.locator("#frame").bounding_box()
        middle = box["y"] + box["height"] / 2
        self.page.mouse.move(box["x"] + box["width"] / 2, middle)
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + box["width"] * 0.3, middle, steps=4)
        self.page.mouse.up()
        at = int(divider.get_attribute("aria-valuenow"))
        self.expect(abs(at - 30) <= 2, f"the divider is at {at}, dragged to 30")
        divider.focus()
        self.page.keyboard.press("ArrowRight")
        self.expect(int(divider.get_attribute("aria-valuenow")) == at + 2, "the divider does not follow the keys")
        self.page.keyboard.press("Home")
        self.expect(divider.get_attribute("aria-valuenow") == "0", "Home is not the left end")
        for _ in range(5):
            self.page.keyboard.press("PageUp")

    def downloads(self, run, photo, emotion, folder):
        for button, suffix in (("PNG", "png"), ("JPEG", "jpg"), ("WebP", "webp")):
            with self.page.expect_download() as waiting:
                self.page.get_by_role("button", name=button, exact=True).click()
            name = waiting.value.suggested_filename
            self.expect(name == f"dated.{emotion}.strength-0.75.{suffix}", f"the download is called {name}")
            expected = by_editor(run, photo, folder / f"own.{suffix}", emotion, 0.75)
            same = pathlib.Path(waiting.value.path()).read_bytes() == expected
            self.expect(same, f"the downloaded {button} is not editor's own file")

    def refuses_what_is_no_photo(self):
        before = len(self.problems)
        self.drop(PHOTOS / "images/text.png", "image/png")
        self.page.get_by_role("alert").get_by_text("not a photo that can be read").wait_for()
        # Chromium itself notes every answer of 4xx on the console.
        mine = [p for p in self.problems[before:] if "status of 422" not in p]
        self.problems[before:] = mine
        self.state("refused")


if __name__ == "__main__":
    main()
