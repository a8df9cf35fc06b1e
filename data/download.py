"""The real data sets and the pre-trained weights, from where they were published, into the data folder.

    python -m data.download                      what there is to get, and what is there already
    python -m data.download insects weights      gets these
    python -m data.download all
    python -m data.download --arch vgg16         the weights of any other torchvision classifier

What has come of a file is kept in `downloads/` below the data folder until the file is whole, so that the next run goes
on where this one stopped. A file takes its place only when it is whole, has the right hash and, if it is an archive,
unpacks to what it should.
"""

if __name__ == "__main__":
    from data import catch_ctrl_c

    catch_ctrl_c()

import contextlib
import dataclasses
import os
import re
from pathlib import Path

from tqdm import tqdm

from data import HOME, DataError, files
from data.fetch import GB, GO_ON, MB, drop, fetch, readable, size_of
from data.results import Parser, print_table, run_main

DOWNLOADS = "downloads"  # where unfinished downloads lie, below the data folder
RECORD = "checksums.json"  # {address: SHA-256 of what it gave}, below the data folder


@dataclasses.dataclass(frozen=True)
class Source:
    """One file on a server and its place below the data folder.

    url, size: its address and its length in bytes (about, where nobody published a hash).
    places: {path in the archive: path below the data folder}; for a file that is no archive, {"": path}.
    sha256: its hexadecimal SHA-256 or how that begins; "" where it is not known.
    unpacked: the most bytes that an archive may unpack to; 0 for a file that is no archive.
    holds: patterns below the data folder, each of which matches a file once it is there; by default the places.
    """

    url: str
    size: int
    places: dict
    sha256: str = ""
    unpacked: int = 0
    holds: tuple = ()

    @property
    def name(self):
        """The file's name on the server."""
        return self.url.rpartition("/")[2]

    @property
    def patterns(self):
        return self.holds or tuple(self.places.values())


def plain_files(address, folder, listed):
    """Sources for `listed` {name: (size, sha256)} at one address, all of which go into one folder."""
    return tuple(Source(address + name, size, {"": folder + name}, sha256) for name, (size, sha256) in listed.items())


SENTENCES = (
    "https://raw.githubusercontent.com/ChenchenMa0131/EECS598-Deep-Learning/"
    "cdc9651c6031b77652cbc40abd38392bf52eb7b5/Homework2/codes/data/"
)
STYLES = (
    "https://raw.githubusercontent.com/Ethan707/cs231n/6ec54725b079bce879cc15a85e83dedd306fdf40/assignment3/styles/"
)
FLICKR8K = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k/"
WEIGHTS = "https://download.pytorch.org/models/"
FLICKR8K_TEXTS = ("Flickr8k.token.txt", *(f"Flickr_8k.{split}Images.txt" for split in ("train", "dev", "test")))
GLOVE = tuple(f"glove.6B.{size}d.txt" for size in (50, 100, 200, 300))

