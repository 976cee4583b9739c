"""Nobody but the user's own page reads the runs, and nothing outside them."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
from vifscope_browser.app import create_app
from vifscope_browser.guard import UPLOAD_BYTES
from vifscope_browser.serve import listening, serve
from waitress.server import BaseWSGIServer

from vif_core.errors import UsageError


@pytest.fixture(scope="module")
def client(catalogue):
    return create_app(catalogue, port=8050).server.test_client()


OWN = {"Host": "127.0.0.1:8050"}


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:9", "evil.example:8050", "127.0.0.1.evil.example:8050"])
def test_a_foreign_host_is_refused(client, host):
    assert client.get("/", headers={"Host": host}).status_code == 403
    assert client.get("/", headers=OWN).status_code == 200
    assert client.get("/", headers={"Host": "localhost:8050"}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:9", "null", "https://127.0.0.1.evil:8050"])
def test_a_post_of_another_site_is_refused(client, origin):
    body = {"output": "x", "inputs": []}
    assert client.post("/_dash-update-component", json=body, headers=OWN | {"Origin": origin}).status_code == 403


def test_a_large_body_is_refused(client):
    sent = client.post("/_dash-update-component", data=b"0" * (UPLOAD_BYTES + 1), headers=OWN)
    assert sent.status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/picture/0/0/../../manifest.json",
        "/picture/0/0/..%2F..%2Fmanifest.json",
        "/picture/0/0/%2Fetc%2Fpasswd",
        "/picture/7/0/x",
        "/picture/0/99/{sample}",
        "/thumbnail/0/..%2f..%2f..%2fetc%2fpasswd",
        "/assets/../app.py",
        "/assets/..%2fapp.py",
    ],
)
def test_nothing_outside_the_runs_is_read(client, catalogue, path):
    got = client.get(path.format(sample=catalogue.samples.index[0]), headers=OWN)
    assert got.status_code in (400, 403, 404) or b"<title>vifscope</title>" in got.data, got.data[:200]
    assert b"root:" not in got.data
    assert b"schema" not in got.data[:200]


def test_pictures_are_served_by_sample(client, catalogue):
    got = client.get(f"/picture/0/0/{catalogue.samples.index[0]}", headers=OWN)
    assert (got.status_code, got.mimetype) == (200, "image/png")
    assert got.headers["X-Content-Type-Options"] == "nosniff"


def test_an_ipv6_address_is_listened_on_and_let_in(catalogue):
    server = listening(catalogue, "::1")
    try:
        assert server.socket.family == socket.AF_INET6
    finally:
        server.close()
    client = create_app(catalogue, "::1", 8050).server.test_client()
    assert client.get("/", headers={"Host": "[::1]:8050"}).status_code == 200
    assert client.get("/", headers={"Host": "[::2]:8050"}).status_code == 403


def test_of_a_folder_of_runs_the_newest_are_opened(run_folders, monkeypatch):
    opened = []

    def listen(catalogue, *_):
        opened.append([run.name for run in catalogue.runs])
        return listening(catalogue)

    monkeypatch.setattr("vifscope_browser.serve.listening", listen)
    monkeypatch.setattr(BaseWSGIServer, "run", BaseWSGIServer.close)
    serve([run_folders[0].parent], browser=False)
    serve([run_folders[1]], browser=False)
    assert opened == [["base", "vif"], ["vif"]]
    with pytest.raises(UsageError, match="is no run"):
        serve([run_folders[0] / "maps"], browser=False)


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_listening_for_others_is_warned_of(run_folders, monkeypatch, capsys, host, warned):
    monkeypatch.setattr(BaseWSGIServer, "run", BaseWSGIServer.close)
    serve(run_folders, host=host, port=0, browser=False)
    said = capsys.readouterr().err
    assert (f"warning: whoever reaches {host} can read these runs" in said) is warned
    assert "http://127.0.0.1:" in said


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["no-such-folder"], "no-such-folder"),
        (["{run}", "--port", "{taken}"], "cannot be listened on"),
    ],
)
def test_what_cannot_be_served_is_one_line(run_folders, address, arguments, line):
    given = [each.format(run=run_folders[0], taken=address.rpartition(":")[2]) for each in arguments]
    code = "from vifscope.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "app", "--no-browser", *given], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_port_that_cannot_be_is_refused():
    code = "from vifscope.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "app", "--port", "70000"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "65535" in done.stderr
