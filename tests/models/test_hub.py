"""The hub's cache as huggingface_hub lays it out, a hub of our own on this machine, and no hub at all."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from pipeline.errors import ModelError
from pipeline.models.hub import hub_file, hub_snapshot

REPO = "org/name"
SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a hub at a port where nobody listens."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point_to(monkeypatch, "http://127.0.0.1:9")
    return folder


def point_to(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def store(cache: Path, files: dict[str, bytes], *, repo: str = REPO) -> Path:
    """Put files into the cache: blobs, a snapshot of links to them, and the branch that points at it."""
    root = cache / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(SHA)
    (root / "blobs").mkdir(exist_ok=True)
    for name, data in files.items():
        blob = root / "blobs" / hashlib.sha1(data).hexdigest()
        blob.write_bytes(data)
        link = root / "snapshots" / SHA / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    return root / "snapshots" / SHA


class Hub(ThreadingHTTPServer):
    """The few answers of huggingface.co that a download asks for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files = files
        self.asked: list[str] = []


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if found := re.fullmatch(rf"/{REPO}/resolve/{SHA}/(.+)", self.path):
            self.send(self.server.files.get(found[1]), etag=True)
        elif self.path.startswith(f"/api/models/{REPO}/tree/{SHA}"):
            files = self.server.files.items()
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in files
            ]
            self.send(json.dumps(entries).encode())
        elif self.path.startswith(f"/api/models/{REPO}"):
            self.send(json.dumps({"id": REPO, "sha": SHA, "siblings": []}).encode())
        else:
            self.send(None)

    do_HEAD = do_GET  # noqa: N815

    def send(self, data: bytes | None, *, etag: bool = False) -> None:
        self.send_response(404 if data is None else 200)
        if data is None:
            self.send_header("X-Error-Code", "RepoNotFound" if REPO not in self.path else "EntryNotFound")
        data = data or b""
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", SHA)
        if etag:
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub(
        {"lora.safetensors": b"weights", "unet/config.json": b"{}", "unet/a.safetensors": b"a" * 5000}
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    point_to(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def refusal(error: pytest.ExceptionInfo[ModelError], *parts: str) -> None:
    message = str(error.value)
    assert "\n" not in message and all(part in message for part in parts), message


@pytest.mark.parametrize("offline", [True, False])
def test_what_is_in_the_cache_needs_no_network(cache: Path, offline: bool) -> None:
    folder = store(cache, {"sub/lora.safetensors": b"weights", "unet/config.json": b"{}"})
    assert hub_file(REPO, "sub/lora.safetensors", offline=offline) == folder / "sub" / "lora.safetensors"
    assert hub_snapshot(REPO, offline=offline, allow_patterns=["unet/*", "*.safetensors"]) == folder


def test_a_miss_offline_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(cache, {"other.safetensors": b"x"})
    with pytest.raises(ModelError) as caught:
        hub_file(REPO, "lora.safetensors", offline=True)
    refusal(caught, "lora.safetensors of https://huggingface.co/org/name", str(cache), "--offline")
    with pytest.raises(ModelError) as caught:
        hub_snapshot(REPO, offline=True, allow_patterns=["unet/*"])
    refusal(caught, "https://huggingface.co/org/name", "--offline")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError) as caught:
        hub_file("no/such", "lora.safetensors", offline=False)
    refusal(caught, "HF_HUB_OFFLINE forbids")


def test_offline_takes_a_folder_that_has_a_part(cache: Path) -> None:
    folder = store(cache, {"unet/config.json": b"{}"})
    assert hub_snapshot(REPO, offline=True, allow_patterns=["unet/*", "text_encoder_2/*"]) == folder


def test_a_network_that_is_down_is_one_line(cache: Path) -> None:
    with pytest.raises(ModelError) as caught:
        hub_file(REPO, "lora.safetensors", offline=False)
    refusal(caught, "lora.safetensors", "the hub cannot be reached", "refused")
    with pytest.raises(ModelError) as caught:
        hub_snapshot(REPO, offline=False, allow_patterns=["unet/*"])
    refusal(caught, "the hub cannot be reached")


@pytest.mark.parametrize("name", ["a b", "a/b/c", "-x/y", ""])
def test_a_name_that_no_repository_has(cache: Path, name: str) -> None:
    with pytest.raises(ModelError) as caught:
        hub_file(name, "lora.safetensors", offline=True)
    refusal(caught, "expected owner/name")
    with pytest.raises(ModelError) as caught:
        hub_snapshot(name, offline=False, allow_patterns=["*"])
    refusal(caught, "expected owner/name")


def test_a_file_is_fetched_once(cache: Path, hub: Hub) -> None:
    path = hub_file(REPO, "lora.safetensors", offline=False)
    assert path.read_bytes() == b"weights" and path.is_relative_to(cache)
    assert not any("unet" in asked for asked in hub.asked)  # that file alone
    hub.asked.clear()
    assert hub_file(REPO, "lora.safetensors", offline=False) == path
    assert hub_file(REPO, "lora.safetensors", offline=True) == path and hub.asked == []


def test_a_folder_is_completed(cache: Path, hub: Hub) -> None:
    hub_file(REPO, "lora.safetensors", offline=False)
    folder = hub_snapshot(REPO, offline=False, allow_patterns=["unet/*"])
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "a.safetensors",
        "config.json",
        "lora.safetensors",
    ]
    hub.asked.clear()
    assert hub_snapshot(REPO, offline=False, allow_patterns=["unet/*"]) == folder and hub.asked == []


def test_weights_in_parts_are_all_there_or_fetched(cache: Path, hub: Hub) -> None:
    index = json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}).encode()
    store(cache, {"unet/diffusion.safetensors.index.json": index, "unet/b.safetensors": b"b"})
    folder = hub_snapshot(REPO, offline=False, allow_patterns=["unet/*"])
    assert (folder / "unet" / "a.safetensors").stat().st_size == 5000


def test_what_the_hub_does_not_have(cache: Path, hub: Hub) -> None:
    with pytest.raises(ModelError) as caught:
        hub_file(REPO, "no.safetensors", offline=False)
    refusal(caught, "the hub has no such file")
    with pytest.raises(ModelError) as caught:
        hub_file("no/such", "lora.safetensors", offline=False)
    refusal(caught, "no such repository")
    with pytest.raises(ModelError) as caught:
        hub_snapshot(REPO, offline=False, allow_patterns=["vae/*"])
    refusal(caught, "has none of the files asked for (vae/*)")


def test_a_broken_index_is_one_line(cache: Path) -> None:
    store(cache, {"unet/diffusion.safetensors.index.json": b"[]"})
    with pytest.raises(ModelError) as caught:
        hub_snapshot(REPO, offline=True, allow_patterns=["unet/*"])
    refusal(caught, "is no index of weights")
