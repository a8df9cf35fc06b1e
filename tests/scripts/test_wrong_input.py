"""Common mistakes with each command: one line that names the cause, exit status 2, no results written."""

import pytest

from common import report
from data import download
from tests import benchmark, grade
from tests.conftest import refused, run_python
from tests.scripts.tiny import SCRIPTS

TRANSFER, STYLE, CAPTIONS, SENTIMENT = "transfer_learning", "style_transfer", "image_captioning", "sentiment"
WRONG = [  # script, flags (W: `world`, T: an empty folder), text in the error
    (TRANSFER, "--data nosuch", "nosuch"),
    (TRANSFER, "--data T", "hymenoptera_data"),
    (TRANSFER, "--epochs 0", "--epochs"),
    (TRANSFER, "--batch-size x", "--batch-size"),
    (TRANSFER, "--lr nan", "--lr"),
    (TRANSFER, "--backbone-lr -1", "--backbone-lr"),
    (TRANSFER, "--seed -1", "--seed"),
    (TRANSFER, "--workers 999", "--workers"),
    (TRANSFER, "--scenarios frozen", "--scenarios"),
    (TRANSFER, "--arch resnet19", "resnet18"),
    (TRANSFER, "--arch resnet18 --data W", "data.download"),
    (TRANSFER, "--photos nosuch --data W", "nosuch"),
    (TRANSFER, "--device tpu", "--device"),
    (TRANSFER, "--resume", "--resume"),
    (TRANSFER, "--predict nosuch.jpg", "nosuch.jpg"),
    (TRANSFER, "--predict W/train.txt", "train.txt"),
    (TRANSFER, "--predict W/own/cat.jpg", "transfer_learning.py"),
    (TRANSFER, "--predict W/own/cat.jpg --model W/train.txt", "train.txt"),
    (TRANSFER, "--predict W/own/cat.jpg --epochs 3", "--epochs"),
    (TRANSFER, "--model W/train.txt", "--predict"),
    (STYLE, "--data T", "styles"),
    (STYLE, "--content nosuch.jpg", "nosuch.jpg"),
    (STYLE, "--content W/train.txt --style W/own/quilt.png --data W", "train.txt"),
    (STYLE, "--preset starry", "--preset"),
    (STYLE, "--size 8 --content W/own/cat.jpg --style W/own/quilt.png --data W", "--size 8"),
    (STYLE, "--style-size 99999 --content W/own/cat.jpg --style W/own/quilt.png --data W", "--style-size 99999"),
    (STYLE, "--style-layers 1 --content W/own/cat.jpg --style W/own/quilt.png --data W", "layers 1, but 4"),
    (STYLE, "--style-weights 1 --content W/own/cat.jpg --style W/own/quilt.png --data builtin", "3 4 6 7, but"),
    (STYLE, "--content-layer 13 --content W/own/cat.jpg --style W/own/quilt.png --data W", "--content-layer"),
    (STYLE, "--tv-weight inf", "--tv-weight"),
    (STYLE, "--steps 0", "--steps"),
    (CAPTIONS, "--data T", "flickr8k"),
    (CAPTIONS, "--cells gru", "--cells"),
    (CAPTIONS, "--dropout 1", "--dropout"),
    (CAPTIONS, "--hidden 0", "--hidden"),
    (CAPTIONS, "--photos W/own", "--captions"),
    (CAPTIONS, "--photos W/own --captions nosuch.txt", "nosuch.txt"),
    (CAPTIONS, "--photos W/own --captions W/train.txt", "train.txt, line 1"),
    (CAPTIONS, "--set coco --data W", "coco"),
    (CAPTIONS, "--set coco --data builtin", "--set"),
    (CAPTIONS, "--min-count 99 --data W", "--min-count 99"),
    (CAPTIONS, "--arch nosuch --data W", "--arch nosuch"),
    (CAPTIONS, "--caption nosuch.jpg", "nosuch.jpg"),
    (CAPTIONS, "--caption W/own/cat.jpg --data W", "image_captioning.py"),
    (CAPTIONS, "--beam-width 0", "--beam-width"),
    (SENTIMENT, "--data T", "train.txt"),
    (SENTIMENT, "--seeds 1 1", "--seeds"),
    (SENTIMENT, "--models gru", "--models"),
    (SENTIMENT, "--glove nosuch.txt --data W", "nosuch.txt"),
    (SENTIMENT, "--glove W/own/cat.jpg --data W", "cat.jpg"),
    (SENTIMENT, "--glove W/Wempty.txt --data W", "Wempty.txt"),
    (SENTIMENT, "--predict good", "sentiment.py"),
    (SENTIMENT, "--predict-file nosuch.txt", "nosuch.txt"),
    (SENTIMENT, "--results W/train.txt --data W", "train.txt"),
    ("download", "nosuch", "nosuch"),
    ("download", "--arch nosuch", "nosuch"),
    ("report", "nosuch", "nosuch"),
    ("grade", "nosuch", "nosuch"),
    ("benchmark", "nosuch", "nosuch"),
]  # fmt: skip
MAINS = {"download": download.main, "report": report.main, "grade": grade.main, "benchmark": benchmark.main}


@pytest.mark.parametrize("script, flags, named", WRONG, ids=lambda value: str(value).replace("/", ":"))
def test_a_mistake_gives_one_line_that_names_it(world, tmp_path, command, script, flags, named):
    empty, results = tmp_path / "empty", tmp_path / "results"
    empty.mkdir()
    words = [word.replace("W/", f"{world}/") for word in flags.split()]
    words = [{"W": world, "T": empty}.get(word, word) for word in words]
    more = [] if script in MAINS or "--results" in words else ["--results", results]
    done = command(MAINS.get(script) or SCRIPTS[script].main, *words, *more)
    assert refused(done, named)
    left = {path.name for path in results.glob("*")} if results.exists() else set()
    assert left <= {"cache", f".{script}.lock"}


@pytest.mark.parametrize("script", ["transfer_learning.py", "style_transfer.py", "image_captioning.py", "sentiment.py"])
def test_help_lists_restart_and_fits_80_columns(script):
    done = run_python(script, "--help", COLUMNS="80")
    assert done.returncode == 0 and "--restart" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_redirected_output_has_no_progress_bars(world, tmp_path):
    done = run_python("style_transfer.py", *SCRIPTS["style_transfer"].flags(world), "--results", tmp_path)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_run_without_docstrings_and_assertions(world, tmp_path, name):
    flags = [*SCRIPTS[name].flags(world), "--results", tmp_path]
    done = run_python(f"{SCRIPTS[name].module}.py", *flags, PYTHONOPTIMIZE="2")
    assert done.returncode == 0, done.stderr
