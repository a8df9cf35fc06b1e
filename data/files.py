"""Files that are whole or not there at all: atomic writes, checksums, safe unpacking."""

import contextlib
import hashlib
import json
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from data import DataError

try:
    import fcntl
except ImportError:  # Windows: two runs into one folder are then not kept apart
    fcntl = None

TEMPORARY = ".unfinished-"  # how the name of a file or folder begins until it is whole
BLOCK = 4096  # about what the smallest file takes on a disk
LONGEST = 1 << 17  # characters that a line of text may have
MOST_JSON = 1 << 24  # bytes of a JSON file that is read; lists in it may take twenty times as much memory
MOST_HEADER = 1 << 16  # bytes of what a .tar says of one member beside its content, by members of these types:
HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
UNREADABLE = (  # what zipfile and tarfile raise on a broken archive, an encrypted one, one with absurd numbers in it
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError, IndexError),
)
# What `read_json` raises, and what taking a file that is not ours apart does.
BAD_JSON = (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError)


class ArchiveError(DataError):
    """The archive itself is at fault, not the disk that it is unpacked to."""


@contextlib.contextmanager
def user_errors(path):
    """Turns an OSError about `path` (no room, no permission, a folder in the way) into a one-line DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def write_bytes(path, content):
    """Writes `content` to `path`: under a temporary name first, then renamed, so that no reader ever sees a part of it.

    What a process that was killed left of its temporary file, `sweep` removes.

    Raises DataError, naming the file, where it cannot be written; what was at `path` before is then still there.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    with user_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.touch()
            with _held(temporary):
                temporary.write_bytes(content)
                os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path, text):
    """`write_bytes` of `text` in UTF-8."""
    write_bytes(path, text.encode(errors="backslashreplace"))  # file names may hold what is not Unicode


def write_json(path, content):
    """`write_text` of `content` as indented JSON."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def scratch_folder(parent):
    """A temporary folder in the folder `parent` (made if need be); it vanishes, with its content, when the block ends.

    Raises DataError, naming `parent`, where it cannot be made.
    """
    with user_errors(parent):
        Path(parent).mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=parent))
    try:
        with _held(scratch):
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def new_folder(path):
    """A temporary folder to fill, which takes the name `path` when the block ends well and vanishes when it does not.

    A folder that another run put at `path` in the meantime stays. Raises DataError where the folder cannot be made.
    """
    path = Path(path)
    with scratch_folder(path.parent) as scratch:
        temporary = scratch / "new"
        with user_errors(path):
            temporary.mkdir()
        yield temporary
        with user_errors(path):
            try:
                if not path.is_dir():
                    os.rename(temporary, path)
            except OSError:
                if not path.is_dir():
                    raise


_locks = set()  # file descriptors that a forked process must not keep: it would hold our locks when we are gone
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: [os.close(_locks.pop()) for _ in range(len(_locks))])


@contextlib.contextmanager
def _held(path, wait=True):
    """Locks a file or folder while the block runs; the system drops the lock however the process ends.

    Gives whether it is locked: there are disks on a network, and systems, without locks.
    Raises BlockingIOError where another process has it and `wait` is False.
    """
    handle = os.open(path, os.O_RDONLY)
    _locks.add(handle)
    try:
        yield _lock(handle, wait)
    finally:
        if handle in _locks:  # not so in a forked process
            _locks.remove(handle)
            os.close(handle)


def _lock(handle, wait):
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        raise
    except (OSError, AttributeError):
        return False


@contextlib.contextmanager
def alone(folder, advice):
    """Keeps `folder` to this process while the block runs.

    Raises DataError, which ends with `advice`, where another process has the folder, or where there is no such folder.
    """
    with contextlib.ExitStack() as stack:
        with user_errors(folder):
            try:
                stack.enter_context(_held(folder, wait=False))
            except BlockingIOError:
                raise DataError(f"{folder}: another run is busy here; {advice}") from None
        yield


def sweep(folder):
    """Removes what killed runs left unfinished in `folder`; what a living one is still writing is locked, and stays."""
    for path in Path(folder).glob(f"{TEMPORARY}*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):  # none of ours; opening a pipe would wait
            continue
        with contextlib.suppress(OSError), _held(path, wait=False) as locked:
            if locked:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def sha256(path):
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with user_errors(path), open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(*things):
    """A short hexadecimal digest of strings, numbers and the like, by which a cache knows that it is stale."""
    return hashlib.sha256(repr(things).encode()).hexdigest()[:12]


def lines(path):
    """The lines of a UTF-8 text file, one at a time, with any system's line ends and without them; a mark is dropped.

    Raises DataError where the file is missing or a folder, and, naming the line, where one is not UTF-8 or longer than
    `LONGEST`.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; it should be a text file")
    with user_errors(path), open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST + 1), ""), 1):
            if not line.isascii() and any("\ud800" <= letter <= "\udfff" for letter in line):
                raise DataError(f"{path}, line {number}: is not UTF-8 text; save the file as UTF-8")
            line = line.removesuffix("\n")
            if len(line) > LONGEST:
                raise DataError(f"{path}, line {number}: is longer than {LONGEST:,} characters; break or remove it")
            yield line


