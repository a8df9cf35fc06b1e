"""What every script promises: one seed gives one run, --help explains every flag."""

import re

import pytest

from tests.runs import SCRIPTS, check_equal_runs
from tests.test_bad_input import FLAGS

WITHOUT_DEFAULT = {"--photos", "--captions", "--caption", "--predict", "--predict-file"}


@pytest.mark.parametrize("name", SCRIPTS)
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
        text = re.search(rf"^  {flag}(?![\w-]).*?(?=^  -|\Z)", done.out, re.MULTILINE | re.DOTALL)[0]
        explained = " ".join(text.split())
        assert len(explained) > len(flag) + 20, flag
        assert "default: " in explained or kind == "switch" or flag in WITHOUT_DEFAULT, flag
