"""The grader's page: `python -m data.report [DIR]` writes DIR/report.html from what the scripts left under DIR.

One file that needs no other: the plots are inside it, it runs nothing and asks nothing of the network. Every text from
a results.json is escaped, and a plot is read only where it is a PNG file of its run's own folder.
"""

import base64
import io
import math
import re
import shlex
import stat
from html import escape
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from data import DataError
from data.files import sweep, user_errors, write_text
from data.results import Parser, read_results, run_main, shown
from data.tensors import quiet

STYLE = Path(__file__).with_name("report.css")
PICTURE_BYTES = 8_000_000  # the scripts' own plots of photos have about two million
RUN_BYTES = 48_000_000  # of all pictures of one run
PICTURE_SIDE = 8_000  # pixels: a small file can hold a picture that takes all of a reader's memory
SMALL_SIDE = 480  # pixels: pictures up to here stand side by side
DOTS = 1.5  # a plot is drawn at 150 dots an inch, a page at 96
MOST_ROWS = 100  # of a table
MOST_FIGURES = 8  # in the contents, of one run


class Part(NamedTuple):
    """A run that a problem asks for: its folder below DIR, its command, and the figures that stand for it in short."""

    folder: str
    command: str
    figures: str  # what the figures of the contents are
    column: str  # the table's column that holds them
    rows: str = "(?s:.*)"  # of rows whose second cell is this (a regular expression)
    title: str = ""  # what tells the run from the problem's other one


class Problem(NamedTuple):
    """A problem of the homework: what was asked, and the runs that answer it, or else how to see the answer.

    asked, instead: HTML. brief: what the contents say of a problem without runs.
    """

    title: str
    asked: str
    parts: tuple = ()
    instead: str = ""
    brief: str = ""


CHECK = """\
<p>The answer is code and algebra, in <code>rnn_layers.py</code> and <code>WRITEUP.md</code>, and leaves no results to
show here. To see it hold:</p>
<pre><code>python rnn_layers.py
python -m pytest tests/gradients</code></pre>
<p>The first prints within seconds the worst error of each layer's gradients against numeric ones: the line
<code>{step}</code> is to stay below 1e-07, the line <code>{sequence}</code> below 1e-06. The second compares them with
PyTorch's too.</p>"""

PROBLEMS = (
    Problem(
        "Transfer learning",
        "Tell ants from bees with a network that has seen other pictures before: once all of its weights are trained"
        " on (<code>finetune</code>), once only a new last layer is (<code>freeze</code>). Report the accuracy of both"
        " on the validation photos.",
        (Part("transfer_learning", "transfer_learning.py", "best accuracy on the validation photos", "best val"),),
    ),
    Problem(
        "Style transfer",
        "Paint one picture in the style of another: change its pixels until the features of a trained network match"
        " those of the content picture, their Gram matrices those of the style picture, and neighbouring pixels one"
        " another. Show the pictures and how the loss falls.",
        (Part("style_transfer", "style_transfer.py", "total loss in the end", "total in the end"),),
    ),
    Problem(
        "RNN",
        "Write a vanilla RNN in numpy, h<sub>t</sub> = tanh(x<sub>t</sub> W<sub>x</sub> + h<sub>t−1</sub>"
        " W<sub>h</sub> + b): one step and a sequence of T steps, forward and, with gradients derived by hand,"
        " backward.",
        instead=CHECK.format(step="rnn_step", sequence="rnn"),
        brief="gradients: <code>python rnn_layers.py</code> checks them",
    ),
    Problem(
        "LSTM",
        "The same for an LSTM, whose gates f, i and o decide what its cell c<sub>t</sub> = f<sub>t</sub> ∗"
        " c<sub>t−1</sub> + i<sub>t</sub> ∗ c̃<sub>t</sub> keeps, takes in and shows: h<sub>t</sub> = o<sub>t</sub> ∗"
        " tanh(c<sub>t</sub>).",
        instead=CHECK.format(step="lstm_step", sequence="lstm"),
        brief="gradients: <code>python rnn_layers.py</code> checks them",
    ),
    Problem(
        "Image captioning",
        "Let the layers of problems 3 and 4 describe photos. First an RNN and an LSTM learn 50 captions by heart: show"
        " the training loss and what they say of photos, known ones and new ones. The extra part is a model that is"
        " decent on photos it has not seen, measured by BLEU.",
        (
            Part(
                "image_captioning",
                "image_captioning.py",
                figures="captions repeated word for word",
                column="captions repeated",
                title="50 captions by heart",
            ),
            Part(
                "image_captioning-full",
                "image_captioning.py --full",
                figures="BLEU-1 on the test photos",
                column="test BLEU-1",
                rows=r"beam \d+",
                title="A whole data set",
            ),
        ),
    ),
    Problem(
        "Text classification",
        "Is a review good or bad? Compare a bag of words, averaged embeddings, averaged GloVe vectors, an RNN and an"
        " LSTM on the test sentences, and predict the unlabelled ones.",
        (Part("sentiment", "sentiment.py", "accuracy on the test sentences", "test"),),
    ),
)


