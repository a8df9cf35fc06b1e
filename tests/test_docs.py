"""The Markdown pages: what they quote is what was measured, and what they name is there."""

import json
import re

import pytest

from tests.conftest import REPO

NAMES = "README.md", "WRITEUP.md", "data/README.md", "docs/BENCHMARKS.md"
PAGES = [REPO / name for name in NAMES if (REPO / name).is_file()]


def quoting_tables():
    """Each Markdown table after a line `<!-- FILE.json ... -->`: the page, the files, the table's rows of cells."""
    for page in PAGES:
        for match in re.finditer(r"<!-- ((?:\S+\.json ?)+)-->\n+((?:\|.*\n)+)", page.read_text(encoding="utf-8")):
            rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in match[2].splitlines()]
            yield pytest.param(match[1].split(), rows, id=f"{page.name}: {match[1].strip()}")


def numbers(value):
    """Every number in a JSON value, those in texts included; curves, of which some number always fits, are not."""
    if isinstance(value, dict):
        value = [part for key, part in value.items() if key not in ("history", "step_loss")]
    if isinstance(value, list):
        return {number for part in value for number in numbers(part)}
    if isinstance(value, bool) or value is None:
        return set()
    return {float(text.replace(",", "")) for text in re.findall(r"\d[\d,]*\.?\d*", str(value))}


@pytest.mark.parametrize("files, rows", list(quoting_tables()))
def test_every_number_of_a_table_is_in_the_results_that_it_names(files, rows):
    known = {number for file in files for number in numbers(json.loads((REPO / file).read_text(encoding="utf-8")))}
    for row in rows[2:]:
        for cell in row[1:]:
            for text in re.findall(r"\d[\d,]*\.?\d*", cell):
                digits = len(text.partition(".")[2])
                number = float(text.replace(",", ""))
                assert any(round(k, digits) == number or round(100 * k, digits) == number for k in known), (row, text)


def test_tables_of_readme_and_writeup_quote_results():
    assert {parameters.id.partition(":")[0] for parameters in quoting_tables()} >= {"README.md", "WRITEUP.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    links = [page.parent / link for link in re.findall(r"\]\((?!http)([^)#]+)\)", text)]
    commands = re.findall(r"python (?:(\w+)\.py|-m ((?:data|tests|common)(?:\.\w+)+))", text)
    scripts = [REPO / f"{(script or module).replace('.', '/')}.py" for script, module in commands]
    assert [path for path in (*links, *scripts) if not path.exists()] == []
