"""What every script promises: results.json, plots that say what they show, one seed one run, a --help that helps."""

import re

import pytest
from PIL import Image

from tests.conftest import ARCH
from tests.runs import RESULTS_KEYS, SCRIPTS, STYLE_ARCH, check_equal_runs, read, strings
from tests.test_bad_input import FLAGS

SHOWN = {  # what the title of every figure says: the data and the weights
    "transfer_learning": ("garden", ARCH),
    "style_transfer": ("cat.jpg in the style of quilt.png", STYLE_ARCH),
    "image_captioning": ("Flickr8k", "squeezenet1_1"),
    "image_captioning-full": ("Flickr8k", "squeezenet1_1"),
    "sentiment": ("review sentences",),
}
WITHOUT_DEFAULT = {"--photos", "--captions", "--caption", "--predict", "--predict-file"}


@pytest.fixture(params=SCRIPTS)
def name(request):
    return request.param


@pytest.fixture
def run(finished_runs, name):
    return finished_runs(name)


def test_results_json_has_the_promised_keys_the_scripts_name_and_no_absolute_path(run, name):
    saved = read(run.results, name)
    assert saved.keys() == RESULTS_KEYS and saved["script"] == name and "total" in saved["seconds"]
    assert saved["versions"].keys() >= {"python", "torch", "machine"}
    assert not [text for text in strings(saved) if re.search(r"(^|[\s('\"])/\w", text)]


def test_every_plot_is_a_png_that_shows_something_and_has_a_title_and_a_caption(run, name):
    plots = read(run.results, name)["plots"]
    assert {plot["file"] for plot in plots} == {path.name for path in run.folder.glob("*.png")}
    for plot in plots:
        with Image.open(run.folder / plot["file"]) as image:
            assert image.format == "PNG" and len(image.convert("L").getcolors()) > 10
            assert min(image.size) >= (300 if plot["file"] in run.figures else 1)
        assert plot["title"] and plot["caption"]


def test_every_figure_names_the_data_and_the_weights_that_it_shows(run, name):
    for figure in run.figures.values():
        assert all(words in figure.get_suptitle().replace("\n", " ") for words in SHOWN[name])


def test_a_run_prints_the_table_and_the_paths_of_the_plots(run, name):
    saved = read(run.results, name)
    for row in saved["table"]["rows"]:
        assert re.search("^" + " +".join(map(re.escape, filter(None, row))) + "$", run.out, re.MULTILINE)
    assert all(f"{run.folder / plot['file']} " in run.out for plot in saved["plots"])


def test_two_runs_with_one_seed_give_equal_files_and_equal_results_but_for_the_times(
    finished_runs, tiny_flags, tmp_path, command, name
):
    assert command(SCRIPTS[name].main, *tiny_flags(name), "--results", tmp_path).status == 0
    check_equal_runs(tmp_path, finished_runs(name).results, name)


@pytest.mark.parametrize("help_flag", ["-h", "--help"])
@pytest.mark.parametrize("name", [name for name in FLAGS if name in SCRIPTS])
def test_the_help_names_every_flag_and_its_default(command, name, help_flag):
    done = command(SCRIPTS[name].main, help_flag)
    assert done.status == 0
    for flag, kind in FLAGS[name].items():
        text = re.search(rf"^  (?:--.*, )?{flag}(?![\w-]).*?(?=^  -|\Z)", done.out, re.MULTILINE | re.DOTALL)[0]
        explained = " ".join(text.split())
        assert len(explained) > len(flag) + 20, flag
        assert "default: " in explained or kind == "switch" or flag in WITHOUT_DEFAULT, flag