TABLE = {
    "insects": (
        Source(
            "https://download.pytorch.org/tutorial/hymenoptera_data.zip",
            47 * MB,
            {"hymenoptera_data": "hymenoptera_data"},
            unpacked=200 * MB,
            holds=tuple(
                f"hymenoptera_data/{split}/{kind}/*.jpg" for split in ("train", "val") for kind in ("ants", "bees")
            ),
        ),
    ),
    "styles": plain_files(
        STYLES,
        "styles/",
        {
            "composition_vii.jpg": (202426, "8f992ed4aecd6dd56972d7bc8166761de7c94e670ee6effa8fd05f3daeb33409"),
            "muse.jpg": (703587, "b8a36cd8752497510389782159ccf141d41c3446002a079b458fb7b774d3928a"),
            "starry_night.jpg": (613337, "c31741a09141c2e2d07fc7aa6bdf135c369b804f9433e43fa3ceac19386d1ee6"),
            "the_scream.jpg": (216723, "f3075cddeb974a9ee1d6418f7f33fd05185a7ac7dcb4288bd2805d499a9dcaee"),
            "tubingen.jpg": (406531, "e67d1869f01fd805385c681a80d9ebcf0f70ea4a5fe6127f0606bb1c7f4bf506"),
        },
    ),
    "sentences": plain_files(
        SENTENCES,
        "",
        {
            "train.txt": (1996065, "67e1f9cc963e9377b082708667a237223c43f5890544d6427eb59f021d1ba163"),
            "dev.txt": (493950, "894b625e55e7cf6b7a3d99ad9a2818fab607673793adc432c33a35a09ef356fc"),
            "test.txt": (493921, "9c96043e99d84f69091ca3dfd66660472cbbd0fe096f4b56b8777ca6652efd9c"),
            "unlabelled.txt": (472495, "2ffc9460b3c14324284d1dfe246c925c3b1bcfb428ac49d9e89b2cf67a499e04"),
        },
    ),
    "glove": (
        Source(
            "https://nlp.stanford.edu/data/glove.6B.zip",
            862 * MB,
            {name: f"glove/{name}" for name in GLOVE},
            unpacked=4 * GB,
        ),
    ),
    "flickr8k": (
        Source(
            FLICKR8K + "Flickr8k_Dataset.zip",
            1100 * MB,
            {"Flicker8k_Dataset": "flickr8k/images"},
            unpacked=3 * GB,
            holds=("flickr8k/images/*.jpg",),
        ),
        Source(
            FLICKR8K + "Flickr8k_text.zip",
            2300000,
            {name: f"flickr8k/{name}" for name in FLICKR8K_TEXTS},
            unpacked=50 * MB,
        ),
    ),
    "coco": (
        Source(
            "http://cs231n.stanford.edu/coco_captioning.zip",
            1 * GB,
            {"coco_captioning": "coco_captioning"},
            unpacked=6 * GB,
            holds=("coco_captioning/*.h5",),
        ),
    ),
    # torchvision's IMAGENET1K_V1, whose file names end with how their hash begins; the homework's time had no other
    "weights": plain_files(
        WEIGHTS,
        "weights/",
        {
            "resnet18-f37072fd.pth": (47 * MB, "f37072fd"),
            "squeezenet1_1-b8a52dc0.pth": (5 * MB, "b8a52dc0"),
            "resnet50-0676ba61.pth": (103 * MB, "0676ba61"),
        },
    ),
}


def weight_source(arch):
    """The Source of a torchvision classifier's weights: IMAGENET1K_V1, or torchvision's default where there is no V1.

    Raises DataError where torchvision has no classifier of the name `arch`.
    """
    import torchvision  # takes seconds, so only here

    from data.weights import check_arch

    check_arch(arch)
    choices = torchvision.models.get_model_weights(arch)
    weights = choices.__members__.get("IMAGENET1K_V1", choices.DEFAULT)
    address, _, name = weights.url.rpartition("/")
    begins = re.search(r"-([0-9a-f]{8,64})\.pth$", name)
    size = int(weights.meta.get("_file_size", 0) * 2**20)
    return plain_files(address + "/", "weights/", {name: (size, begins[1] if begins else "")})[0]


# What is there


def missing(source, root):
    """The places of `source` at which nothing is yet: no file, or no folder with anything in it."""
    with files.user_errors(root):
        return [p for p in source.places.values() if not _occupied(Path(root, p))]


def _occupied(path):
    return any(path.iterdir()) if path.is_dir() else path.exists()


def unmatched(source, root):
    """The patterns of `source` that match no file below `root`, or only files that are empty or have another hash."""
    with files.user_errors(root):
        absent = [p for p in source.patterns if not any(f.is_file() and f.stat().st_size for f in Path(root).glob(p))]
    if not absent and source.sha256 and not source.unpacked:
        absent = [p for p in source.patterns if not files.sha256(Path(root, p)).startswith(source.sha256)]
    return absent


