"""data/files.py: files are whole or not there, and an archive cannot reach outside its folder."""

import hashlib
import io
import json
import os
import stat
import tarfile
import zipfile

import pytest

from data import DataError, files
from tests.conftest import contents, not_as_root, run_python


def make_zip(path, members):
    """Writes a .zip to a path or an open file. members: name, or ZipInfo, to content."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content, zipfile.ZIP_DEFLATED)
    return path


def make_tar(path, members, mode="w", **options):
    """Writes a .tar. members: name to content, or to a dict of the TarInfo's fields and the content, if any."""
    with tarfile.open(path, mode, **options) as archive:
        for name, given in members.items():
            fields = dict(given) if isinstance(given, dict) else {"content": given}
            content, member = fields.pop("content", b""), tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(member, field, value)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def zip_bytes(members):
    return make_zip(io.BytesIO(), members).getvalue()


def tar_bytes(members, mode="w", **options):
    buffer = io.BytesIO()
    make_tar(None, members, mode, fileobj=buffer, **options)
    return buffer.getvalue()


# ---- writing


def test_write_bytes_makes_the_folders_on_the_way_and_leaves_nothing_else(tmp_path):
    files.write_bytes(tmp_path / "a" / "b" / "name", b"content")
    assert contents(tmp_path) == {"a/b/name": b"content"}


def test_write_json_can_be_read_back_and_keeps_letters_readable(tmp_path):
    files.write_json(tmp_path / "x.json", {"Tübingen": [1, 2.5, None]})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"Tübingen": [1, 2.5, None]} and "Tübingen" in text and text.endswith("}\n")


@pytest.mark.parametrize("before", [b"old", None], ids=["over an old file", "new file"])
def test_a_write_killed_before_the_rename_leaves_what_was_there(tmp_path, before):
    target = tmp_path / "name"
    if before:
        target.write_bytes(before)
    code = (
        "import os, signal, sys; from data import files\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_bytes(sys.argv[1], b'new' * 1000)"
    )
    assert run_python("-c", code, target).returncode == -9
    left = contents(tmp_path)
    assert left.pop("name", None) == before
    assert [name for name in left if not name.startswith(files.TEMPORARY)] == []


def test_a_write_to_a_full_disk_is_one_dataerror_and_leaves_the_old_file_and_no_other(tmp_path):
    (tmp_path / "name").write_bytes(b"old")
    code = (
        "import resource, sys; from data import DataError, files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: files.write_bytes(sys.argv[1], bytes(5000))\n"
        "except DataError as error: print(error)"
    )
    done = run_python("-c", code, tmp_path / "name")
    assert done.stdout == f"{tmp_path / 'name'}: File too large\n" and done.stderr == ""
    assert contents(tmp_path) == {"name": b"old"}


@not_as_root
def test_a_write_without_permission_is_a_dataerror_that_names_the_file(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="name: Permission denied"):
        files.write_bytes(tmp_path / "name", b"x")
    tmp_path.chmod(0o700)
    assert contents(tmp_path) == {}


def test_a_folder_or_a_file_in_the_way_of_a_write_is_a_dataerror(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="folder: Is a directory"):
        files.write_bytes(tmp_path / "folder", b"x")
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(DataError, match="file/name: "):
        files.write_bytes(tmp_path / "file" / "name", b"x")
    assert contents(tmp_path) == {"file": b"old"}


# ---- folders


def test_new_folder_takes_its_name_only_when_the_block_has_ended_well(tmp_path):
    target = tmp_path / "deep" / "set"
    with files.new_folder(target) as folder:
        (folder / "x").write_bytes(b"1")
        assert not target.exists() and folder.parent.parent == target.parent
    assert contents(tmp_path) == {"deep/set/x": b"1"} and os.listdir(target.parent) == ["set"]
    assert os.access(target, os.R_OK | os.X_OK)
    assert not stat.S_IMODE(target.stat().st_mode) & stat.S_IWOTH


def test_new_folder_vanishes_when_its_block_fails_and_the_error_stays_as_it_was(tmp_path):
    with pytest.raises(FileNotFoundError, match="mine"), files.new_folder(tmp_path / "set") as folder:
        (folder / "x").write_bytes(b"1")
        raise FileNotFoundError("mine")
    assert os.listdir(tmp_path) == []