class Found(NamedTuple):
    """What there is to show of a part: the results in `folder` (None: nothing), and notes on what was in the way."""

    part: Part
    folder: Path
    results: dict | None
    quick: bool
    notes: list


def find(folder, part):
    """The run of `part` below `folder`: the full one, or a quick one where no full one can be shown."""
    notes = []
    for suffix in ("", "-quick"):
        at = folder / f"{part.folder}{suffix}"
        try:
            with user_errors(at):  # of a folder that may not be entered
                results = read_results(at / "results.json")
                unfinished = any(at.glob("checkpoint-*.pt"))
        except DataError as error:
            notes.append(str(error))
            continue
        if results is not None:
            return Found(part, at, results, bool(suffix), notes)
        if unfinished:
            notes.append(f"{at}: holds a run that was not finished; the same command with --resume goes on")
    return Found(part, folder / part.folder, None, False, notes)


# ---- texts and pictures from files


def text(value, most=300):
    """Anything that a file holds as HTML text: escaped, one line, no control characters, not too long."""
    return escape(shown(value, most))


def read_png(folder, name, most=PICTURE_BYTES):
    """A PNG file that lies in `folder` itself, no longer than `most` bytes: its bytes, width and height.

    Raises DataError, which says what is wrong with it, where it is none.
    """
    if Path(name).name != name or name == "..":
        raise DataError("is not in the folder of its run; not shown")
    try:
        found = (folder / name).lstat()
        if not stat.S_ISREG(found.st_mode):
            raise DataError("is a link, or no file at all; not shown")
        if found.st_size > most:
            raise DataError(f"has {found.st_size / 1e6:,.1f} MB, too much for this page; open the file itself")
        content = (folder / name).read_bytes()
    except FileNotFoundError:
        raise DataError("is not there; run the script again") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise DataError(f"cannot be read ({getattr(error, 'strerror', None) or 'no name of a file'})") from None
    try:
        with quiet(), Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            width, height = picture.size
            picture.verify()  # the check sums of all its parts
    except Exception:  # Pillow raises whatever broken bytes lead it to
        raise DataError("is no PNG picture, or a broken one; run the script again") from None
    if max(width, height) > PICTURE_SIDE:
        raise DataError(f"has {width:,} x {height:,} pixels, too many for this page; open the file itself")
    return content, width, height


