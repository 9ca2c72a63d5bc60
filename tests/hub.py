"""A hub on this machine that speaks the routes of Hugging Face's that are used."""

import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

TOKEN = "hf_secretOfTheTests"


class Hub:
    """Repositories, and what was asked of them.

    Attributes:
        repositories: `owner/name` → its commits by revision, each a dictionary of files.
        gated: repositories that only `TOKEN` opens.
        ranges: whether the store of large files knows ranges.
        spoiled: names of files of which other bytes are given than are listed.
        asked: method, path, Range and Authorization of each request; those of the store of large
            files, to which it redirects as Hugging Face does, begin with `/store`.
        before_piece: called with path and first byte before a large file's bytes are sent.
    """

    def __init__(self):
        self.repositories, self.gated, self.spoiled, self.asked = {}, set(), set(), []
        self.ranges = True
        self.before_piece = lambda path, start: None
        self.url = self.store = ""

    def add(self, repository: str, files: dict[str, bytes], revision: str = "main") -> str:
        """Add a commit, to which `revision` points from now on; returns it."""
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        revisions = self.repositories.setdefault(repository, {})
        revisions[revision] = revisions[commit] = (commit, files)
        return commit


@contextlib.contextmanager
def serving(monkeypatch, home: Path):
    """A hub and its store of large files, each at an address of its own.

    Commands that are started meanwhile take it for Hugging Face's, and have no token.
    """
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url = f"http://127.0.0.1:{servers[0].server_port}"
    hub.store = f"http://localhost:{servers[1].server_port}/store"
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(home))
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        own = self.headers.get("Range"), self.headers.get("Authorization")
        self.hub.asked.append((self.command, path, *own))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self.list(found[1], found[2] or "main")
        elif found := re.fullmatch(r"(/store)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.give(path, *found.groups())
        else:
            self.refuse(404, "EntryNotFound")

    def open(self, repository: str, revision: str):
        """Commit and files; None after an answer that says why not."""
        revisions = self.hub.repositories.get(repository)
        has_token = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if revisions is None:
            self.refuse(401, "RepoNotFound")
        elif repository in self.hub.gated and not has_token:
            self.refuse(401 if "Authorization" not in self.headers else 403, "GatedRepo")
        elif revision not in revisions:
            self.refuse(404, "RevisionNotFound")
        else:
            return revisions[revision]

    def list(self, repository, revision):
        if not (found := self.open(repository, revision)):
            return
        commit, files = found
        siblings = [self.entry(name, content) for name, content in files.items()]
        self.answer(200, json.dumps({"id": repository, "sha": commit, "siblings": siblings}))

    def entry(self, name, content):
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry = {"rfilename": name, "size": len(content), "blobId": blob}
        if is_large(name):
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
        return entry

    def give(self, path, in_store, repository, revision, name):
        if in_store:
            content = self.hub.repositories[repository][revision][1][name]
        else:
            if not (found := self.open(repository, revision)):
                return
            if (content := found[1].get(name)) is None:
                self.refuse(404, "EntryNotFound")
                return
            if is_large(name):
                place = f"{self.hub.store}/{repository}/resolve/{revision}/{name}"
                self.answer(302, "", Location=place)
                return
        if name in self.hub.spoiled:
            content = bytes(len(content))
        start, end = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups()
        self.hub.before_piece(path, int(start))
        if not self.hub.ranges:
            self.answer(200, content)
            return
        self.answer(206, content[int(start) : int(end) + 1])

    def refuse(self, status, code):
        self.answer(status, "", **{"X-Error-Code": code, "X-Error-Message": code})

    def answer(self, status, body, **headers):
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in (headers | {"Content-Length": len(body)}).items():
            self.send_header(name, str(value))
        self.end_headers()
        with contextlib.suppress(OSError):  # who asked is gone
            self.wfile.write(body if self.command != "HEAD" else b"")


def is_large(name: str) -> bool:
    """Whether a file is kept outside Git."""
    return name.endswith((".gguf", ".safetensors"))
