"""data/download.py against a small server in a thread. Nothing here goes to the network."""

import hashlib
import http.server
import io
import os
import re
import threading
import zipfile

import pytest
from filelock import FileLock

from common.cli import UserError
from data import download
from data.download import Source

CONTENT = bytes(range(256)) * 400
SHA = hashlib.sha256(CONTENT).hexdigest()
CUT = 40_000


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`, with ranges unless `server.ranges` is False; breaks off once at `server.cut`."""

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

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{server.server_port}/"
    server.files, server.requests, server.ranges, server.cut = {"file.bin": CONTENT}, [], True, None
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def get(tmp_path):
    """Runs the command on a table of one set, whose only file is `source`; gives what lies in the data folder then."""

    def run(source, *words):
        download.main(["set", "--data", str(tmp_path), *words], {"set": [source]})
        return found(tmp_path)

    return run


def found(folder):
    """Every file below a folder: relative path to content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def file(server, sha256=SHA, name="file.bin"):
    return Source(server.url + name, len(CONTENT), {name: f"deep/{name}"}, sha256)


def archive(server, members, cut=None):
    """A source of a zip archive with `members` {name: content}, of which the folder `top` becomes `set`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, content in members.items():
            made.writestr(name, content)
    server.files["set.zip"] = buffer.getvalue()[:cut]
    return Source(server.url + "set.zip", 1000, {"top": "set"})


# ---- one file


def test_a_download_leaves_the_file_and_nothing_else(server, get, tmp_path):
    assert get(file(server)) == {"deep/file.bin": CONTENT}
    assert os.listdir(tmp_path) == ["deep"]


def test_a_cut_download_says_that_it_can_be_resumed(server, get, tmp_path):
    server.cut = CUT
    with pytest.raises(UserError, match="file.bin: the connection dropped; the same command resumes"):
        get(file(server))
    assert found(tmp_path) == {"downloads/file.bin.part": CONTENT[:CUT]}


def test_a_cut_download_is_resumed_where_it_stopped(server, get):
    server.cut = CUT
    with pytest.raises(UserError):
        get(file(server))
    assert get(file(server)) == {"deep/file.bin": CONTENT}
    assert server.requests == [("file.bin", None), ("file.bin", f"bytes={CUT}-")]


def test_a_server_without_ranges_starts_over(server, get):
    server.ranges, server.cut = False, CUT
    with pytest.raises(UserError):
        get(file(server))
    assert get(file(server)) == {"deep/file.bin": CONTENT}


def test_a_whole_part_that_was_not_installed_is_used(server, get, tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "file.bin.part").write_bytes(CONTENT)
    assert get(file(server)) == {"deep/file.bin": CONTENT}


@pytest.mark.parametrize("published", [64 * "0", 8 * "0"])
def test_a_wrong_hash_is_an_error_and_nothing_stays(server, get, tmp_path, published):
    with pytest.raises(UserError, match="file.bin: another file came"):
        get(file(server, published))
    assert found(tmp_path) == {}


def test_a_hash_may_be_known_by_how_it_begins(server, get):
    assert get(file(server, SHA[:8])) == {"deep/file.bin": CONTENT}


def test_a_404_names_the_address_and_what_to_do(server, get):
    with pytest.raises(UserError, match="gone.bin: the server answers 404 Not Found; see data/README.md"):
        get(file(server, name="gone.bin"))


def test_no_network_is_one_line(get):
    with pytest.raises(UserError, match="file.bin: cannot connect"):
        get(Source("http://127.0.0.1:9/file.bin", 10, {"file.bin": "file.bin"}))


def test_a_full_disk_keeps_what_came(server, get, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "tqdm", lambda **_: FullDisk())
    with pytest.raises(UserError, match="No space left on device; the same command resumes"):
        get(file(server))
    assert "downloads/file.bin.part" in found(tmp_path)


class FullDisk(io.StringIO):
    """Instead of a progress bar: an OSError as of a full disk."""

    def update(self, _):
        raise OSError(28, "No space left on device")


def test_a_second_download_into_the_folder_says_so(server, get, tmp_path):
    (tmp_path / "downloads").mkdir()
    with FileLock(tmp_path / "downloads" / ".lock"), pytest.raises(UserError, match="another download is running"):
        get(file(server))


# ---- archives


def test_an_archive_gives_only_what_belongs_to_the_set(server, get):
    members = {"top/a.txt": "a", "top/b/c.txt": "c", "__MACOSX/junk": "j"}
    assert get(archive(server, members)) == {"set/a.txt": b"a", "set/b/c.txt": b"c"}


def test_a_member_cannot_leave_its_folder(server, get, tmp_path):
    assert get(archive(server, {"top/../../../evil": "e", "top/a.txt": "a"})).keys() == {"set/a.txt", "set/evil"}


def test_a_cut_archive_is_an_error_and_removed(server, get, tmp_path):
    with pytest.raises(UserError, match="set.zip: gave a broken archive"):
        get(archive(server, {"top/a.txt": "a" * 5000}, cut=3000))
    assert found(tmp_path) == {}


def test_an_archive_of_something_else_is_an_error(server, get):
    with pytest.raises(UserError, match="set.zip: the archive holds no top"):
        get(archive(server, {"bottom/a.txt": "a"}))


# ---- what is there already


def test_what_is_there_is_not_got_again(server, get, tmp_path, capsys):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_bytes(b"mine")
    assert get(archive(server, {"top/a.txt": "a"})) == {"set/mine.txt": b"mine"}
    assert server.requests == [] and "is there already; --force gets it again" in capsys.readouterr().out


def test_force_replaces_what_is_there(server, get, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_bytes(b"mine")
    assert get(archive(server, {"top/a.txt": "a"}), "--force") == {"set/a.txt": b"a"}


def test_force_that_fails_leaves_what_is_there(server, get, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_bytes(b"mine")
    with pytest.raises(UserError, match="broken archive"):
        get(archive(server, {"top/a.txt": "a" * 5000}, cut=3000), "--force")
    assert found(tmp_path) == {"set/mine.txt": b"mine"}


def test_another_file_in_the_place_is_named(server, get, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file.bin").write_bytes(b"cut short")
    with pytest.raises(UserError, match="deep/file.bin: is not the file that was published; --force replaces it"):
        get(file(server))


# ---- the command


def test_a_set_that_fails_does_not_stop_the_others(server, tmp_path):
    table = {"first": [file(server, name="gone.bin")], "second": [file(server)], "third": [file(server, name="no.bin")]}
    with pytest.raises(UserError, match="gone.bin: .*; .*no.bin: "):
        download.main(["all", "--data", str(tmp_path)], table)
    assert found(tmp_path) == {"deep/file.bin": CONTENT}


def test_without_a_name_the_sets_are_listed(tmp_path, capsys):
    for name in ("a", "glove/glove.6B.50d.txt", "coco_captioning/a.h5"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    download.main(["--data", str(tmp_path)])
    out = capsys.readouterr().out
    for row in ("insects +47 MB +no", "glove +862 MB +1 of 4", "coco +1 GB +yes", "flickr8k +1.1 GB +no"):
        assert re.search(f"^{row} +http", out, re.MULTILINE)


@pytest.mark.parametrize(
    "words, message",
    [(["sets"], "sets: no such data set"), (["all", "--data", "builtin"], "--data builtin: give the folder")],
)
def test_a_wrong_argument_says_what_to_do(words, message):
    with pytest.raises(UserError, match=message):
        download.main(words)


def test_the_weights_of_the_table_are_torchvisions():
    for source in download.TABLE["weights"]:
        assert download.weight_source(source.name.split("-")[0]).url == source.url


def test_arch_is_a_source_with_the_hash_of_its_name():
    source = download.weight_source("vgg16")
    assert (source.places, source.sha256) == ({"vgg16-397923af.pth": "weights/vgg16-397923af.pth"}, "397923af")


@pytest.mark.parametrize("name", ["sentences", "styles"])
def test_the_published_hashes_are_those_of_the_real_files(hw2_data, name):
    for source in download.TABLE[name]:
        for place in source.places.values():
            assert download.sha256(hw2_data / place) == source.sha256