def duration(seconds):
    """Seconds as a person says them: 28.5 s, 5 min 24 s, 1 h 2 min."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e9:
        return shown(seconds, 50)
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


# ---- the parts of the page


def figures(found):
    """The figures that stand for a run, as pairs of texts: of what, how much."""
    columns, rows = found.results["table"]["columns"], found.results["table"]["rows"]
    if found.part.column not in columns:
        return []
    at = columns.index(found.part.column)
    rows = [row for row in rows if re.fullmatch(found.part.rows, row[min(1, len(row) - 1)])] or rows
    return [(row[0], row[at]) for row in rows]


def contents_line(found):
    """What the contents say of a run."""
    if found.results is None:
        state = "no results to show" if found.notes else "not run yet"
        return f'<span class="what">{found.part.figures}: <i>{state}</i></span>'
    pairs = figures(found)
    parts = [f"<span><b>{text(value, 60)}</b> {text(name, 60)}</span>" for name, value in pairs[:MOST_FIGURES]]
    if len(pairs) > MOST_FIGURES:
        parts.append(f"<span>and {len(pairs) - MOST_FIGURES:,} more</span>")
    what = f"{found.part.figures}; {text(found.results['data'], 100)}"
    return f'<span class="what">{what}</span>{quick_mark(found)}<span class="figures">{" ".join(parts)}</span>'


def quick_mark(found):
    """What marks a quick run wherever it stands."""
    return ' <span class="quick">quick run</span>' if found.quick else ""


def contents(found):
    """The list at the top: each problem with its figures. found: the runs of each problem."""
    items = []
    for number, (problem, runs) in enumerate(zip(PROBLEMS, found, strict=True), 1):
        lines = [f"<div>{contents_line(run)}</div>" for run in runs] or [f'<div class="what">{problem.brief}</div>']
        link = f'<a href="#problem-{number}"><span class="number">{number}</span> {problem.title}</a>'
        items.append(f"<li>{link}<div>{''.join(lines)}</div></li>")
    return f'<nav aria-label="Contents">\n<ol>\n{chr(10).join(items)}\n</ol>\n</nav>'


def table(found):
    """The table of results.json; columns of numbers are aligned to the right."""
    columns, rows = found.results["table"]["columns"], found.results["table"]["rows"]
    marks = [' class="n"' if is_numeric([row[k] for row in rows]) else "" for k in range(len(columns))]
    head = "".join(f'<th scope="col"{mark}>{text(name)}</th>' for name, mark in zip(columns, marks, strict=True))
    body = []
    for first, *rest in rows[:MOST_ROWS]:
        cells = "".join(f"<td{mark}>{text(cell)}</td>" for cell, mark in zip(rest, marks[1:], strict=True))
        body.append(f'<tr><th scope="row">{text(first)}</th>{cells}</tr>')
    more = f"<p>and {len(rows) - MOST_ROWS:,} more rows</p>" if len(rows) > MOST_ROWS else ""
    label = f"Results in {text(found.folder.name)}"
    return f"""<div class="scroll" tabindex="0" role="region" aria-label="{label}">