def test_new_folder_that_is_killed_leaves_no_folder_of_that_name(tmp_path):
    code = (
        "import os, signal, sys; from data import files\n"
        "with files.new_folder(sys.argv[1]) as folder:\n"
        "    (folder / 'x').write_bytes(b'1'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert run_python("-c", code, tmp_path / "set").returncode == -9
    assert [name for name in os.listdir(tmp_path) if not name.startswith(files.TEMPORARY)] == []


def test_what_a_killed_process_left_unfinished_is_swept_away_and_what_a_living_one_writes_is_not(tmp_path):
    code = (
        "import os, signal, sys; from data import files\n"
        "files.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "with files.new_folder(sys.argv[1] + '/set') as folder:\n"
        "    files.write_bytes(sys.argv[1] + '/file', b'1')"
    )
    assert run_python("-c", code, tmp_path).returncode == -9
    assert len(list(tmp_path.glob(files.TEMPORARY + "*"))) == 2
    (tmp_path / "mine").touch()
    with files.new_folder(tmp_path / "other") as folder:
        files.sweep(tmp_path)
        assert set(tmp_path.iterdir()) == {folder.parent, tmp_path / "mine"}
    files.sweep(tmp_path / "nosuch")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_or_a_link_with_the_name_of_an_unfinished_file_is_passed_over(tmp_path):
    os.mkfifo(tmp_path / f"{files.TEMPORARY}pipe")
    (tmp_path / f"{files.TEMPORARY}link").symlink_to(tmp_path)
    files.sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_without_locks_nothing_is_swept_away_as_nothing_tells_whose_it_is(tmp_path, monkeypatch):
    (tmp_path / f"{files.TEMPORARY}1-x").touch()
    monkeypatch.setattr(files, "fcntl", None)
    files.sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_new_folder_keeps_a_folder_that_another_run_has_made_meanwhile(tmp_path):
    with files.new_folder(tmp_path / "set") as folder:
        (folder / "x").write_bytes(b"second")
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "x").write_bytes(b"first")
    assert contents(tmp_path) == {"set/x": b"first"} and os.listdir(tmp_path) == ["set"]


def test_new_folder_with_a_file_of_that_name_is_a_dataerror_and_keeps_the_file(tmp_path):
    (tmp_path / "set").write_bytes(b"mine")
    with pytest.raises(DataError, match="set: Not a directory"), files.new_folder(tmp_path / "set"):
        pass
    assert contents(tmp_path) == {"set": b"mine"} and os.listdir(tmp_path) == ["set"]


def test_scratch_folder_vanishes_with_its_content_also_on_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), files.scratch_folder(tmp_path / "below") as scratch:
        (scratch / "x").write_bytes(b"1")
        raise ZeroDivisionError
    assert os.listdir(tmp_path / "below") == []


