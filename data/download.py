"""Downloads the real data sets and the pre-trained weights from where they were published.

    python -m data.download                      lists the sets and what is already there
    python -m data.download insects weights      gets these sets; "all": everything
    python -m data.download --arch vgg16         gets the weights of any other torchvision classifier

An unfinished download stays in `downloads/` below the data folder; the same command resumes it. A file is moved into
place only if it is complete, has the published hash and, if it is an archive, unpacks to the expected files.
"""

import http.client
import re
import shutil
import urllib.error
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from common.cli import Parser, UserError, print_table, run_main, user_errors
from data import HOME, sha256

GB, MB = 10**9, 10**6
RESUME = "the same command resumes the download"
BY_HAND = "see data/README.md to get it by hand"


@dataclass
class Source:
    """One file on a server."""

    url: str
    size: int  # bytes, approximately
    places: dict  # {file, or top-level name in the zip archive: its path below the data folder}
    sha256: str = ""  # start of the published hash; "" for an archive without one, checked by its own checksums

    @property
    def name(self):
        return self.url.rpartition("/")[2]


def plain_files(address, folder, *rows):
    """Sources for files from one address that go into one folder. rows: "name size sha256" for each file."""
    return [Source(address + n, int(size), {n: folder + n}, sha256) for n, size, sha256 in map(str.split, rows)]


INSECTS = "https://download.pytorch.org/tutorial/hymenoptera_data.zip"
GITHUB = "https://raw.githubusercontent.com/"
STYLES = GITHUB + "Ethan707/cs231n/6ec54725b079bce879cc15a85e83dedd306fdf40/assignment3/styles/"
COURSE = "ChenchenMa0131/EECS598-Deep-Learning/cdc9651c6031b77652cbc40abd38392bf52eb7b5/Homework2/codes/data/"
GLOVE, GLOVE_FILES = "https://nlp.stanford.edu/data/glove.6B.zip", [f"glove.6B.{d}d.txt" for d in (50, 100, 200, 300)]
FLICKR8K = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k/"
FLICKR8K_TEXTS = ("Flickr8k.token.txt", *(f"Flickr_8k.{split}Images.txt" for split in ("train", "dev", "test")))

TABLE = {
    "insects": [Source(INSECTS, 47 * MB, {"hymenoptera_data": "hymenoptera_data"})],
    "styles": plain_files(
        STYLES,
        "styles/",
        "composition_vii.jpg 202426 8f992ed4aecd6dd56972d7bc8166761de7c94e670ee6effa8fd05f3daeb33409",
        "muse.jpg 703587 b8a36cd8752497510389782159ccf141d41c3446002a079b458fb7b774d3928a",
        "starry_night.jpg 613337 c31741a09141c2e2d07fc7aa6bdf135c369b804f9433e43fa3ceac19386d1ee6",
        "the_scream.jpg 216723 f3075cddeb974a9ee1d6418f7f33fd05185a7ac7dcb4288bd2805d499a9dcaee",
        "tubingen.jpg 406531 e67d1869f01fd805385c681a80d9ebcf0f70ea4a5fe6127f0606bb1c7f4bf506",
    ),
    "sentences": plain_files(
        GITHUB + COURSE,
        "",
        "train.txt 1996065 67e1f9cc963e9377b082708667a237223c43f5890544d6427eb59f021d1ba163",
        "dev.txt 493950 894b625e55e7cf6b7a3d99ad9a2818fab607673793adc432c33a35a09ef356fc",
        "test.txt 493921 9c96043e99d84f69091ca3dfd66660472cbbd0fe096f4b56b8777ca6652efd9c",
        "unlabelled.txt 472495 2ffc9460b3c14324284d1dfe246c925c3b1bcfb428ac49d9e89b2cf67a499e04",
    ),
    "glove": [Source(GLOVE, 862 * MB, {name: f"glove/{name}" for name in GLOVE_FILES})],
    "flickr8k": [
        Source(FLICKR8K + "Flickr8k_Dataset.zip", 1100 * MB, {"Flicker8k_Dataset": "flickr8k/images"}),
        Source(FLICKR8K + "Flickr8k_text.zip", 2300000, {name: f"flickr8k/{name}" for name in FLICKR8K_TEXTS}),
    ],
    "coco": [Source("http://cs231n.stanford.edu/coco_captioning.zip", 1 * GB, {"coco_captioning": "coco_captioning"})],
    "weights": plain_files(  # torchvision's IMAGENET1K_V1; the file names end with the start of their hash
        "https://download.pytorch.org/models/",
        "weights/",
        "resnet18-f37072fd.pth 47000000 f37072fd",
        "squeezenet1_1-b8a52dc0.pth 5000000 b8a52dc0",
        "resnet50-0676ba61.pth 103000000 0676ba61",
    ),
}


def weight_source(arch):
    """The Source of a torchvision classifier's weights: IMAGENET1K_V1, or torchvision's default if there is no V1."""
    import torchvision  # slow, so only here

    from data.weights import check_arch

    check_arch(arch)
    choices = torchvision.models.get_model_weights(arch)
    weights = choices.__members__.get("IMAGENET1K_V1", choices.DEFAULT)
    name = weights.url.rpartition("/")[2]
    digits = re.findall(r"-([0-9a-f]{8,64})\.pth$", name)
    return Source(weights.url, int(weights.meta.get("_file_size", 0) * MB), {name: f"weights/{name}"}, *digits)


def readable(size):
    return f"{size / GB:.2g} GB" if size >= GB else f"{size / MB:.3g} MB"