def listing(table, root):
    """The rows that are printed where no set is asked for: a set's name, size, what of it is there, its address."""
    rows = []
    for name, sources in table.items():
        address = os.path.commonprefix([source.url for source in sources])
        if len(sources) > 1:
            address = address.rpartition("/")[0] + "/"
        rows.append((name, readable(sum(source.size for source in sources)), _state(sources, root), address))
    return rows


def _state(sources, root):
    """What of a set is there, in words: yes, no, 2 of 5; and what is wrong with it, or has come of it so far."""
    places = [place for source in sources for place in source.places.values()]
    absent = [place for source in sources for place in missing(source, root)]
    state = "yes" if not absent else f"{len(places) - len(absent)} of {len(places)}"
    if len(absent) == len(places):
        folders = {Path(root, place).parent for place in places} - {Path(root)}
        with files.user_errors(root):
            state = "no, but others are" if any(map(_occupied, folders)) else "no"
    if broken := [place for source in sources if not missing(source, root) for place in unmatched(source, root)]:
        state += f", not as published: {', '.join(broken)}"
    if come := sum(size_of(Path(root, DOWNLOADS, source.name)) for source in sources):
        state += f", {readable(come)} downloaded so far"
    return state


# Into its place


def check(source, path, root):
    """Compares the file at `path` with the published hash and with what its address gave before; returns its SHA-256.

    Raises DataError, and removes the file, where it is another one.
    """
    digest = files.sha256(path)
    published, before = source.sha256, _record(root).get(source.url, "")
    if not size_of(path):
        drop(path)
        raise DataError(f"{source.url}: the server sent an empty file; nothing was installed")
    if not digest.startswith(published):
        drop(path)
        raise DataError(
            f"{source.url}: another file came than the published one (SHA-256 {digest[:12]}..., "
            f"not {published[:12]}...); removed, nothing was installed"
        )
    if before and digest != before:
        drop(path)
        raise DataError(
            f"{source.url}: gave another file than before (SHA-256 {digest[:12]}..., not {before[:12]}...); removed; "
            f"if you trust it, take its line out of {Path(root, RECORD)} and run the command again"
        )
    return digest


def _record(root):
    path = Path(root, RECORD)
    try:
        record = files.read_json(path)
        if not all(isinstance(digest, str) for digest in record.values()):
            raise ValueError
        return record
    except FileNotFoundError:
        return {}
    except files.BAD_JSON:
        raise DataError(f"{path}: should hold {{address: hash}} as JSON; remove it and run the command again") from None


def install(source, path, root, scratch, force=False):
    """Moves what is in the file at `path` to its places below `root`; `scratch` is an empty folder on the same disk.

    force: also replaces what is at these places already.
    Raises DataError, with the archive removed, where it is unsafe, broken or does not hold what it should; and, with
    the archive kept, where it cannot be written. Either way nothing new is at the places.
    """
    new = scratch / "new"
    try:
        if source.unpacked:
            with tqdm(unit="B", unit_scale=True, desc=f"unpacking {source.name}", leave=False, disable=None) as bar:
                files.unpack(path, scratch / "all", source.unpacked, bar.update)
        for member, place in source.places.items():
            made = scratch / "all" / member if source.unpacked else path
            if not made.exists():
                raise files.ArchiveError(f"{path}: does not hold {member}")
            with files.user_errors(new / place):
                (new / place).parent.mkdir(parents=True, exist_ok=True)
                os.rename(made, new / place)
        if absent := unmatched(source, new):
            raise files.ArchiveError(f"{path}: does not give {', '.join(absent)}")
    except files.ArchiveError as error:
        drop(path)
        raise DataError(f"{error}; removed, nothing was installed") from None
    for number, place in enumerate(missing(source, root) if not force else source.places.values()):
        with files.user_errors(Path(root, place)):
            _replace(new / place, Path(root, place), scratch / f"replaced{number}")