def read_json(path):
    """What a JSON file holds. Raises OSError, ValueError (it is larger than `MOST_JSON`, too) or RecursionError."""
    with open(path, "rb") as file:
        content = file.read(MOST_JSON + 1)
    if len(content) > MOST_JSON:
        raise ValueError(f"larger than {MOST_JSON:,} bytes")
    return json.loads(content.decode())


def unpack(archive, folder, most_bytes, progress=None):
    """Unpacks a .zip or .tar(.gz) member by member into `folder`; plain files and folders only.

    most_bytes: how many bytes the members may have together, each counting 4,096 more, so that a small archive cannot
    fill the disk.
    progress: called with the number of bytes of each piece written.
    Raises ArchiveError on a member that would land outside `folder` (`../`, an absolute path), a link, a device, too
    many bytes, or a broken archive, and DataError where `folder` cannot be written to. What had been unpacked by then
    is left in `folder` for the caller to remove.
    """
    left = most_bytes
    with _archive_errors(archive), _opened(archive) as members:
        for name, kind, open_member in members:
            target = _inside(folder, name, archive)
            if kind not in ("file", "folder"):
                raise ArchiveError(f"{archive}: member {name!r} is a {kind}; not unpacked")
            with user_errors(target):
                (target if kind == "folder" else target.parent).mkdir(parents=True, exist_ok=True)
            left -= BLOCK
            if kind == "file":
                with user_errors(target), open(target, "wb") as out:
                    for piece in _pieces(open_member, archive):
                        left -= len(piece)
                        if left < 0:
                            break
                        out.write(piece)
                        if progress:
                            progress(len(piece))
            if left < 0:
                raise ArchiveError(f"{archive}: unpacks to more than {most_bytes:,} bytes; not unpacked")


@contextlib.contextmanager
def _archive_errors(archive):
    """Turns what the readers of archives raise on a broken one into an ArchiveError."""
    try:
        yield
    except UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ArchiveError(f"{archive}: not a whole .zip or .tar archive ({reason})") from None


def _pieces(open_member, archive):
    """The content of a member, a megabyte at a time."""
    with _archive_errors(archive), open_member() as source:
        while piece := source.read(1 << 20):
            yield piece


@contextlib.contextmanager
def _opened(archive):
    """The members of an archive as triples: name, kind (file, folder, link, device), a function that opens it."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zip_file:
            yield ((m.filename, _zip_kind(m), lambda m=m: zip_file.open(m)) for m in zip_file.infolist())
    else:
        with tarfile.open(archive, tarinfo=_TarMember) as tar:
            yield ((m.name, _tar_kind(m), lambda m=m: tar.extractfile(m)) for m in tar)
            while tar.fileobj.read(1 << 20):  # gzip checks its sum at the very end
                pass


class _TarMember(tarfile.TarInfo):
    """A member of a .tar. What tarfile reads of it into memory at once must be short: a long name, say."""

    @classmethod
    def frombuf(cls, *block):
        member = super().frombuf(*block)
        if member.type in HEADERS and member.size > MOST_HEADER:
            raise ValueError("a member with a header too long")
        return member

    def _proc_sparse(self, *_):
        raise ValueError("a member with holes in it")  # tarfile keeps a list of them, however long

    _proc_gnusparse_10 = _proc_sparse


def _zip_kind(member):
    mode = member.external_attr >> 16
    if member.is_dir():
        return "folder"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "file of a compression that is unpacked all at once"  # by zipfile, however large it gets
    if stat.S_IFMT(mode) in (0, stat.S_IFREG):
        return "file"
    return "link" if stat.S_ISLNK(mode) else "device"


def _tar_kind(member):
    if member.isdir():
        return "folder"
    if member.isreg():
        return "file"
    return "link" if member.issym() or member.islnk() else "device"


def _inside(folder, name, archive):
    """`folder / name`, where that lies inside `folder`."""
    parts = PurePosixPath(name.replace("\\", "/")).parts  # () for "./"
    if ".." in parts or any(part[0] == "/" or ":" in part for part in parts[:1]) or "\0" in name:
        raise ArchiveError(f"{archive}: member {name!r} would land outside of its folder; not unpacked")
    return Path(folder, *parts)
