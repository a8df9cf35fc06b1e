"""`python -m common.report [DIR]`: puts all results on one page, DIR/report.html, and prints one line per problem."""

import base64
import io
import json
import shlex
from pathlib import Path

import jinja2
from PIL import Image

from common.cli import Parser, UserError, run_main, shown, write_text

RUNS = {  # problem: folder below DIR, script, table column with the main results, their label
    "1 Transfer": ("transfer_learning", "transfer_learning.py", "best val", "val accuracy"),
    "2 Style": ("style_transfer", "style_transfer.py", "total in the end", "final loss"),
    "5 Captions": ("image_captioning", "image_captioning.py", "captions repeated", "captions repeated"),
    "5 Extra": ("image_captioning-full", "image_captioning.py --full", "test BLEU-1", "test BLEU-1"),
    "6 Text": ("sentiment", "sentiment.py", "test", "test accuracy"),
}


def read(path):
    """The content of a results.json or gradients.json, or None if there is none. Raises UserError if it is broken."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        content["data"], content["table"]["columns"], content["table"]["rows"]  # raises if it is not ours
        return content
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: broken; remove it and run the script again") from None


def embed(path):
    """A picture for the page, at most 900 pixels wide: {url, width, height}; None if it is missing or broken."""
    buffer = io.BytesIO()
    try:
        image = Image.open(path).convert("RGB")
        image.thumbnail((900, 3600))
        image.save(buffer, "webp", quality=85)
    except Exception:  # Pillow raises many kinds of errors
        return None
    url = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"url": url, "width": image.width, "height": image.height}


def find_run(folder, name, script, column, label):
    """A run's results (of the quick run if there is no full one, None if there is neither), its command, and more."""
    names = (name, f"{name}-quick")
    chosen = next((name for name in names if (folder / name / "results.json").exists()), name)
    results = read(folder / chosen / "results.json")
    for plot in results["plots"] if results else ():
        plot["image"] = embed(folder / chosen / plot["file"])
    unfinished = [f"{name}.partial" for name in names if (folder / f"{name}.partial").is_dir()]
    flag = "" if folder == Path("results") else f" --results {shlex.quote(str(folder))}"
    found = {"results": results, "column": column, "label": label, "command": f"python {script}{flag}"}
    return {**found, "folder": chosen, "quick": chosen != name, "unfinished": unfinished}


def find_layers(folder, layers):
    """The gradient check of these layers, in the same form."""
    if results := read(folder / "gradients.json"):
        results["table"]["rows"] = [row for row in results["table"]["rows"] if row[0] in layers]
    command = f"python rnn_layers.py --save {shlex.quote(str(folder / 'gradients.json'))}"
    found = {"results": results, "column": "worst error", "label": "gradient error", "command": command}
    return {**found, "quick": False, "unfinished": []}


def figures(found):
    """The main results {name: value} of what was found; of several searches (greedy, beam), the last."""
    table = found["results"]["table"]
    at = [k for k, name in enumerate(table["columns"]) if name == found["column"]]
    return {row[0]: row[at[0]] for row in table["rows"] if at and "another photo" not in row[1]}


def line(problem, found):
    """One line of at most 80 columns: problem, data, main results; leaves out the middle ones if there are too many."""
    if not found["results"]:
        return f"{problem:12}not run yet: {found['command']}"
    data = next((kind for kind in ("built-in", "random") if found["results"]["data"].startswith(kind)), "real")
    start = f"{problem:12}{data + ', quick' * found['quick']:8}  {found['label']}: "
    parts = [f"{what.split(' style of ')[-1]} {value.split(' ±')[0]}" for what, value in figures(found).items()]
    while len(start + ", ".join(parts)) > 80 and len(parts) > 2:
        parts[1:3] = ["..."]
    return shown(start + ", ".join(parts))[:80]


def main(argv=None):
    """Writes all results below DIR to one page, DIR/report.html, and prints one line per problem."""
    parser = Parser(prog="python -m common.report", description=main.__doc__)
    parser.add_argument("results", nargs="?", default="results", metavar="DIR", help="the results folder")
    folder = Path(parser.parse_args(argv).results)
    found = {problem: find_run(folder, *run) for problem, run in RUNS.items()}
    found |= {"3 RNN": find_layers(folder, ("rnn_step", "rnn")), "4 LSTM": find_layers(folder, ("lstm_step", "lstm"))}
    if not any(answer["results"] or answer["unfinished"] for answer in found.values()):
        raise UserError(f"{folder}: has no results; run a script first, or give the folder that --results named")
    page = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    write_text(folder / "report.html", page.get_template("report.html.j2").render(found=found, figures=figures))
    print(*(line(problem, found[problem]) for problem in sorted(found)), sep="\n")
    print(f"all results on one page: {shown(folder / 'report.html', 500)}")


if __name__ == "__main__":
    run_main(main, on_stop="nothing was written")
