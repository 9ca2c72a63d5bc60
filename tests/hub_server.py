"""A server that speaks what is used of the Hugging Face hub: a revision's files, and the files."""

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" * 6 + "c0ff"


class HubServer(ThreadingHTTPServer):
    """Repositories in memory.

    Attributes:
        repositories: `owner/name` to the files of it by path.
        gated: repositories that ask for a token which nobody has.
        listed: hashes that are listed in place of the true ones, by path.
        stalls_after: bytes of a body after which nothing more comes; None for all of it.
        asked: method, path, range and whether there was a token, of each request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.gated, self.listed = {}, set(), {}
        self.stalls_after, self.asked = None, []
        self.ends = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving():
    with HubServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.ends.set()
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body):
        server, path = self.server, self.path.partition("?")[0]
        token = self.headers.get("Authorization")
        server.asked.append((self.command, path, self.headers.get("Range"), token))
        found = re.fullmatch(r"/(api/models/)?([^/]+/[^/]+)/(revision|resolve)/([^/]+)/?(.*)", path)
        repository = found and server.repositories.get(found[2])
        if repository is None:
            return self._refuse(404, "RepoNotFound")
        if found[2] in server.gated:
            return self._refuse(403 if token else 401, "GatedRepo")
        if found[4] not in ("main", "v1", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        if found[1]:
            listed = json.dumps(self._listed(found[2], repository)).encode()
            return self._send(listed, {"Content-Type": "application/json"}, with_body)
        if found[5] not in repository:
            return self._refuse(404, "EntryNotFound")
        content = repository[found[5]]
        etag = f'"{self._sha256(found[5], content)}"'
        headers = {"ETag": etag, "X-Linked-Etag": etag, "X-Linked-Size": str(len(content))}
        headers |= {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        self._send(content, headers, with_body)

    def _listed(self, name, repository):
        siblings = [
            {
                "rfilename": path,
                "size": len(content),
                "blobId": "0" * 40,
                "lfs": {
                    "sha256": self._sha256(path, content),
                    "size": len(content),
                    "pointerSize": 134,
                },
            }
            for path, content in repository.items()
        ]
        return {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}

    def _sha256(self, path, content):
        return self.server.listed.get(path) or hashlib.sha256(content).hexdigest()

    def _refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, content, headers, with_body):
        begin = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        first = int(begin[1]) if begin else 0
        self.send_response(206 if begin else 200)
        if begin:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        if not with_body:
            return
        stalls = self.server.stalls_after
        self.wfile.write(content[first : stalls and first + stalls])
        if stalls:
            self.server.ends.wait()
