"""From folders to a page that is served: which runs, at what address, by what server."""

from __future__ import annotations

import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import waitress
from waitress.server import BaseWSGIServer

from vif_core.errors import UsageError
from vifscope.runs.manifest import MANIFEST
from vifscope_browser.app import create_app
from vifscope_browser.ask import Asker
from vifscope_browser.catalogue import Catalogue
from vifscope_browser.guard import EVERYWHERE, bracketed

LOCAL = "127.0.0.1"
NEWEST = 2
DEMO = Path("runs") / "demo"
ASKED = Path("runs") / "asked"
DEMO_SAMPLES = 24
THREADS = 8


def serve(
    paths: Sequence[Path],
    *,
    model: str | None = None,
    device: str = "auto",
    host: str = LOCAL,
    port: int = 8050,
    browser: bool = True,
) -> None:
    """Serves the runs until interrupted, and a page that asks `model`, whose answers are kept in runs/asked.

    paths: of runs, or of one folder of runs, of which the newest two are opened; of runs/ where none is given.
    Raises UsageError where a folder is no run or the port is taken.
    """
    folders = paths or [Path("runs")]
    held = newest_runs(folders[0]) if len(folders) == 1 and not (folders[0] / MANIFEST).exists() else []
    catalogue = Catalogue.open(held or paths or [_demo()])
    for problem in catalogue.problems:
        print(f"vifscope: {problem}", file=sys.stderr)
    server = listening(catalogue, host, port, Asker(catalogue, model, ASKED, device) if model else None)
    if host != LOCAL:
        can = "read these runs" + (" and ask the model" if model else "")
        print(f"vifscope: warning: whoever reaches {host} can {can}", file=sys.stderr)
    address = f"http://{LOCAL if host in EVERYWHERE else bracketed(host)}:{server.effective_port}/"
    print(f"{address}  (Ctrl-C ends it)", file=sys.stderr)
    if browser:
        threading.Timer(0.3, webbrowser.open, (address,)).start()
    server.run()


def listening(catalogue: Catalogue, host: str = LOCAL, port: int = 0, asker: Asker | None = None) -> BaseWSGIServer:
    """A server of the app that listens, to be `run`. port 0: a free one. Raises UsageError where it cannot listen."""
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UsageError(
            f"{bracketed(host)}:{port} cannot be listened on ({error.strerror})",
            next_step="Name another port with --port (0: a free one) or an address of this machine with --host",
        ) from error
    app = create_app(catalogue, host=host, port=listener.getsockname()[1], asker=asker)
    return waitress.create_server(app.server, sockets=[listener], threads=THREADS)


def newest_runs(folder: Path) -> list[Path]:
    """The newest runs in a folder, at most two, the older first."""
    manifests = sorted(folder.glob("*/manifest.json"), key=lambda path: path.stat().st_mtime)
    return [path.parent for path in manifests[-NEWEST:]]


def _demo() -> Path:
    """A small run of the embedded model, made where there is none."""
    from vifscope.api import analyze

    print(f"vifscope: no run in runs/; measuring {DEMO_SAMPLES} samples of mini-llava", file=sys.stderr)
    return analyze(n=DEMO_SAMPLES, out=DEMO, figures=False).path
