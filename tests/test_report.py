"""data/report.py: the page of all results, read with an HTML parser as a browser reads it."""

import base64
import io
import os
import re
from collections import namedtuple
from html.parser import HTMLParser

import pytest
from PIL import Image

from data import DataError, report
from data.files import write_json
from tests.conftest import REPO, not_as_root, run_python

HTML = '<script>alert("1")</script>&amp;\'"><img src=x onerror=alert(1)>'
FOLDERS = [part.folder for problem in report.PROBLEMS for part in problem.parts]
INLINE = {"a", "b", "code", "i", "span", "sub"}
VOID = {"meta", "link", "img", "br", "hr", "input"}

Element = namedtuple("Element", "tag attributes path")


class Page(HTMLParser):
    """The elements of a page in order, its text as a reader sees it, and the end tags that close nothing."""

    def __init__(self, html):
        super().__init__()
        self.html, self.elements, self.texts, self.open, self.unbalanced = html, [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append(Element(tag, dict(attributes), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)
        self.texts += [" "] * (tag not in INLINE)

    def handle_endtag(self, tag):
        self.texts += [" "] * (tag not in INLINE)
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join("".join(self.texts).split())

    def all(self, tag):
        return [element.attributes for element in self.elements if element.tag == tag]

    def pictures(self):
        """The bytes of the pictures in the page."""
        return [base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) for image in self.all("img")]


def png(width=30, height=20, color="red"):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), color).save(buffer, format="png")
    return buffer.getvalue()


def add_run(folder, name, files=("plot.png",), rows=(("model", "50.0%"),), column="accuracy", **more):
    """A finished run `name` below `folder`, whose plots are the `files`. more: what is otherwise in results.json."""
    at = folder / name
    at.mkdir(parents=True)
    for file in files:
        (at / file).write_bytes(png())
    content = {
        **dict(script=name, data=f"data of {name}", weights=f"weights of {name}", seed=7, settings={}, metrics={}),
        "table": {"columns": ["what", column], "rows": [list(row) for row in rows]},
        "seconds": {"total": 123.4, "part": 3.21}, "versions": {"numpy": "9.8.7", "machine": "a machine, 2 threads"},
        "plots": [{"file": file, "title": f"Title of {file}", "caption": "What to see in it."} for file in files],
    }  # fmt: skip
    write_json(at / "results.json", {**content, **more})
    return at


def page(folder):
    return Page(report.page(folder))


def part_of(page, number):
    """The text of the section of problem `number`."""
    return re.search(rf"Problem {number} .*?(?=Problem {number + 1} |Made by|$)", page.text)[0]


@pytest.fixture
def everything(tmp_path):
    for name in FOLDERS:
        add_run(tmp_path, name)
    return tmp_path


# ---- what a run shows


def test_the_problems_stand_in_the_homeworks_order_each_with_what_was_asked(everything):
    found = page(everything)
    ids = [section["id"] for section in found.all("section")]
    assert ids == [f"problem-{k}" for k in range(1, 7)]
    assert re.findall(r"Problem (\d) (\w+)", found.text) == [
        ("1", "Transfer"), ("2", "Style"), ("3", "RNN"), ("4", "LSTM"), ("5", "Image"), ("6", "Text")
    ]  # fmt: skip
    assert sum(element.attributes.get("class") == "asked" for element in found.elements) == 6


