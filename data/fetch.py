"""One file from a server, which comes whole or goes on, in the next run, where it stopped.

What is known of an unfinished download lies beside it in a small JSON file: url, validator, total (bytes or null).
"""

import contextlib
import http
import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from data import DataError, files

GB, MB = 10**9, 10**6
TIMEOUT = 30  # seconds that a server may be silent
PAUSES = (1, 2, 4)  # seconds to wait before each new try after the connection dropped
GO_ON = "run the same command again: it goes on where it stopped"


def readable(size):
    """A number of bytes as people say it."""
    if size >= GB:
        return f"{size / GB:.1f} GB"
    if size >= MB / 10:
        return f"{size / MB:.{0 if size >= 10 * MB else 1}f} MB"
    return f"{size / 1000:.0f} kB"


def size_of(path):
    """The bytes that a file has, 0 where there is none."""
    with files.user_errors(path):
        return path.stat().st_size if path.exists() else 0


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but none from an encrypted connection to an open one."""

    def redirect_request(self, request, response, code, message, headers, url):
        if request.full_url.startswith("https:") and not url.startswith("https:"):
            raise DataError(f"{request.full_url}: the server sends us on to an unencrypted address; not followed")
        return super().redirect_request(request, response, code, message, headers, url)


def fetch(source, folder):
    """Downloads the file of `source` into `folder`, going on with what is there of it, and returns its path.

    source: a `data.download.Source`, of which its url, name, size and sha256 count.

    Whether the file on the server is still the same is asked with If-Range; if it is not, or the server cannot send
    parts, the download starts over. After a dropped connection it tries again, `PAUSES` says how often; a try that got
    further than any before it does not count.
    Raises DataError where the server has no such file, cannot be reached, breaks off too often, or sends more than it
    should, and where the disk is full. What has come is kept for the next run.
    """
    path = Path(folder, source.name)
    furthest, failures, began = 0, 0, False
    while not _is_whole(path, source):
        try:
            _receive(source, path)
            continue
        except urllib.error.HTTPError as error:
            problem = _status(error)
            if error.code < 500 and error.code not in (408, 429):
                raise DataError(f"{source.url}: {problem}; data/README.md says what to put where by hand") from None
        except urllib.error.URLError as error:
            problem = f"cannot connect ({_line(error.reason)})"
            if not began:
                raise DataError(f"{source.url}: {problem}; is there a network? Then run the command again") from None
        except (OSError, http.client.HTTPException) as error:
            problem, began = f"the connection dropped ({_line(error)})", True
        except ValueError as error:
            raise DataError(f"{source.url}: leads to an address that cannot be right ({_line(error)})") from None
        failures = 0 if size_of(path) > furthest else failures + 1
        furthest = max(furthest, size_of(path))
        if failures > len(PAUSES):
            come = f" after {readable(furthest)} of {readable(source.size)}" if furthest else ""
            after = "it goes on where it stopped" if _resumable(path, source) else "it starts over"
            raise DataError(f"{source.url}: {problem}{come}; run the command again: {after}")
        time.sleep(PAUSES[max(failures - 1, 0)])
    return path


def _receive(source, path):
    """One request: adds to the file at `path` what is missing of it, or writes it anew where that cannot be."""
    notes = _notes(path, source)
    have = _resumable(path, source)
    request = urllib.request.Request(source.url, headers={"User-Agent": "homework-data/1"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if notes["validator"]:
            request.add_header("If-Range", notes["validator"])
    try:
        response = urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # the file on the server is no longer than our part of it
            return drop(path)
        raise
    with response:
        validator, total = _validator(response.headers), response.headers.get("Content-Length")
        total = int(total) if total and total.isdigit() else None
        if response.status == 206:
            sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if not have:
                raise DataError(f"{source.url}: the server sends a part where we asked for the whole; try again later")
            validator = validator or notes["validator"]  # a part need not repeat it
            if not sent or int(sent[1]) != have or validator != (notes["validator"] or validator):
                return drop(path)
            if sent[2] != "*":
                total = int(sent[2])
            elif total is not None:
                total += have
        else:
            have = 0
        _save_body(source, path, response, have, total, validator)


def _save_body(source, path, response, have, total, validator):
    """Writes the response's body to `path`, behind the `have` bytes that are there."""
    most = source.size if len(source.sha256) == 64 else 2 * source.size + MB
    with files.user_errors(path.parent):
        room = shutil.disk_usage(path.parent).free
    if total is not None and total - have > room:
        raise DataError(
            f"{path.parent}: needs {readable(total - have)}, but only {readable(room)} are free on this disk"
        )
    with files.user_errors(path):
        out = open(path, "ab" if have else "wb", buffering=0)
    with (
        out,
        tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=source.name, leave=False, disable=None) as bar,
    ):
        _write_notes(path, source, validator, total)
        while have != total and have <= most:
            piece = response.read1(1 << 18 if total is None else min(1 << 18, total - have))
            if not piece:
                break
            try:
                left = memoryview(piece)
                while left:
                    left = left[out.write(left) :]
            except OSError as error:
                advice = f"make room and {GO_ON}"
                raise DataError(f"{path}: {_line(error)}; {advice}") from None
            have += len(piece)
            bar.update(len(piece))
    if max(have, total or 0) > most:
        drop(path)
        raise DataError(f"{source.url}: sends more than the {readable(source.size)} that it should have; removed")
    if total is None:  # a body without a length ends where the server ends it
        _write_notes(path, source, validator, have)
    elif have < total:
        raise ConnectionError(f"{have:,} of {total:,} bytes came")


def _status(error):
    """What an HTTP error says, in our words: the server's own could hold anything."""
    if error.code in (301, 302, 303, 307, 308):
        return "the server redirects in a circle, or to where a download may not go"
    with contextlib.suppress(ValueError):
        return f"the server answers {error.code} ({http.HTTPStatus(error.code).phrase})"
    return f"the server answers {error.code}"


def _line(error):
    """An error's reason, short."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:200]


def _validator(headers):
    """What If-Range takes to ask whether a file has changed: a strong ETag, else the date, else ""."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _notes_path(path):
    return path.with_name(path.name + ".json")


def _write_notes(path, source, validator, total):
    files.write_json(_notes_path(path), {"url": source.url, "validator": validator, "total": total})


def _notes(path, source):
    """What was noted of the file at `path`, or {} where nothing was, or another address's."""
    try:
        notes = files.read_json(_notes_path(path))
        known = path.is_file() and notes["url"] == source.url and notes.keys() == {"url", "validator", "total"}
        return notes if known and isinstance(notes["validator"], str) else {}
    except files.BAD_JSON:
        return {}


def _resumable(path, source):
    """How many bytes at `path` a download can go on from: none where a change on the server would not be noticed."""
    notes = _notes(path, source)
    return size_of(path) if notes and (notes["validator"] or source.sha256) else 0


def _is_whole(path, source):
    notes = _notes(path, source)
    return bool(notes) and notes["total"] == size_of(path)


def drop(path):
    """Removes a download and what was noted of it."""
    with files.user_errors(path):
        path.unlink(missing_ok=True)
        _notes_path(path).unlink(missing_ok=True)
