"""data/download.py, tested with a small server in a thread. No test uses the internet."""

import errno
import hashlib
import http.server
import io
import re
import threading
import zipfile
from unittest.mock import Mock

import pytest
from filelock import FileLock

from common.cli import UserError
from data import download
from data.download import Source

CONTENT = bytes(range(256)) * 400
SHA = hashlib.sha256(CONTENT).hexdigest()
CUT = 40_000


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`, with ranges unless `server.ranges` is False. Stops once after `server.cut` bytes."""

    def do_GET(self):
        server, start = self.server, 0
        server.requests.append((self.path[1:], self.headers.get("Range")))
        body = server.files.get(self.path[1:])
        if body is None:
            return self.send_error(404)
        if server.ranges and (asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            start = int(asked[1])
        if start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", len(body) - start)
        self.end_headers()
        self.wfile.write(body[start : server.cut])
        server.cut = None


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.url = f"http://127.0.0.1:{server.server_port}/"
        server.files, server.requests, server.ranges, server.cut = {"file.bin": CONTENT}, [], True, None
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield server
        server.shutdown()


def found(folder):
    """Every file below a folder: relative path to content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def get(folder, source, *words):
    """Runs the command on a table of one set, whose only file is `source`. Returns the files in `folder`."""
    download.main(["set", "--data", str(folder), *words], {"set": [source]})
    return found(folder)


def put(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def file(server, sha256=SHA, name="file.bin"):
    return Source(server.url + name, len(CONTENT), {name: f"deep/{name}"}, sha256)


def archive(server, members, cut=None):
    """A source of a zip archive with `members` {name: content}. Its folder `top` is installed as `set`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, content in members.items():
            made.writestr(name, content)
    server.files["set.zip"] = buffer.getvalue()[:cut]
    return Source(server.url + "set.zip", 1000, {"top": "set"})


@pytest.mark.parametrize("ranges", [True, False])  # False: the server sends the whole file again
def test_a_cut_download_is_resumed_where_it_stopped(server, tmp_path, ranges):
    server.cut, server.ranges = CUT, ranges
    with pytest.raises(UserError, match="file.bin: the connection dropped; the same command resumes"):
        get(tmp_path, file(server))
    assert found(tmp_path) == {"downloads/file.bin.part": CONTENT[:CUT]}
    assert get(tmp_path, file(server)) == {"deep/file.bin": CONTENT} and not (tmp_path / "downloads").exists()
    assert server.requests == [("file.bin", None), ("file.bin", f"bytes={CUT}-")]


def test_a_complete_part_file_is_used(server, tmp_path):
    put(tmp_path / "downloads" / "file.bin.part", CONTENT)
    assert get(tmp_path, file(server)) == {"deep/file.bin": CONTENT}


def test_a_full_disk_keeps_the_part_file(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download.tqdm, "update", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(UserError, match="No space left on device; the same command resumes"):
        get(tmp_path, file(server))
    assert "downloads/file.bin.part" in found(tmp_path)


def test_a_second_download_into_the_folder_is_refused(server, tmp_path):
    (tmp_path / "downloads").mkdir()
    with FileLock(tmp_path / "downloads" / ".lock"), pytest.raises(UserError, match="another download is running"):
        get(tmp_path, file(server))


def test_only_the_set_is_extracted_from_an_archive(server, tmp_path):
    members = {"top/a.txt": "a", "top/b/c.txt": "c", "__MACOSX/junk": "j"}
    assert get(tmp_path, archive(server, members)) == {"set/a.txt": b"a", "set/b/c.txt": b"c"}


REFUSED = {
    "wrong hash": (lambda server: file(server, 64 * "0"), "file.bin: is not the published file"),
    "404": (lambda server: file(server, name="gone"), "gone: the server answers 404 Not Found; see data/README.md"),
    "no server": (lambda _: Source("http://127.0.0.1:9/f", 10, {"f": "f"}), "9/f: cannot connect"),
    "cut archive": (lambda server: archive(server, {"top/a.txt": "a" * 5000}, cut=3000), "set.zip: gave a broken"),
    "other archive": (lambda server: archive(server, {"bottom/a.txt": "a"}), "set.zip: the archive holds no top"),
}


@pytest.mark.parametrize("source, message", REFUSED.values(), ids=REFUSED)
def test_a_failed_download_leaves_existing_files_untouched(server, tmp_path, source, message):
    put(tmp_path / "set" / "mine.txt", b"mine")
    with pytest.raises(UserError, match=message):
        get(tmp_path, source(server), "--force")
    left = found(tmp_path)
    assert left.pop("set/mine.txt") == b"mine" and list(left) in ([], ["downloads/set.zip.part"] * ("holds" in message))


def test_only_force_replaces_existing_files(server, tmp_path, capsys):
    put(tmp_path / "set" / "mine.txt", b"mine")
    assert get(tmp_path, archive(server, {"top/a.txt": "a"})) == {"set/mine.txt": b"mine"}
    assert server.requests == [] and "already there; --force gets it again" in capsys.readouterr().out
    assert get(tmp_path, archive(server, {"top/a.txt": "a"}), "--force") == {"set/a.txt": b"a"}


def test_an_error_names_a_different_file_in_the_place(server, tmp_path):
    put(tmp_path / "deep" / "file.bin", b"cut short")
    with pytest.raises(UserError, match="deep/file.bin: is not the published file; --force replaces it"):
        get(tmp_path, file(server))


def test_a_set_that_fails_does_not_stop_the_others(server, tmp_path):
    table = {"first": [file(server, name="gone.bin")], "second": [file(server)], "third": [file(server, name="no.bin")]}
    with pytest.raises(UserError, match="gone.bin: .*; .*no.bin: "):
        download.main(["all", "--data", str(tmp_path)], table)
    assert found(tmp_path) == {"deep/file.bin": CONTENT}


def test_without_a_name_the_sets_are_listed(tmp_path, capsys):
    for name in ("a", "glove/glove.6B.50d.txt", "coco_captioning/a.h5"):
        put(tmp_path / name, b"1")
    download.main(["--data", str(tmp_path)])
    out = capsys.readouterr().out
    for row in ("insects +47 MB +no", "glove +862 MB +1 of 4", "coco +1 GB +yes", "flickr8k +1.1 GB +no"):
        assert re.search(f"^{row} +http", out, re.MULTILINE)


def test_built_in_sets_are_not_downloaded():
    with pytest.raises(UserError, match="--data builtin: give the folder"):
        download.main(["all", "--data", "builtin"])


def test_weight_urls_are_those_of_torchvision():
    for source in download.TABLE["weights"]:
        assert download.weight_source(source.name.split("-")[0]).url == source.url


def test_published_hashes_match_the_real_files(hw2_data):
    for source in (*download.TABLE["sentences"], *download.TABLE["styles"]):
        [place] = source.places.values()
        assert download.sha256(hw2_data / place) == source.sha256
