"""data/download.py against a small server on this machine that misbehaves as told. Nothing here goes to the network."""

import dataclasses
import hashlib
import http.server
import json
import os
import re
import signal
import tarfile
import threading
import time
import urllib.error
import urllib.request

import pytest

from data import DataError, download, fetch, files
from data.download import Source
from data.results import run_main
from tests.conftest import contents, not_as_root, run_python
from tests.test_files import link_in_zip, tar_bytes, zip_bytes

CONTENT = os.urandom(100_000)
CUT = 40_000


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`, with ranges, and misbehaves as the server's fields say."""

    def do_GET(self):
        server, sent = self.server, self.path[1:]
        server.requests.append((sent, self.headers.get("Range"), self.headers.get("If-Range")))
        if server.silent:
            server.released.wait(10)
            return
        if sent in server.redirects:
            self.answer(302, {"Location": server.redirects[sent]}, b"")
        elif sent in server.status:
            self.answer(server.status[sent], {}, b"<html>sorry</html>")
        elif sent not in server.files:
            self.answer(404, {}, b"<html>none</html>")
        else:
            self.send_file(server.files[sent])

    def send_file(self, body):
        server, asked = self.server, re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        tag = '"' + hashlib.md5(body).hexdigest() + '"'
        headers = {"ETag": tag} if server.validators and not (asked and server.silent_parts) else {}
        condition = None if server.ignores_condition else self.headers.get("If-Range")
        if not asked or not server.ranges or condition not in (None, tag):
            return self.answer(200, headers, body)
        start = int(asked[1])
        if start >= len(body):
            return self.answer(416, {"Content-Range": f"bytes */{len(body)}"}, b"")
        start -= server.shift
        headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.answer(206, headers, body[start:])

    def answer(self, status, headers, body):
        server = self.server
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if server.lengths:
            self.send_header("Content-Length", len(body))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts and status in (200, 206) else None
        self.wfile.write(body[:cut])
        self.wfile.flush()
        if cut is not None and server.when_cut:
            server.when_cut()
            server.released.wait(10)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch, "PAUSES", (0, 0, 0))
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    made.handle_error = lambda *_: None  # a client that hangs up is no error of the server's
    made.url = f"http://127.0.0.1:{made.server_port}/"
    made.files, made.redirects, made.status, made.requests, made.cuts = {"file.bin": CONTENT}, {}, {}, [], []
    made.ranges = made.validators = made.lengths = True
    made.silent = made.ignores_condition = made.silent_parts = False
    made.shift, made.when_cut, made.released = 0, None, threading.Event()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.released.set()
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def run(tmp_path, capfd):
    """Runs the command with a table of sources; gives exit status, stdout and the lines on stderr."""

    def call(table, *words):
        try:
            run_main(lambda: download.main([*words, "--data", str(tmp_path / "data")], table), fetch.GO_ON)
            status = 0
        except SystemExit as end:
            status = end.code
        out, err = capfd.readouterr()
        return status, out, err.splitlines()

    return call


def digest(content):
    return hashlib.sha256(content).hexdigest()


def one_file(server, sha256="", name="file.bin"):
    return {"set": (Source(server.url + name, len(CONTENT), {"": name}, sha256),)}


def one_archive(server, archive, **fields):
    server.files["set.zip"] = archive
    fields = {"places": {"top": "set"}, "unpacked": 1 << 20, "holds": ("set/*.txt",), **fields}
    return {"set": (Source(server.url + "set.zip", len(archive), **fields),)}


def failed(result, says):
    """Exit status 2 and exactly one line on stderr, which says `says`."""
    status, _, err = result
    assert (status, len(err)) == (2, 1), result
    assert err[0].startswith("error: ") and re.search(says, err[0]), err
    return True


# ---- one file


def test_a_download_is_the_server_s_file_and_nothing_else_stays(server, run, tmp_path):
    status, out, err = run(one_file(server, digest(CONTENT)), "set")
    assert (status, err) == (0, []) and "is there now: file.bin" in out
    assert contents(tmp_path / "data") == {"file.bin": CONTENT} and os.listdir(tmp_path / "data") == ["file.bin"]


def test_a_download_cut_in_the_middle_goes_on_with_a_range_and_is_equal(server, run, tmp_path):
    server.cuts = [CUT]
    assert run(one_file(server), "set")[0] == 0
    tag = '"' + hashlib.md5(CONTENT).hexdigest() + '"'
    assert server.requests == [("file.bin", None, None), ("file.bin", f"bytes={CUT}-", tag)]
    assert (tmp_path / "data" / "file.bin").read_bytes() == CONTENT


def test_a_download_cut_too_often_says_to_run_again_and_the_next_run_goes_on(server, run, tmp_path):
    server.cuts = [CUT, 0, 0, 0, 0]
    table = one_file(server, digest(CONTENT))
    assert failed(run(table, "set"), "dropped.*run the command again: it goes on where it stopped")
    assert len(server.requests) == 2 + len(fetch.PAUSES)
    left = contents(tmp_path / "data")
    assert left.pop("downloads/file.bin") == CONTENT[:CUT] and list(left) == ["downloads/file.bin.json"]
    assert "no, 40 kB downloaded so far" in run(table)[1]
    server.requests.clear()
    assert run(table, "set")[0] == 0
    assert [asked for _, asked, _ in server.requests] == [f"bytes={CUT}-"]
    assert contents(tmp_path / "data") == {"file.bin": CONTENT}


def test_a_server_that_always_cuts_but_gets_further_each_time_is_followed_to_the_end(server, run, tmp_path):
    server.cuts = [10_000] * 9
    assert run(one_file(server), "set")[0] == 0
    assert len(server.requests) == 10 and contents(tmp_path / "data")["file.bin"] == CONTENT


def test_a_server_without_ranges_starts_over_and_the_file_is_equal(server, run, tmp_path):
    server.ranges, server.cuts = False, [CUT]
    assert run(one_file(server), "set")[0] == 0
    assert server.requests[1][1] == f"bytes={CUT}-" and contents(tmp_path / "data")["file.bin"] == CONTENT


def test_a_server_without_ranges_that_always_cuts_is_given_up(server, run, tmp_path):
    server.ranges, server.cuts = False, [CUT] * 20
    assert failed(run(one_file(server), "set"), "dropped")
    assert len(server.requests) == 2 + len(fetch.PAUSES)


def test_without_validator_and_hash_nothing_is_gone_on_with(server, run, tmp_path):
    server.validators, server.cuts = False, [CUT]
    assert run(one_file(server), "set")[0] == 0
    assert [asked for _, asked, _ in server.requests] == [None, None]
    assert contents(tmp_path / "data")["file.bin"] == CONTENT


def test_without_validator_the_hash_is_enough_to_go_on(server, run, tmp_path):
    server.validators, server.cuts = False, [CUT]
    assert run(one_file(server, digest(CONTENT)), "set")[0] == 0
    assert server.requests[1:] == [("file.bin", f"bytes={CUT}-", None)]


@pytest.mark.parametrize("ignores", [False, True], ids=["answers If-Range", "ignores If-Range"])
def test_a_file_that_changed_on_the_server_meanwhile_is_started_over(server, run, tmp_path, ignores):
    server.cuts, server.ignores_condition = [CUT, 0, 0, 0, 0], ignores
    assert failed(run(one_file(server), "set"), "dropped")
    server.files["file.bin"] = changed = os.urandom(len(CONTENT))
    assert run(one_file(server), "set")[0] == 0
    assert (tmp_path / "data" / "file.bin").read_bytes() == changed


def test_a_part_that_does_not_repeat_the_validator_is_taken(server, run, tmp_path):
    server.cuts, server.silent_parts = [CUT, 10_000], True
    assert run(one_file(server), "set")[0] == 0
    tag = '"' + hashlib.md5(CONTENT).hexdigest() + '"'
    assert server.requests[1:] == [("file.bin", f"bytes={CUT}-", tag), ("file.bin", f"bytes={CUT + 10_000}-", tag)]
    assert (tmp_path / "data" / "file.bin").read_bytes() == CONTENT


def test_a_part_from_the_wrong_place_is_not_appended(server, run, tmp_path):
    server.cuts, server.shift = [CUT], 7
    assert run(one_file(server), "set")[0] == 0
    assert (tmp_path / "data" / "file.bin").read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_started_over(server, run, tmp_path):
    server.cuts = [CUT, 0, 0, 0, 0]
    assert failed(run(one_file(server), "set"), "dropped")
    with open(tmp_path / "data" / "downloads" / "file.bin", "ab") as part:
        part.write(bytes(2 * len(CONTENT)))
    server.requests.clear()
    assert run(one_file(server), "set")[0] == 0  # 416, then the whole
    assert len(server.requests) == 2 and contents(tmp_path / "data")["file.bin"] == CONTENT


def test_a_whole_download_that_was_not_installed_is_not_got_twice(server, run, tmp_path):
    source = one_file(server, digest(CONTENT))["set"][0]
    (tmp_path / "data" / "downloads").mkdir(parents=True)
    fetch.fetch(source, tmp_path / "data" / "downloads")
    server.requests.clear()
    assert run({"set": (source,)}, "set")[0] == 0
    assert server.requests == [] and contents(tmp_path / "data") == {"file.bin": CONTENT}


def test_notes_of_another_address_or_broken_notes_are_not_gone_on_with(server, run, tmp_path):
    for text in (
        b"{}",
        b"[1]",
        b"\xff",
        json.dumps({"url": "x", "validator": "", "total": 5}).encode(),
        b"[" * 100_000,
    ):
        files.write_bytes(tmp_path / "data" / "downloads" / "file.bin", b"other")
        files.write_bytes(tmp_path / "data" / "downloads" / "file.bin.json", text)
        assert run(one_file(server, digest(CONTENT)), "set", "--force")[0] == 0
        assert contents(tmp_path / "data") == {"file.bin": CONTENT}


def test_a_body_without_a_length_is_whole_where_the_server_ends_it(server, run, tmp_path):
    server.lengths = False
    assert run(one_file(server, digest(CONTENT)), "set")[0] == 0
    assert contents(tmp_path / "data") == {"file.bin": CONTENT}


def test_more_bytes_than_the_file_should_have_are_not_taken(server, run, tmp_path):
    for server.lengths in (True, False):
        server.files["file.bin"] = bytes(5_000_000)
        assert failed(run(one_file(server), "set"), "sends more than")
        assert contents(tmp_path / "data") == {}


def test_a_redirect_is_followed(server, run, tmp_path):
    server.redirects["old.bin"] = server.url + "file.bin"
    assert run(one_file(server, name="old.bin"), "set")[0] == 0
    assert (tmp_path / "data" / "old.bin").read_bytes() == CONTENT


# ---- what is refused


def test_a_wrong_hash_is_one_line_and_the_file_is_removed(server, run, tmp_path):
    for wrong in (digest(b"other"), digest(b"other")[:8]):
        assert failed(run(one_file(server, wrong), "set"), "another file came than the published one")
        assert contents(tmp_path / "data") == {}


def test_an_empty_file_is_refused(server, run, tmp_path):
    server.files["file.bin"] = b""
    assert failed(run(one_file(server), "set"), "sent an empty file") and contents(tmp_path / "data") == {}


def test_the_hash_of_what_came_is_recorded_and_another_file_is_refused_later(server, run, tmp_path):
    assert run(one_file(server), "set")[0] == 0
    record = tmp_path / "data" / "checksums.json"
    assert json.loads(record.read_text()) == {server.url + "file.bin": digest(CONTENT)}
    server.files["file.bin"] = os.urandom(1000)
    assert failed(run(one_file(server), "set", "--force"), "gave another file than before.*checksums.json")
    assert contents(tmp_path / "data").keys() == {"file.bin", "checksums.json"}
    assert (tmp_path / "data" / "file.bin").read_bytes() == CONTENT
    record.write_text("{}")
    assert run(one_file(server), "set", "--force")[0] == 0
    assert (tmp_path / "data" / "file.bin").read_bytes() == server.files["file.bin"]


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "[" * 100_000])
def test_a_broken_record_of_hashes_is_one_line(server, run, tmp_path, text):
    files.write_text(tmp_path / "data" / "checksums.json", text)
    assert failed(run(one_file(server), "set"), "checksums.json: should hold")
    assert not (tmp_path / "data" / "file.bin").exists()


def test_a_404_is_one_line_without_a_second_try(server, run, tmp_path):
    assert failed(run(one_file(server, name="gone.bin"), "set"), r"gone.bin: the server answers 404 \(Not Found\)")
    assert len(server.requests) == 1 and os.listdir(tmp_path / "data") == []


def test_a_busy_server_is_asked_again_and_then_given_up(server, run, tmp_path):
    server.status["file.bin"] = 503
    assert failed(run(one_file(server), "set"), "503 .*run the command again")
    assert len(server.requests) == 1 + len(fetch.PAUSES) and os.listdir(tmp_path / "data") == []


def test_a_server_that_never_answers_is_one_line(server, run, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 0.05)
    server.silent = True
    assert failed(run(one_file(server), "set"), "dropped.*timed out.*run the command again")
    assert len(server.requests) == 1 + len(fetch.PAUSES) and os.listdir(tmp_path / "data") == []


def test_no_server_is_one_line_at_once(server, run, tmp_path):
    source = Source("http://127.0.0.1:9/file.bin", 10, {"": "file.bin"})
    assert (
        failed(run({"set": (source,)}, "set"), "cannot connect .*is there a network")
        and os.listdir(tmp_path / "data") == []
    )


def test_a_failing_encrypted_connection_is_one_line(server, run, tmp_path):
    source = Source(server.url.replace("http:", "https:") + "file.bin", 10, {"": "file.bin"})
    assert failed(run({"set": (source,)}, "set"), "cannot connect .*SSL") and os.listdir(tmp_path / "data") == []


@pytest.mark.parametrize(
    "target", ["file.bin", "file:///etc/passwd", "ftp://127.0.0.1:9/x", "http://[", "http://\x01/"]
)
def test_a_redirect_in_a_circle_or_to_no_web_address_is_one_line(server, run, tmp_path, target):
    server.redirects["file.bin"] = target if ":" in target else server.url + target
    assert failed(run(one_file(server), "set"), "file.bin: ") and contents(tmp_path / "data") == {}


def test_a_redirect_from_https_to_http_is_not_followed():
    request = urllib.request.Request("https://example.org/a")
    follow = fetch._Redirects().redirect_request
    with pytest.raises(DataError, match="unencrypted"):
        follow(request, None, 302, "", {}, "http://example.org/a")
    assert follow(request, None, 302, "", {}, "https://example.org/b").full_url == "https://example.org/b"


def test_a_disk_too_small_is_said_before_the_download(server, run, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: type("usage", (), {"free": 99_999}))
    assert failed(run(one_file(server), "set"), "needs 0.1 MB, but only 100 kB are free")
    assert contents(tmp_path / "data") == {}


def test_a_full_disk_is_one_line_and_what_came_is_gone_on_with_later(server, run, tmp_path):
    code = (
        "import resource, sys; from data import download; from data.results import run_main\n"
        "table = {'set': (download.Source(sys.argv[1], 100_000, {'': 'file.bin'}),)}\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        "run_main(lambda: download.main(['set', '--data', sys.argv[2]], table))"
    )
    done = run_python("-c", code, server.url + "file.bin", tmp_path / "data")
    failed((done.returncode, done.stdout, done.stderr.splitlines()), "file.bin: File too large; make room")
    assert contents(tmp_path / "data").keys() == {"downloads/file.bin", "downloads/file.bin.json"}
    server.requests.clear()
    assert run(one_file(server), "set")[0] == 0
    assert server.requests[0][1] == "bytes=40000-" and (tmp_path / "data" / "file.bin").read_bytes() == CONTENT


def test_a_disk_full_while_unpacking_is_one_line_and_the_archive_is_kept_for_the_next_run(
    server, run, tmp_path, monkeypatch
):
    table = one_archive(server, zip_bytes({"top/a.txt": b"a" * 100_000}))
    unpack = files.unpack

    def full(*arguments):
        unpack(*arguments)
        raise DataError("x: No space left on device")

    monkeypatch.setattr(files, "unpack", full)
    assert failed(run(table, "set"), "No space left")
    assert contents(tmp_path / "data").keys() == {"downloads/set.zip", "downloads/set.zip.json"}
    monkeypatch.setattr(files, "unpack", unpack)
    server.requests.clear()
    assert run(table, "set")[0] == 0 and server.requests == []
    assert (tmp_path / "data" / "set" / "a.txt").stat().st_size == 100_000


def test_ctrl_c_is_one_line_with_status_130_and_the_next_run_goes_on(server, run, tmp_path):
    server.cuts = [CUT]
    server.when_cut = lambda: (time.sleep(0.1), signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
    status, _, err = run(one_file(server), "set")
    assert status == 130 and len(err) == 1 and "it goes on where it stopped" in err[0]
    assert contents(tmp_path / "data")["downloads/file.bin"] == CONTENT[:CUT]
    server.requests.clear()
    assert run(one_file(server), "set")[0] == 0
    assert server.requests[0][1] == f"bytes={CUT}-" and (tmp_path / "data" / "file.bin").read_bytes() == CONTENT


def test_what_a_killed_run_left_is_cleared_away(server, run, tmp_path):
    downloads = tmp_path / "data" / "downloads"
    files.write_bytes(downloads / f"{files.TEMPORARY}abc" / "x", b"half")
    files.write_bytes(downloads / f"{files.TEMPORARY}1-x.json", b"half")
    files.write_bytes(downloads / "old.zip.json", b"{}")
    assert run(one_file(server, digest(CONTENT)), "set")[0] == 0
    assert os.listdir(tmp_path / "data") == ["file.bin"]


def test_a_second_run_into_the_same_folder_says_so_and_stops(server, run, tmp_path):
    (tmp_path / "data").mkdir()
    with files.alone(tmp_path / "data", ""):
        assert failed(run(one_file(server), "set"), "another run is busy here; wait for it")
    assert server.requests == []


@not_as_root
def test_a_folder_that_may_not_be_written_is_one_line(server, run, tmp_path):
    (tmp_path / "data").mkdir(mode=0o500)
    assert failed(run(one_file(server), "set"), "Permission denied") and server.requests == []


# ---- archives


def test_an_archive_takes_its_place_and_only_what_belongs_to_the_set(server, run, tmp_path):
    table = one_archive(server, zip_bytes({"top/": b"", "top/a.txt": b"a", "top/b/c": b"c", "__MACOSX/junk": b"j"}))
    assert run(table, "set")[0] == 0
    assert contents(tmp_path / "data").keys() == {"set/a.txt", "set/b/c", "checksums.json"}


WHOLE = zip_bytes({"top/a.txt": os.urandom(50_000)})
BAD_ARCHIVES = {
    "../": (zip_bytes({"top/a.txt": b"a", "../../evil": b"x"}), "outside of its folder"),
    "absolute path": (zip_bytes({"top/a.txt": b"a", "{outside}/evil": b"x"}), "outside of its folder"),
    "symlink": (zip_bytes({link_in_zip("top/a.txt"): "/etc/passwd"}), "is a link"),
    "symlink in tar": (tar_bytes({"top/a.txt": dict(type=tarfile.SYMTYPE, linkname="/etc/passwd")}), "is a link"),
    "device": (tar_bytes({"top/a.txt": dict(type=tarfile.BLKTYPE, devmajor=8)}), "is a device"),
    "bomb": (zip_bytes({"top/a.txt": bytes(30 << 20)}), "unpacks to more than 1,048,576 bytes"),
    "cut": (WHOLE[:30_000], "not a whole"),
    "web page": (b"<html>this file has moved</html>", "not a whole"),
    "other folder": (zip_bytes({"bottom/a.txt": b"a"}), "does not hold top"),
    "nothing in it": (zip_bytes({"top/a.txt": b"", "top/b.png": b"b"}), r"does not give set/\*.txt"),
}


@pytest.mark.parametrize("case", BAD_ARCHIVES)
def test_a_bad_archive_is_one_line_and_nothing_is_installed_or_left(server, run, tmp_path, case):
    archive, says = BAD_ARCHIVES[case]
    if case == "absolute path":
        archive = zip_bytes({"top/a.txt": b"a", f"{tmp_path}/evil": b"x"})
    assert failed(run(one_archive(server, archive), "set"), says + ".*removed, nothing was installed")
    assert os.listdir(tmp_path) == ["data"] and os.listdir(tmp_path / "data") == []


def test_an_archive_with_a_published_hash_is_checked_before_it_is_opened(server, run, tmp_path):
    table = one_archive(server, BAD_ARCHIVES["../"][0], sha256=digest(WHOLE))
    assert failed(run(table, "set"), "another file came")
    server.files["set.zip"] = WHOLE
    assert run({"set": (dataclasses.replace(table["set"][0], size=len(WHOLE)),)}, "set")[0] == 0


# ---- what is there already


def test_a_set_that_is_there_is_not_got_again_but_with_force(server, run, tmp_path):
    table = one_archive(server, zip_bytes({"top/a.txt": b"new"}))
    files.write_bytes(tmp_path / "data" / "set" / "mine.txt", b"old")
    status, out, _ = run(table, "set")
    assert status == 0 and "is there already; --force gets it again" in out and server.requests == []
    assert run(table, "set", "--force")[0] == 0
    assert contents(tmp_path / "data").keys() == {"set/a.txt", "checksums.json"}


def test_force_that_fails_leaves_what_was_there(server, run, tmp_path):
    files.write_bytes(tmp_path / "data" / "set" / "mine.txt", b"old")
    assert failed(run(one_archive(server, BAD_ARCHIVES["cut"][0]), "set", "--force"), "not a whole")
    assert contents(tmp_path / "data") == {"set/mine.txt": b"old"}


def test_a_folder_that_cannot_be_replaced_comes_back(tmp_path):
    files.write_bytes(tmp_path / "set" / "mine.txt", b"old")
    with pytest.raises(OSError):
        download._replace(tmp_path / "not there", tmp_path / "set", tmp_path / "aside")
    assert contents(tmp_path) == {"set/mine.txt": b"old"}


def test_of_several_files_only_the_missing_ones_are_got(server, run, tmp_path):
    server.files = {"a": b"alpha", "b": b"beta", "c": b"gamma"}
    listed = {name: (len(content), digest(content)) for name, content in server.files.items()}
    table = {"set": download.plain_files(server.url, "deep/", listed)}
    files.write_bytes(tmp_path / "data" / "deep" / "b", b"beta")
    assert "1 of 3" in run(table)[1]
    assert run(table, "set")[0] == 0
    assert [name for name, _, _ in server.requests] == ["a", "c"]
    assert contents(tmp_path / "data") == {"deep/a": b"alpha", "deep/b": b"beta", "deep/c": b"gamma"}


def test_of_an_archive_of_several_files_those_that_are_there_stay(server, run, tmp_path):
    places = {"a": "set/a", "b": "set/b"}
    table = one_archive(server, zip_bytes({"a": b"alpha", "b": b"beta"}), places=places, holds=())
    files.write_bytes(tmp_path / "data" / "set" / "a", b"mine")
    assert run(table, "set")[0] == 0
    assert (tmp_path / "data" / "set" / "a").read_bytes() == b"mine"
    assert (tmp_path / "data" / "set" / "b").read_bytes() == b"beta"
    assert run(table, "set", "--force")[0] == 0 and (tmp_path / "data" / "set" / "a").read_bytes() == b"alpha"


def test_a_file_of_one_s_own_in_the_place_is_kept_and_named_and_force_replaces_it(server, run, tmp_path):
    files.write_bytes(tmp_path / "data" / "file.bin", b"mine")
    table = one_file(server, digest(CONTENT))
    assert "not as published: file.bin" in run(table)[1]
    assert failed(run(table, "set"), "file.bin: what is there is not as published; --force replaces it")
    assert contents(tmp_path / "data") == {"file.bin": b"mine"} and server.requests == []
    assert run(table, "set", "--force")[0] == 0 and contents(tmp_path / "data") == {"file.bin": CONTENT}


def test_an_empty_folder_in_the_place_is_filled_and_half_a_set_is_named(server, run, tmp_path):
    table = one_archive(server, zip_bytes({"top/a.txt": b"a"}))
    (tmp_path / "data" / "set").mkdir(parents=True)
    assert run(table, "set")[0] == 0 and (tmp_path / "data" / "set" / "a.txt").read_bytes() == b"a"
    (tmp_path / "data" / "set" / "a.txt").rename(tmp_path / "data" / "set" / "a.png")
    assert failed(run(table, "set"), r"set/\*.txt: what is there is not as published")


# ---- the command


def test_alone_the_command_lists_sizes_what_is_there_and_addresses_and_does_nothing(run, tmp_path):
    status, out, err = run(download.TABLE)
    assert (status, err) == (0, []) and os.listdir(tmp_path) == []
    for name, size in {"insects": "47 MB", "styles": "2.1 MB", "glove": "862 MB", "flickr8k": "1.1 GB"}.items():
        assert re.search(rf"^{name} +{size} +no +https://", out, re.MULTILINE)
    files.write_bytes(tmp_path / "data" / "coco_captioning" / "a.h5", b"1")
    files.write_bytes(tmp_path / "data" / "glove" / "mine.txt", b"1")
    assert re.search(r"^glove +862 MB +no, but others are +http", run(download.TABLE)[1], re.MULTILINE)
    assert re.search(r"^coco +1.0 GB +yes +http://", run(download.TABLE)[1], re.MULTILINE)


def test_a_set_that_fails_keeps_no_other_from_coming_and_all_reasons_stand_in_one_line(server, run, tmp_path):
    table = {
        "first": one_file(server, name="gone.bin")["set"],
        "second": one_file(server, digest(CONTENT))["set"],
        "third": one_file(server, name="lost.bin")["set"],
    }
    assert failed(run(table, "all"), "gone.bin: .*; .*lost.bin: ")
    assert contents(tmp_path / "data") == {"file.bin": CONTENT}


PUBLISHED = {  # the archives as they were published: what lies in them, and what comes of it
    "hymenoptera_data.zip": {
        "hymenoptera_data/train/ants/1.jpg": "hymenoptera_data/train/ants/1.jpg",
        "hymenoptera_data/train/ants/imageNet.gif": "hymenoptera_data/train/ants/imageNet.gif",
        "hymenoptera_data/train/bees/2.jpg": "hymenoptera_data/train/bees/2.jpg",
        "hymenoptera_data/val/ants/3.jpg": "hymenoptera_data/val/ants/3.jpg",
        "hymenoptera_data/val/bees/4.jpg": "hymenoptera_data/val/bees/4.jpg",
    },
    "glove.6B.zip": {f"glove.6B.{size}d.txt": f"glove/glove.6B.{size}d.txt" for size in (50, 100, 200, 300)},
    "Flickr8k_Dataset.zip": {"Flicker8k_Dataset/1.jpg": "flickr8k/images/1.jpg", "__MACOSX/._1.jpg": None},
    "Flickr8k_text.zip": {
        "Flickr8k.token.txt": "flickr8k/Flickr8k.token.txt",
        "Flickr_8k.trainImages.txt": "flickr8k/Flickr_8k.trainImages.txt",
        "Flickr_8k.devImages.txt": "flickr8k/Flickr_8k.devImages.txt",
        "Flickr_8k.testImages.txt": "flickr8k/Flickr_8k.testImages.txt",
        "Flickr8k.lemma.token.txt": None,
        "readme.txt": None,
    },
    "coco_captioning.zip": {
        "coco_captioning/coco2014_captions.h5": "coco_captioning/coco2014_captions.h5",
        "coco_captioning/coco2014_vocab.json": "coco_captioning/coco2014_vocab.json",
    },
}


def test_all_sets_come_in_the_layout_that_the_scripts_read(server, run, tmp_path):
    expected, table = {}, {}
    for name, sources in download.TABLE.items():
        served = []
        for source in sources:
            members = PUBLISHED.get(source.name)
            body = zip_bytes(dict.fromkeys(members, b"content")) if members else source.name.encode()
            server.files[source.name] = body
            served.append(dataclasses.replace(source, url=server.url + source.name, size=len(body), sha256=""))
            places = filter(None, members.values()) if members else source.places.values()
            expected.update(dict.fromkeys(places, b"content" if members else body))
        table[name] = tuple(served)
    assert run(table, "all")[0] == 0
    found = contents(tmp_path / "data")
    assert len(json.loads(found.pop("checksums.json"))) == sum(map(len, table.values()))
    assert found == expected
    flat = {
        "train.txt",
        "dev.txt",
        "test.txt",
        "unlabelled.txt",
        "styles/tubingen.jpg",
        "weights/resnet18-f37072fd.pth",
    }
    assert found.keys() >= flat
    server.requests.clear()
    assert run(table, "all")[0] == 0 and server.requests == []


@pytest.mark.parametrize(
    "words, says",
    [
        (["nosuch"], "nosuch: no such data set; there is set, all"),
        (["--arch", "resnet19"], "--arch resnet19: torchvision has no classifier of this name; there is .*resnet18"),
        (["set", "--data", "builtin"], "--data builtin: give the folder"),
        (["set", "--data", __file__], "test_download.py: give the folder"),
        (["--data", "x" * 300], "File name too long"),
    ],
)
def test_a_wrong_argument_is_one_line_that_says_what_to_do(capfd, words, says):
    table = {"set": (Source("http://127.0.0.1:9/x", 1, {"": "x"}),)}
    with pytest.raises(SystemExit) as end:
        run_main(lambda: download.main(words, table))
    out, err = capfd.readouterr()
    assert out == "" and failed((end.value.code, out, err.splitlines()), says)


def test_help_names_the_sets_and_shows_the_defaults(capsys):
    with pytest.raises(SystemExit) as end:
        download.main(["--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0 and all(name in out for name in download.TABLE) and "SUPPRESS" not in out


# ---- the table


def test_the_weights_of_the_table_are_torchvision_s_own():
    for source in download.TABLE["weights"]:
        ours = download.weight_source(source.name.split("-")[0])
        assert (ours.url, ours.places, ours.sha256) == (source.url, source.places, source.sha256)
        assert abs(ours.size - source.size) < 500_000


def test_the_weights_of_any_other_classifier_come_from_torchvision_s_address():
    assert download.weight_source("vgg16").url.endswith("/vgg16-397923af.pth")
    assert download.weight_source("shufflenet_v2_x0_5").sha256 == "f707e7126e"
    assert download.weight_source("vit_h_14").places.keys() == {""}  # has no IMAGENET1K_V1


def test_arch_gets_the_weights_of_that_architecture_and_not_the_default_ones(server, run, tmp_path, monkeypatch):
    source = dataclasses.replace(one_file(server)["set"][0], places={"": "weights/file.bin"})
    monkeypatch.setattr(download, "weight_source", lambda arch: {"vgg16": source}[arch])
    assert run({"weights": ()}, "--arch", "vgg16")[0] == 0
    assert (tmp_path / "data" / "weights" / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["sentences", "styles", "insects", "flickr8k"])
def test_the_real_data_is_what_the_table_says(hw2_data, name):
    for source in download.TABLE[name]:
        assert download.missing(source, hw2_data) == [] and download.unmatched(source, hw2_data) == []
        if len(source.sha256) == 64:
            assert all((hw2_data / place).stat().st_size == source.size for place in source.places.values())