def test_a_folder_kept_alone_refuses_a_second_run_and_is_free_after_the_first_was_killed(tmp_path):
    with files.alone(tmp_path, "wait"), pytest.raises(DataError, match="another run is busy here; wait"):
        with files.alone(tmp_path, "wait"):
            pass
    code = (
        "import os, signal, sys; from data import files\n"
        "with files.alone(sys.argv[1], ''): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert run_python("-c", code, tmp_path).returncode == -9
    with files.alone(tmp_path, "wait"):
        assert os.listdir(tmp_path) == []


# ---- checksums


def test_sha256_is_hashlib_s_for_files_of_no_byte_and_of_several_megabytes(tmp_path):
    for content in (b"", os.urandom((1 << 21) + 17)):
        (tmp_path / "x").write_bytes(content)
        assert files.sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()


def test_sha256_of_a_file_that_is_not_there_is_a_dataerror_that_names_it(tmp_path):
    with pytest.raises(DataError, match="nothing: No such file"):
        files.sha256(tmp_path / "nothing")


def test_fingerprint_is_equal_for_equal_things_and_another_for_others():
    assert files.fingerprint("a", 1) == files.fingerprint("a", 1)
    assert (
        len({files.fingerprint("a", 1), files.fingerprint("a", 2), files.fingerprint("a", "1"), files.fingerprint()})
        == 4
    )


# ---- unpacking

TREE = {"top/a.txt": b"alpha", "top/deep/b.bin": os.urandom(3 << 20), "c": b""}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_unpack_gives_the_files_that_went_in_and_tells_the_bytes(tmp_path, kind):
    archive = tmp_path / f"x.{kind}"
    if kind == "zip":
        make_zip(archive, {"top/": b"", **TREE})
    else:
        folders = {"./": {"type": tarfile.DIRTYPE}, "top": {"type": tarfile.DIRTYPE}}
        make_tar(archive, {**folders, **TREE}, "w:gz" if kind == "tar.gz" else "w")
    told = []
    files.unpack(archive, tmp_path / "out", 4 << 20, told.append)
    assert contents(tmp_path / "out") == TREE and sum(told) == sum(map(len, TREE.values()))


def test_unpack_allows_just_as_many_bytes_as_it_is_told(tmp_path):
    archive = make_zip(tmp_path / "x.zip", {"a": bytes(1000), "b": bytes(500)})
    files.unpack(archive, tmp_path / "one", 1500 + 2 * files.BLOCK)
    with pytest.raises(files.ArchiveError, match="unpacks to more than"):
        files.unpack(archive, tmp_path / "two", 1499 + 2 * files.BLOCK)


def test_unpack_stops_a_bomb_before_it_fills_the_disk(tmp_path):
    archive = make_zip(tmp_path / "x.zip", {"bomb": bytes(50 << 20)})
    assert archive.stat().st_size < 100_000
    with pytest.raises(files.ArchiveError, match="unpacks to more than 5,000,000 bytes"):
        files.unpack(archive, tmp_path / "out", 5_000_000)
    assert sum(map(len, contents(tmp_path / "out").values())) <= 5_000_000


def test_unpack_counts_empty_files_too_so_that_a_million_of_them_are_refused(tmp_path):
    archive = make_zip(tmp_path / "x.zip", {str(number): b"" for number in range(50)})
    with pytest.raises(files.ArchiveError, match="unpacks to more than"):
        files.unpack(archive, tmp_path / "out", 40 * files.BLOCK)


def link_in_zip(name):
    """A member that is a symbolic link; its content is where to."""
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


HOSTILE = {  # a function of the archive's path and of a path outside, and what the error says
    "zip: ../": (lambda path, out: make_zip(path, {"../evil": b"x"}), "outside"),
    "zip: a/../../": (lambda path, out: make_zip(path, {"a/../../evil": b"x"}), "outside"),
    "zip: ..\\": (lambda path, out: make_zip(path, {"..\\evil": b"x"}), "outside"),
    "zip: folder ../": (lambda path, out: make_zip(path, {"../evil/": b""}), "outside"),
    "zip: absolute": (lambda path, out: make_zip(path, {str(out): b"x"}), "outside"),
    "zip: drive": (lambda path, out: make_zip(path, {"C:/evil": b"x"}), "outside"),
    "zip: symlink": (
        lambda path, out: make_zip(path, {link_in_zip("link"): b"/etc/passwd", "link/x": b"evil"}),
        "is a link",
    ),
    "tar: ../": (lambda path, out: make_tar(path, {"../evil": b"x"}), "outside"),
    "tar: absolute": (lambda path, out: make_tar(path, {str(out): b"x"}), "outside"),
    "tar: symlink": (
        lambda path, out: make_tar(path, {"s": dict(type=tarfile.SYMTYPE, linkname=str(out.parent))}),
        "link",
    ),
    "tar: hard link": (
        lambda path, out: make_tar(path, {"h": dict(type=tarfile.LNKTYPE, linkname="/etc/passwd")}),
        "link",
    ),
    "tar: device": (
        lambda path, out: make_tar(path, {"d": dict(type=tarfile.CHRTYPE, devmajor=1, devminor=3)}),
        "device",
    ),
    "tar: pipe": (lambda path, out: make_tar(path, {"p": dict(type=tarfile.FIFOTYPE)}), "device"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_unpack_refuses_a_hostile_member_and_touches_nothing_outside(tmp_path, case):
    make, says = HOSTILE[case]
    (tmp_path / "in").mkdir()
    archive = make(tmp_path / "in" / "archive", tmp_path / "evil")
    with pytest.raises(files.ArchiveError, match=says):
        files.unpack(archive, tmp_path / "in" / "out", 1 << 20)
    assert os.listdir(tmp_path) == ["in"] and set(os.listdir(tmp_path / "in")) <= {"archive", "out"}
    out = tmp_path / "in" / "out"
    assert not out.exists() or os.listdir(out) == []


def broken_archives():
    random = os.urandom(50_000)
    whole_zip, whole_tar = zip_bytes({"a": random}), tar_bytes({"a": random}, "w:gz")

    def flipped(content, at):
        return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]

    return {
        "cut zip": whole_zip[:30_000],
        "cut tar.gz": whole_tar[:30_000],
        "zip with another sum": flipped(whole_zip, 25_000),
        "zip that is no deflate": flipped(whole_zip, 31),
        "tar.gz with another sum": flipped(whole_tar, -8),
        "web page": b"<html>404</html>" * 100,
        "empty": b"",
        "member without a name": whole_zip.replace(b"a", b"\0"),
    }


@pytest.mark.parametrize("case", broken_archives())
def test_unpack_of_a_broken_archive_is_one_line_that_names_it(tmp_path, case):
    (tmp_path / "x.zip").write_bytes(broken_archives()[case])
    with pytest.raises(files.ArchiveError, match=r"x.zip: not a whole .zip or .tar archive \(.+\)") as caught:
        files.unpack(tmp_path / "x.zip", tmp_path / "out", 1 << 20)
    assert "\n" not in str(caught.value)


def test_unpack_onto_a_full_disk_blames_the_disk_and_not_the_archive(tmp_path):
    archive = make_zip(tmp_path / "x.zip", {"a": bytes(50_000)})
    code = (
        "import resource, sys; from data import DataError, files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: files.unpack(sys.argv[1], sys.argv[2], 1 << 20)\n"
        "except DataError as error: print(type(error).__name__, error)"
    )
    done = run_python("-c", code, archive, tmp_path / "out")
    assert done.stdout == f"DataError {tmp_path / 'out' / 'a'}: File too large\n" and done.stderr == ""


@not_as_root
def test_unpack_without_permission_blames_the_folder(tmp_path):
    archive = make_zip(tmp_path / "x.zip", {"a": b"1"})
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(DataError, match="out/a: Permission denied"):
        files.unpack(archive, tmp_path / "out", 1 << 20)