def test_the_contents_link_to_every_problem(everything):
    links = [link["href"] for link in page(everything).all("a")]
    assert links == [f"#problem-{k}" for k in range(1, 7)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_run_shows_its_table_plots_data_weights_seed_time_versions_and_machine(tmp_path, folder):
    add_run(tmp_path, folder)
    text = page(tmp_path).text
    for words in ("accuracy", "model", "50.0%", "Title of plot.png", "What to see in it.", f"data of {folder}",
                  f"weights of {folder}", "Seed 7", "2 min 3 s (part 3.2 s)", "numpy 9.8.7", "a machine, 2 threads",
                  f"{folder}/"):  # fmt: skip
        assert words in text


def test_the_plots_are_in_the_page_byte_by_byte(tmp_path):
    at = add_run(tmp_path, "sentiment", ("a.png", "b.png"))
    (at / "b.png").write_bytes(png(700, 500, "blue"))
    assert page(tmp_path).pictures() == [(at / "a.png").read_bytes(), (at / "b.png").read_bytes()]


@pytest.mark.parametrize(
    "part", [part for problem in report.PROBLEMS for part in problem.parts], ids=lambda part: part.folder
)
def test_the_contents_show_a_runs_headline_figures_and_their_data(tmp_path, part):
    add_run(tmp_path, part.folder, column=part.column, rows=[["first", "12.5"], ["second", "99.5"]])
    before = page(tmp_path).text.partition("Problem 1")[0]
    assert f"{part.figures}; data of {part.folder}" in before and "12.5 first 99.5 second" in before


@pytest.mark.parametrize("name", FOLDERS)
def test_the_reference_results_have_the_column_that_the_contents_quote(name):
    found = report.read_results(REPO / "docs" / f"{name}-builtin.json")
    (part,) = [part for problem in report.PROBLEMS for part in problem.parts if part.folder == name]
    assert report.figures(report.Found(part, None, found, False, []))


def test_of_several_searches_the_contents_quote_the_beam_and_not_the_one_that_sees_another_photo(tmp_path):
    found = report.read_results(REPO / "docs" / "image_captioning-full-builtin.json")
    (part,) = [part for part in report.PROBLEMS[4].parts if part.rows != report.Part._field_defaults["rows"]]
    assert report.figures(report.Found(part, None, found, False, [])) == [("vanilla RNN", "66.7"), ("LSTM", "61.9")]


def test_problems_3_and_4_name_the_command_that_checks_their_gradients(everything):
    found = page(everything)
    for number, step in ((3, "rnn_step"), (4, "lstm_step")):
        assert "python rnn_layers.py" in part_of(found, number) and step in part_of(found, number)


@pytest.mark.parametrize("seconds, words", [(0, "0.0 s"), (28.46, "28.5 s"), (324.2, "5 min 24 s"), (59.99, "60.0 s"),
                                            (3599.8, "1 h 0 min"), (7260, "2 h 1 min")])  # fmt: skip
def test_a_duration_reads_as_a_person_says_it(seconds, words):
    assert report.duration(seconds) == words


# ---- quick runs, runs that are missing or broken


def test_a_quick_run_is_shown_and_marked_where_there_is_no_whole_one(tmp_path):
    add_run(tmp_path, "sentiment-quick")
    found = page(tmp_path)
    assert "data of sentiment-quick" in part_of(found, 6) and "quick run" in part_of(found, 6)
    assert "quick run" in found.text.partition("Problem 1")[0]
    assert "python sentiment.py" in part_of(found, 6)


def test_a_quick_run_is_not_shown_where_there_is_a_whole_one(tmp_path):
    add_run(tmp_path, "sentiment-quick")
    add_run(tmp_path, "sentiment")
    found = page(tmp_path)
    assert "sentiment-quick" not in found.text and "quick run" not in part_of(found, 6)


def test_what_has_not_been_run_is_said_with_its_command(tmp_path):
    add_run(tmp_path, "sentiment")
    found = page(tmp_path)
    for number, command in ((1, "transfer_learning.py"), (2, "style_transfer.py"), (5, "image_captioning.py"),
                            (5, "image_captioning.py --full")):  # fmt: skip
        assert f"This has not been run yet. Run it: python {command}" in part_of(found, number)
    assert found.text.partition("Problem 1")[0].count("not run yet") == 4


def test_a_broken_results_json_is_said_in_its_place_and_the_others_are_shown(everything):
    (everything / "style_transfer" / "results.json").write_text("{")
    found = page(everything)
    assert "style_transfer/results.json: is no results.json" in part_of(found, 2)
    assert "python style_transfer.py" in part_of(found, 2)
    assert all(f"data of {name}" in found.text for name in FOLDERS if name != "style_transfer")


def test_a_broken_whole_run_is_said_above_the_quick_one(tmp_path):
    (tmp_path / "sentiment").mkdir()
    (tmp_path / "sentiment" / "results.json").write_text("[]")
    add_run(tmp_path, "sentiment-quick")
    text = part_of(page(tmp_path), 6)
    assert text.index("is no results.json") < text.index("quick run") < text.index("data of sentiment-quick")


def test_a_run_that_was_stopped_is_said_with_the_way_to_go_on(tmp_path):
    (tmp_path / "sentiment").mkdir()
    (tmp_path / "sentiment" / "checkpoint-start.pt").touch()
    assert "not finished" in part_of(page(tmp_path), 6) and "--resume" in part_of(page(tmp_path), 6)


@pytest.mark.parametrize(
    "content", [None, b"", b"text", png()[:-30], png()[:-20], png().replace(b"IDAT", b"IDAX"), b"GIF89a" + png()]
)
def test_a_missing_or_broken_plot_is_said_in_its_place_and_the_others_are_shown(tmp_path, content):
    at = add_run(tmp_path, "sentiment", ("a.png", "b.png"))
    (at / "a.png").unlink()
    if content is not None:
        (at / "a.png").write_bytes(content)
    found = page(tmp_path)
    assert re.search(r"a\.png: is (not there|no PNG picture, or a broken one); .*Title of a\.png", found.text)
    assert found.pictures() == [png()]


def test_a_results_json_without_seconds_versions_and_seed_is_shown(tmp_path):
    add_run(tmp_path, "sentiment", seconds=[1], versions=None, seed=None)
    assert "data of sentiment" in page(tmp_path).text


# ---- nothing gets in that should not


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "../sentiment/../secret.png", "..\\secret.png", "sub/plot.png", "..", ".", "", "link.png"]
    + ["loop.png", "folder.png", "x" * 300, "a\0b.png", "\ud800.png"],
    ids=lambda name: ascii(name[:30]),
)
def test_only_files_of_the_runs_own_folder_are_embedded(tmp_path, name):
    (tmp_path / "secret.png").write_bytes(png())
    at = add_run(tmp_path, "sentiment", (), plots=[{"file": name, "title": "A title", "caption": "words"}])
    for folder in ("sub", "folder.png"):
        (at / folder).mkdir()
    (at / "sub" / "plot.png").write_bytes(png())
    (at / "link.png").symlink_to(tmp_path / "secret.png")
    (at / "loop.png").symlink_to("loop.png")
    found = page(tmp_path)
    assert not found.all("img") and "A title" in found.text


