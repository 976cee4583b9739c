"""What a request must satisfy: a page on another site cannot read the runs, and nobody can name a path."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Flask, abort, request

UPLOAD_BYTES = 16 * 2**20
EVERYWHERE = ("0.0.0.0", "::")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def bracketed(host: str) -> str:
    """A host as it stands in an address: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def guard(server: Flask, host: str, port: int) -> None:
    """Refuses foreign Host headers (403; any host where it listens on all), cross-origin POSTs (403) and large bodies
    (413)."""
    server.config["MAX_CONTENT_LENGTH"] = UPLOAD_BYTES
    names = {bracketed(host), "127.0.0.1", "localhost"}
    hosts = {f"{name}:{port}" for name in names} | (names if port == 80 else set())
    everywhere = host in EVERYWHERE

    @server.before_request
    def check() -> None:
        if not everywhere and request.host not in hosts:
            abort(403, "This address is not the one that vifscope app listens on.")
        origin = request.headers.get("Origin")
        if request.method == "POST" and origin is not None and urlsplit(origin).netloc != request.host:
            abort(403, "A page of another site cannot ask vifscope app.")
        if (request.content_length or 0) > UPLOAD_BYTES:
            abort(413)

    @server.after_request
    def harden(response):
        response.headers.update(HEADERS)
        return response
