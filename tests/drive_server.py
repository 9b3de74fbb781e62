"""A local HTTP server that plays Google Drive's pages, so that tests run the real gdown.

Requests for Google's hosts are diverted at requests' transport adapter: everything above it
(gdown, sessions, redirects) and below it (urllib3, sockets, HTTP) is the real thing. The pages are
those that gdown 6.5 reads: folder view, redirect to the content host, "can't scan for viruses"
form, quota page, bytes with Range and If-Range.
"""

import html
import io
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import requests
import torch
from requests.adapters import HTTPAdapter

DRIVE, CONTENT = "drive.google.com", "drive.usercontent.google.com"


def drive_id(name: str) -> str:
    """Drive's ids have 33 letters; this one says whose it is."""
    return re.sub(r"[^A-Za-z0-9]", "-", name).ljust(33, "x")


def tensor_file(rows: int, seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    torch.save(torch.rand(rows, generator=torch.Generator().manual_seed(seed)), buffer)
    return buffer.getvalue()


SMALL, LARGE = tensor_file(3), tensor_file(500_000)  # 2 MB: gdown writes 512 KiB at a time


@dataclass
class Hosted:
    """One file on the server and how it behaves."""

    content: bytes
    confirm: bool = False  # ask for the confirmation that large files need
    quota: bool = False
    cuts: list[int] = field(default_factory=list)  # each answer breaks off after so many bytes
    stall: bool = False  # a cut answer waits instead of closing
    announced: bool = True  # says Content-Length
    status: int = 200
    ranges: list[str | None] = field(default_factory=list)  # of each request for the content

    @property
    def tag(self) -> str:
        return f'"{hash(self.content) & 0xffffffff:x}"'


class Adapter(HTTPAdapter):
    """Sends what is meant for Google to 127.0.0.1:port, the host's name as first path part."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port

    def send(self, request, **options):
        parts = urlsplit(request.url)
        assert parts.hostname in (DRIVE, CONTENT), f"no test may reach {parts.hostname}"
        local = request.copy()
        local.url = f"http://127.0.0.1:{self.port}/{parts.hostname}{parts.path}?{parts.query}"
        response = super().send(local, **options | {"proxies": {}})
        response.url, response.request = request.url, request
        return response


class DriveServer:
    """`files`: path in the folder -> Hosted; after a colon all is one name, slashes included."""

    def __init__(self, files: dict[str, Hosted], folder_id: str = "F" * 33) -> None:
        self.files, self.folder_id, self.status, self.title = files, folder_id, 200, "published"
        self.asked: list[str] = []  # path of each request
        self.released = threading.Event()

    def __enter__(self) -> "DriveServer":
        handler = type("Handler", (_Handler,), {"drive": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.released.set()
        self.http.shutdown()
        self.http.server_close()

    def entries(self, parent: str) -> dict[str, tuple[str, str]]:
        """Id -> (name, kind of link) of what lies directly in the folder `parent` ("" the top)."""
        found = {}
        for path in self.files:
            if path.startswith(parent):
                name, slash, _ = path.removeprefix(parent).partition("/")
                if slash and not path.startswith(":"):
                    found[drive_id("dir " + parent + name)] = (name, "drive/folders/{}")
                else:
                    found[drive_id(path)] = (path.removeprefix(parent).removeprefix(":"),
                                             "file/d/{}/view?usp=drive_web")
        return found


def divert(port: int) -> None:
    """For a process of its own; tests in this process use monkeypatch."""
    requests.Session.get_adapter = lambda self, url: Adapter(port)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    drive: DriveServer

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.drive.asked.append(self.path)
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        match parts.path:
            case "/drive.google.com/embeddedfolderview":
                self.folder(asked["id"])
            case "/drive.google.com/uc":
                self.redirect(f"https://{CONTENT}/download?id={asked['id']}&export=download")
            case "/drive.usercontent.google.com/download":
                self.file(asked)
            case _:
                self.page("", status=404)

    def file(self, asked: dict[str, str]) -> None:
        [hosted] = [hosted for path, hosted in self.drive.files.items()
                    if drive_id(path) == asked["id"]]
        if hosted.quota:
            self.page('<html><title>Google Drive - Quota exceeded</title>\n'
                      '<p class="uc-error-caption">Sorry, you can&#39;t download this now.</p>\n'
                      '<p class="uc-error-subcaption">Too many users have viewed or downloaded '
                      'this file recently. Please try accessing the file again later.</p></html>')
        elif hosted.confirm and asked.get("confirm") != "t":
            self.page('<html><title>Google Drive - Virus scan warning</title>\n'
                      f'<form id="download-form" action="https://{CONTENT}/download" method="get">'
                      f'<input type="hidden" name="id" value="{asked["id"]}">'
                      '<input type="hidden" name="export" value="download">'
                      '<input type="hidden" name="confirm" value="t">'
                      '<input type="hidden" name="uuid" value="0-1"></form></html>')
        else:
            self.content(hosted)

    def content(self, hosted: Hosted) -> None:
        asked = self.headers["Range"]
        hosted.ranges.append(asked)
        whole, start, status = len(hosted.content), 0, hosted.status
        if asked and self.headers["If-Range"] in (None, hosted.tag):
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            status = 206 if start < whole else 416
        body = hosted.content[start:]
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Disposition", 'attachment; filename="whatever"')
        self.send_header("ETag", hosted.tag)
        self.send_header("Connection", "close")
        if hosted.announced:
            self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.end_headers()
        # gdown asks for the whole file before it asks for the rest: it reads the answer it uses
        cut = hosted.cuts.pop(0) if hosted.cuts else None
        try:
            self.wfile.write(body[:cut])
            if cut is not None and hosted.stall:
                self.drive.released.wait(60)
        except OSError:
            pass  # the other side has left
        self.close_connection = True

    def folder(self, folder_id: str) -> None:
        folders = {drive_id("dir " + path[:at.start()]): path[:at.end()]
                   for path in self.drive.files if not path.startswith(":")
                   for at in re.finditer("/", path)} | {self.drive.folder_id: ""}
        links = []
        for entry_id, (name, link) in self.drive.entries(folders[folder_id]).items():
            links.append(f'<div class="flip-entry"><a href="https://{DRIVE}/{link.format(entry_id)}">'
                         f'<div class="flip-entry-title">{html.escape(name)}</div></a></div>')
        # gdown names a folder by the title of its own page, not by the link to it
        title = folders[folder_id].rstrip("/").rpartition("/")[2] or self.drive.title
        self.page(f"<html><head><title>{title}</title></head>"
                  f"<body>{''.join(links)}</body></html>", status=self.drive.status)

    def redirect(self, url: str) -> None:
        self.send_response(303)
        self.send_header("Location", url)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def page(self, text: str, status: int = 200) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