def test_an_absolute_path_is_not_embedded_even_where_it_is_in_the_folder(tmp_path):
    at = add_run(tmp_path, "sentiment")
    with pytest.raises(DataError, match="not in the folder"):
        report.read_png(at, str(at / "plot.png"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_the_place_of_a_plot_is_not_waited_for(tmp_path):
    at = add_run(tmp_path, "sentiment")
    (at / "plot.png").unlink()
    os.mkfifo(at / "plot.png")
    assert "plot.png: is a link, or no file at all" in page(tmp_path).text


def test_a_plot_of_too_many_bytes_is_named_and_not_embedded(tmp_path):
    at = add_run(tmp_path, "sentiment")
    with open(at / "plot.png", "ab") as file:
        file.truncate(100_000_000)
    found = page(tmp_path)
    assert not found.all("img") and "plot.png: has 100.0 MB, too much for this page" in found.text


def test_a_plot_of_too_many_pixels_is_named_and_not_embedded(tmp_path):
    at = add_run(tmp_path, "sentiment")
    (at / "plot.png").write_bytes(png(report.PICTURE_SIDE + 1, 1))
    found = page(tmp_path)
    assert not found.all("img") and "plot.png: has 8,001 x 1 pixels" in found.text


def test_the_pictures_of_a_run_together_have_a_bound(tmp_path, monkeypatch):
    add_run(tmp_path, "sentiment", ("a.png", "b.png", "c.png"))
    monkeypatch.setattr(report, "RUN_BYTES", 2 * len(png()) + 1)
    found = page(tmp_path)
    assert len(found.all("img")) == 2 and "c.png: has" in found.text


def test_every_text_of_a_results_json_is_escaped(tmp_path):
    add_run(tmp_path, "sentiment", (), column=HTML, rows=[[HTML, HTML]], data=HTML, weights=HTML, seed=[HTML],
            seconds={HTML: HTML, "total": HTML}, versions={HTML: HTML, "machine": HTML}, script=HTML,
            plots=[{"file": HTML, "title": HTML, "caption": HTML}])  # fmt: skip
    found = page(tmp_path)
    assert not found.all("script") and not found.all("img") and not found.unbalanced and not found.open
    assert found.text.count(HTML) >= 10


@pytest.mark.skipif(os.name == "nt", reason="no such file names")
def test_titles_and_file_names_are_escaped_in_the_alternative_text_too(tmp_path):
    name = 'a"><script>.png'
    add_run(tmp_path, "sentiment", (name,))
    found = page(tmp_path)
    assert not found.all("script") and found.all("img")[0]["alt"].startswith(f"Title of {name}")


def test_a_long_table_is_cut_and_says_so(tmp_path):
    add_run(tmp_path, "sentiment", rows=[[f"row {k}", "1"] for k in range(report.MOST_ROWS + 5)])
    found = page(tmp_path)
    assert len(found.all("tr")) == report.MOST_ROWS + 1 and "and 5 more rows" in found.text


def test_half_of_a_letter_does_not_keep_the_page_from_being_written(tmp_path, command):
    add_run(tmp_path, "sentiment", (), data="\ud800")
    assert command(report.main, tmp_path).status == 0
    assert "\\ud800" in (tmp_path / "report.html").read_text(encoding="utf-8")


# ---- the page itself


def test_the_page_asks_for_nothing_outside_of_itself(everything):
    found = page(everything)
    addresses = [value for element in found.elements for name, value in element.attributes.items()
                 if name in ("src", "href", "srcset", "action", "data", "poster", "background")]  # fmt: skip
    assert len(addresses) > 6 and all(value.startswith(("data:", "#problem-")) for value in addresses)
    style = found.html.partition("<style>")[2].partition("</style>")[0]
    assert style and not re.search(r"url\(|@import|://", style)
    assert "://" not in found.text


def test_the_page_has_no_script(everything):
    found = page(everything)
    assert not {"script", "iframe", "object", "embed", "form", "base"} & {element.tag for element in found.elements}
    assert not any(name.startswith("on") for element in found.elements for name in element.attributes)
    (policy,) = [meta["content"] for meta in found.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "script" not in policy


def test_every_picture_has_an_alternative_text_of_its_own_and_its_size(everything):
    images = page(everything).all("img")
    assert len(images) == len(FOLDERS)
    assert all(image["alt"].strip() and int(image["width"]) > 0 and int(image["height"]) > 0 for image in images)


def test_the_page_says_its_language_title_viewport_and_encoding(everything):
    found = page(everything)
    assert found.html.startswith("<!DOCTYPE html>\n") and found.all("html") == [{"lang": "en"}]
    assert len(found.all("title")) == len(found.all("h1")) == 1
    metas = found.all("meta")
    assert {"charset": "utf-8"} in metas
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas


def test_every_element_is_closed_in_order_and_no_id_is_there_twice(everything):
    (everything / "sentiment" / "results.json").unlink()
    found = page(everything)
    ids = [element.attributes["id"] for element in found.elements if "id" in element.attributes]
    assert not found.unbalanced and not found.open and len(ids) == len(set(ids))


def test_every_table_scrolls_in_a_box_of_its_own(everything):
    elements = page(everything).elements
    tables = [k for k, element in enumerate(elements) if element.tag == "table"]
    assert tables and all(elements[k - 1].attributes.get("class") == "scroll" for k in tables)


def test_the_page_has_colours_for_a_dark_screen_and_a_layout_for_paper(everything):
    style = report.page(everything)
    assert "@media screen and (prefers-color-scheme: dark)" in style and "@media print" in style


# ---- python -m data.report


def test_the_command_writes_the_page_and_prints_its_path(everything, command):
    done = command(report.main, everything)
    assert done.status == 0 and str(everything / "report.html") in done.out and not done.err
    assert (everything / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_same_results_give_the_same_page(everything):
    assert report.page(everything) == report.page(everything)


def test_the_commands_on_the_page_name_the_folder_where_it_is_not_the_usual_one(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("results", "my <results>"):
        add_run(tmp_path / name, "sentiment")
        assert command(report.main, name).status == 0
    usual, other = (Page((tmp_path / n / "report.html").read_text()).text for n in ("results", "my <results>"))
    assert "--results" not in usual and "python style_transfer.py --results 'my <results>'" in other


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("notes"),
                                  lambda path: (path / "cache").mkdir(parents=True)],
                         ids=["missing", "empty", "a file", "no results"])  # fmt: skip
def test_a_folder_without_results_is_one_line_that_names_it_and_nothing_is_written(tmp_path, command, make):
    make(tmp_path / "there")
    done = command(report.main, tmp_path / "there")
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"error: {tmp_path / 'there'}: no ") and not list(tmp_path.rglob("report.html"))


def test_a_page_that_cannot_be_written_is_one_line_that_names_it(everything, command):
    (everything / "report.html").mkdir()
    done = command(report.main, everything)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1) and "report.html: " in done.err
    assert not list(everything.glob(".unfinished-*"))


@not_as_root
def test_a_folder_that_may_not_be_written_to_is_one_line(everything, command):
    everything.chmod(0o500)
    done = command(report.main, everything)
    everything.chmod(0o700)
    assert done.status == 2 and done.err.count("\n") == 1 and "report.html" in done.err


def test_the_page_is_made_from_the_command_line(everything):
    done = run_python("-m", "data.report", everything)
    assert (done.returncode, done.stderr) == (0, "") and (everything / "report.html").is_file()


def test_make_homework_ends_with_the_table_and_the_page():
    lines = (REPO / "Makefile").read_text().partition("\nhomework:")[2].partition("\n\n")[0].splitlines()
    assert "-m data.results" in lines[-2] and "-m data.report" in lines[-1]