<table>
<thead><tr>{head}</tr></thead>
<tbody>
{chr(10).join(body)}
</tbody>
</table>
</div>{more}"""


def is_numeric(cells):
    """Whether all cells begin as numbers do, the empty ones left aside."""
    return any(cells) and all(re.match(r"[-+±]?\.?\d|(nan|inf)$", cell) for cell in cells if cell)


def about(found):
    """What the run was made from and on."""
    results = found.results
    seconds, versions = (part if isinstance(part, dict) else {} for part in map(results.get, ("seconds", "versions")))
    seed = results.get("seed")
    parts = [f"{name} {duration(value)}" for name, value in seconds.items() if name != "total"]
    time = duration(seconds.get("total", "not known"))
    software = [f"{name} {version}" for name, version in versions.items() if name != "machine"]
    lines = {
        "Data": results["data"],
        "Weights": results["weights"],
        "Seed": ", ".join(map(str, seed)) if isinstance(seed, list) else seed,
        "Time": f"{time} ({', '.join(parts)})" if parts else time,
        "Versions": ", ".join(software),
        "Machine": versions.get("machine", "not known"),
        "Folder": f"{found.folder.name}/",
    }
    return f"<dl>\n{chr(10).join(f'<dt>{name}</dt><dd>{text(value)}</dd>' for name, value in lines.items())}\n</dl>"


def plots(found, problem):
    """All plots of a run with title and caption; small ones that follow one another stand side by side."""
    html, small, left = [], [], RUN_BYTES
    for plot in found.results["plots"]:
        try:
            content, width, height = read_png(found.folder, plot["file"], min(left, PICTURE_BYTES))
        except DataError as error:
            picture, is_small = f'<p class="note">{text(plot["file"])}: {text(error)}</p>', False
        else:
            left -= len(content)
            is_small = max(width, height) <= SMALL_SIDE
            scale = 1 if is_small else DOTS
            picture = (
                f'<img src="data:image/png;base64,{base64.b64encode(content).decode()}" width="{round(width / scale)}"'
                f' height="{math.ceil(height / scale)}" alt="{text(plot["title"] or plot["file"])} ({problem.title})">'
            )
        words = f"<figcaption><b>{text(plot['title'])}</b> {text(plot['caption'], 1000)}</figcaption>"
        figure = f"<figure>{picture}{words}</figure>"
        if is_small:
            small.append(figure)
        else:
            html += [row_of(small), figure]
            small = []
    return "\n".join(filter(None, [*html, row_of(small)]))


def row_of(small):
    """Small figures side by side."""
    return f'<div class="row">{"".join(small)}</div>' if small else ""


def run_section(found, problem, results_flag):
    """One run: what is in the way of it, its table, where it is from, its plots, or the command that makes it."""
    notes = "".join(f'<p class="note">{text(note)}</p>' for note in found.notes)
    title = f"<h3>{found.part.title}{quick_mark(found)}</h3>" if found.part.title else ""
    command = f"<pre><code>python {found.part.command}{results_flag}</code></pre>"
    if found.results is None:
        return f"{title}{notes}<p>{'Run it again:' if notes else 'This has not been run yet. Run it:'}</p>{command}"
    quick = ""
    if found.quick:
        mark = "" if title else quick_mark(found)
        quick = f"<p>{mark} Little data, little training: a first look, not the answer. The whole run:</p>{command}"
    return "\n".join(filter(None, [title, notes, quick, table(found), about(found), plots(found, problem)]))


def section(number, problem, runs, results_flag):
    """One problem: what was asked, and its runs."""
    body = "\n".join(run_section(found, problem, results_flag) for found in runs) or problem.instead
    return f"""<section id="problem-{number}">
<h2><span class="number">Problem {number}</span> {problem.title}</h2>
<p class="asked">{problem.asked}</p>
{body}
</section>"""


def page(folder, results_flag=""):
    """The whole page as HTML. results_flag: what the commands on it say of `folder`.

    Raises DataError where there is nothing to show.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; run a script first, or name the folder that --results named")
    found = [[find(folder, part) for part in problem.parts] for problem in PROBLEMS]
    if not any(run.results or run.notes for runs in found for run in runs):
        raise DataError(f"{folder}: no results there; run a script first, or name the folder that --results named")
    sections = [
        section(number, problem, runs, results_flag)
        for number, (problem, runs) in enumerate(zip(PROBLEMS, found, strict=True), 1)
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Homework 2, EECS 498/598 Deep Learning: results</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>Homework 2: results</h1>
<p>EECS 498/598 Deep Learning. What each script found when it was last run: figures, plots, and what they were made
from.</p>
{contents(found)}
</header>
<main>
{chr(10).join(sections)}
</main>
<footer>
<p>Made by <code>python -m data.report</code> from each run's <code>results.json</code> and plots. A quick run is shown
only where there is no whole one. The derivations are in <code>WRITEUP.md</code>.</p>
</footer>
</body>
</html>
"""


def main(argv=None):
    """`python -m data.report [DIR]`: writes DIR/report.html, one page of all results under DIR for a browser."""
    parser = Parser(prog="python -m data.report", description=main.__doc__)
    parser.add_argument("results", nargs="?", default="results", metavar="DIR", help="the results folder")
    name = parser.parse_args(argv).results
    path = Path(name) / "report.html"
    sweep(path.parent)
    flag = "" if Path(name) == Path("results") else f" --results {text(shlex.quote(name), 1000)}"
    write_text(path, page(Path(name), flag))
    print(f"the page of all results, to open in a browser: {shown(path, 500)}")


if __name__ == "__main__":
    run_main(main)