def missing(source, root):
    """The part of `source.places` without a file or a non-empty folder."""
    places = source.places.items()
    return {name: place for name, place in places if not ((root / place).is_file() or any((root / place).glob("*")))}


def show(table, root):
    """Prints each set's name, its size, how much of it is there, and its address."""
    rows = []
    for name, sources in table.items():
        count, absent = sum(len(s.places) for s in sources), sum(len(missing(s, root)) for s in sources)
        there = "yes" if not absent else "no" if absent == count else f"{count - absent} of {count}"
        rows.append((name, readable(sum(s.size for s in sources)), there, sources[0].url))
    print_table(("set", "size", "there", "from"), rows)
    print(f"\nDownloads go to {root}; for origin and terms see data/README.md")


def fetch(source, part):
    """Downloads a source to `part`, resuming an earlier attempt, and checks its hash. Raises UserError."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "homework-data/1", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        with urllib.request.urlopen(urllib.request.Request(source.url, headers=headers), timeout=30) as response:
            have = have if response.status == 206 else 0  # 200: this server only sends whole files
            total = have + int(response.headers.get("Content-Length", 0))
            bar = tqdm(desc=source.name, total=total, initial=have, unit="B", unit_scale=True, disable=None)
            with open(part, "ab" if have else "wb") as out, bar:
                while piece := response.read1(1 << 18):
                    out.write(piece)
                    bar.update(len(piece))
        if part.stat().st_size < total:
            raise ConnectionError("the connection dropped")
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: the file is already complete
            raise UserError(f"{source.url}: the server answers {error.code} {error.reason}; {BY_HAND}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = f"cannot connect ({error.reason})" if isinstance(error, urllib.error.URLError) else error
        raise UserError(f"{source.url}: {reason}; {RESUME}") from None
    if not sha256(part).startswith(source.sha256):
        part.unlink()
        raise UserError(f"{source.url}: is not the published file, now removed; try again, or {BY_HAND}")


def unpack(source, part, folder):
    """Unpacks the set's members of the zip archive `part` into `folder`; zipfile keeps every member inside it."""
    try:
        with zipfile.ZipFile(part) as archive, user_errors(folder):
            members = [member for member in archive.infolist() if member.filename.split("/")[0] in source.places]
            for member in tqdm(members, desc=f"unpacking {source.name}", unit="file", disable=None):
                archive.extract(member, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        part.unlink()
        raise UserError(f"{source.url}: gave a broken archive, now removed; run the same command again") from None
    if absent := [name for name in source.places if not (folder / name).exists()]:
        raise UserError(f"{source.url}: the archive holds no {absent[0]}; {BY_HAND}")


def install(source, part, root, places):
    """Moves the content of the file `part` to `places` {name: path below root}, replacing what is there."""
    scratch = part.with_suffix(".unpacked")
    try:
        if source.name.endswith(".zip"):
            unpack(source, part, scratch)
        for name, place in places.items():
            target = root / place
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                shutil.rmtree(target)
            shutil.move(scratch / name if scratch.exists() else part, target)
        part.unlink(missing_ok=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def get(name, sources, root, force):
    """Gets the missing part of a data set, or all of it with `force`, and prints what it does. Raises UserError."""
    already = not force and not any(missing(source, root) for source in sources)
    for source in sources:
        if places := source.places if force else missing(source, root):
            print(f"{name}: getting {source.name}, {readable(source.size)}, from {source.url}", flush=True)
            part = root / "downloads" / f"{source.name}.part"
            fetch(source, part)
            install(source, part, root, places)
        for place in source.places.values() if source.sha256 else ():
            if not sha256(root / place).startswith(source.sha256):
                raise UserError(f"{root / place}: is not the published file; --force replaces it")
    print(f"{name}: {'already there; --force gets it again' if already else 'done'}", flush=True)


def main(argv=None, table=TABLE):
    """The command line; see the top of this file."""
    parser = Parser(prog="python -m data.download", description="Downloads the real data sets and pre-trained weights.")
    names = ", ".join(table)
    parser.add_argument("names", nargs="*", metavar="NAME", default=[], help=f"{names}, or all; without: list them")
    parser.add_argument("--data", metavar="DIR", default=HOME, help="the folder to download to")
    parser.add_argument("--arch", nargs="+", metavar="NAME", default=[], help="weights of torchvision classifiers")
    parser.add_argument("--force", action="store_true", help="download again and replace what is there")
    args = parser.parse_args(argv)
    if unknown := set(args.names) - {*table, "all"}:
        raise UserError(f"{min(unknown)}: no such data set; choose from {names}, all")
    root = Path(args.data)
    if args.data == "builtin" or root.is_file():
        raise UserError(f"--data {args.data}: give the folder to download to")
    if args.arch:
        table = {**table, "weights": [weight_source(arch) for arch in args.arch]}
        args.names = [*args.names, "weights"]
    if not args.names:
        return show(table, root)
    failed, downloads = [], root / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(downloads / ".lock", timeout=0):
            for name in table if "all" in args.names else dict.fromkeys(args.names):
                try:
                    get(name, table[name], root, args.force)
                except UserError as error:
                    failed.append(str(error))
                    print(f"{name}: failed, see below", flush=True)
            if not any(downloads.glob("*.part")):
                shutil.rmtree(downloads)
    except Timeout:
        raise UserError(f"{downloads}: another download is running; wait for it") from None
    if failed:
        raise UserError("; ".join(failed))


if __name__ == "__main__":
    run_main(main, RESUME)