def _replace(new, target, aside):
    """Renames `new` to `target`; a folder that is there goes to `aside`, and comes back where that fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_dir():
        return os.replace(new, target)
    os.rename(target, aside)
    try:
        os.rename(new, target)
    except OSError:
        os.rename(aside, target)
        raise


def get(name, sources, root, force=False):
    """Gets what is missing of the data set `name`, its `sources`, into the folder `root`, and says what it does.

    force: gets all of it and replaces what is there.
    Raises DataError as `fetch`, `check` and `install` do; and, when all that was missing has come, where something
    that was there already is not as it should be.
    """
    downloads = Path(root, DOWNLOADS)
    wanted = [source for source in sources if force or missing(source, root)]
    for source in wanted:
        print(f"{name}: getting {source.name}, {readable(source.size)}, from {source.url}", flush=True)
        with files.scratch_folder(downloads) as scratch:
            path = fetch(source, downloads)
            digest = check(source, path, root)
            install(source, path, root, scratch, force)
            drop(path)
        if len(source.sha256) < 64:
            files.write_json(Path(root, RECORD), {**_record(root), source.url: digest})
    broken = [place for source in sources for place in unmatched(source, root)]
    if broken:
        raise DataError(f"{Path(root, broken[0])}: what is there is not as published; --force replaces it")
    places = ", ".join(place for source in sources for place in source.places.values())
    print(f"{name}: {'is there now' if wanted else 'is there already; --force gets it again'}: {places}", flush=True)


def _tidy(downloads):
    """Removes what a killed run left in `downloads` that no later one can use, and the folder where nothing is left."""
    files.sweep(downloads)
    with files.user_errors(downloads):
        for path in downloads.glob("*.json"):
            if not path.with_suffix("").exists():
                path.unlink()
    with contextlib.suppress(OSError):
        downloads.rmdir()


def main(argv=None, table=TABLE):
    """The command line; see the top of this file."""
    parser = Parser(prog="python -m data.download", description="Gets the real data sets and pre-trained weights.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", default=[], help=f"{' '.join(table)}, or all; none: lists them"
    )
    parser.add_argument("--data", metavar="DIR", default=HOME, help="the folder that they go to")
    parser.add_argument(
        "--arch", nargs="+", metavar="NAME", default=[], help="weights of these torchvision classifiers"
    )
    parser.add_argument("--force", action="store_true", help="get again, and replace, what is there")
    args = parser.parse_args(argv)
    if unknown := [name for name in args.names if name not in (*table, "all")]:
        raise DataError(f"{unknown[0]}: no such data set; there is {', '.join(table)}, all")
    root = Path(args.data)
    with files.user_errors(root):
        if args.data == "builtin" or (root.exists() and not root.is_dir()):
            raise DataError(f"--data {args.data}: give the folder that the files shall go to")
    if args.arch:
        table = {**table, "weights": tuple(weight_source(arch) for arch in args.arch)}
    wanted = dict.fromkeys(table if "all" in args.names else [*args.names, *(["weights"] if args.arch else [])])
    if not wanted:
        print_table(("set", "size", "there", "from"), listing(table, root))
        print(f"\nGet them with 'python -m data.download NAME ...' or '... all'; they go to {root}.")
        print("Origin and terms: data/README.md")
        return
    get_all({name: table[name] for name in wanted}, root, args.force)


def get_all(table, root, force=False):
    """`get` for each set of `table`; one that fails does not keep the others from coming.

    Raises DataError, at the end, with the reason of each that failed, and where another run is busy in `root`.
    """
    failed = []
    with files.user_errors(root):
        Path(root).mkdir(parents=True, exist_ok=True)
    with files.alone(root, "wait for it"):
        for name, sources in table.items():
            _tidy(Path(root, DOWNLOADS))
            try:
                get(name, sources, root, force)
            except DataError as error:
                failed.append(str(error))
                print(f"{name}: failed, see the end", flush=True)
        _tidy(Path(root, DOWNLOADS))
    if failed:
        raise DataError("; ".join(failed))


if __name__ == "__main__":
    run_main(main, GO_ON)
