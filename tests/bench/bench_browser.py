"""How quickly a sample opens and a layer steps in Chromium, in milliseconds. Run by hand, on one run or more:

python tests/bench/bench_browser.py runs/BASELINE runs/VIF

A step lasts from the key's event to the second frame after it, its script from the event to the end of all that it
set off before that frame. A sample opens from the press on "next" to the frame in which its maps and pictures stand.
Samples with spotlights are stepped through with all of them drawn, at 1280 x 720.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import threading
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from vifscope_browser.catalogue import Catalogue
from vifscope_browser.serve import listening

STEPS, SAMPLES = 40, 15

STEP = """async (key) => {
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    const before = Number(document.getElementById("panels").dataset.layer);
    const start = performance.now();
    document.body.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
    const handled = performance.now();
    await frame();
    await frame();
    const shown = performance.now();
    if (Number(document.getElementById("panels").dataset.layer) === before) throw new Error("no step was drawn");
    await new Promise((done) => setTimeout(done, 100));
    return [shown - start, handled - start];
}"""

OPEN = """async () => {
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    const before = document.getElementById("panels"), start = performance.now();
    document.getElementById("next").click();
    for (;;) {
        const now = document.getElementById("panels");
        if (now && now !== before && now.dataset.layer !== undefined) break;
        await new Promise((done) => setTimeout(done));
    }
    await Promise.all([...document.querySelectorAll("#panels img")].map((picture) => picture.decode()));
    await frame();
    await frame();
    const shown = performance.now();
    await new Promise((done) => setTimeout(done, 500));
    return shown - start;
}"""


def told(name: str, taken: list[float]) -> None:
    ordered = sorted(taken)
    print(f"{name}: median {statistics.median(taken):.1f}, of {len(taken)} from {ordered[0]:.1f} to {ordered[-1]:.1f}")


def measure(page: Page) -> None:
    told("a sample opens", [page.evaluate(OPEN) for _ in range(SAMPLES)])
    if page.locator("#lights").is_visible():
        page.click("#lights")
        page.click("text=Spotlights: both")
    page.wait_for_load_state("networkidle")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    steps = [page.evaluate(STEP, "ArrowRight" if i % 8 < 4 else "ArrowLeft") for i in range(STEPS)]
    print(f"panels: {page.locator('#panels figure').count()}; requests during {STEPS} steps: {len(asked)}")
    told("a layer step, to the second frame", [shown for shown, _ in steps])
    told("a layer step, the key's own script", [handled for _, handled in steps])


def main(folders: list[str]) -> None:
    catalogue = Catalogue.open([Path(folder) for folder in folders])
    server = listening(catalogue)
    threading.Thread(target=server.run, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        last = catalogue.runs[0].num_layers - 1
        page.goto(f"http://127.0.0.1:{server.effective_port}/sample?layer={max(last - 4, 0)}")
        page.wait_for_selector("#panels[data-layer]")
        measure(page)
        browser.close()
    server.close()


if __name__ == "__main__":
    main(sys.argv[1:])
