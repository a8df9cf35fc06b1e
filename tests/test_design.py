"""The house: what is at the top level, and which way imports go."""

import ast
import sys

import pytest

from tests.conftest import REPO

SCRIPTS = {"transfer_learning", "style_transfer", "image_captioning", "sentiment"}
HEART = {  # module: what it may import
    "layers": {"numpy"},
    "rnn_layers": {"numpy", "layers"},
    "rnn": {"numpy", "layers", "rnn_layers", "bleu_utils"},
    "bleu_utils": {"numpy", "layers"},
}
LIBRARIES = {"numpy", "torch", "torchvision", "matplotlib", "PIL", "tqdm", "h5py", "jinja2", "filelock", "regex"}
READERS = sorted(path for path in (REPO / "data").rglob("*.py"))
COMMON = sorted((REPO / "common").glob("*.py"))
FILES = [*sorted(REPO.glob("*.py")), *READERS, *COMMON]


def imports(path):
    """The modules that a file imports anywhere but under its `__main__`, with their dotted names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and "__main__" in ast.unparse(node.test))]
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names |= {
                f"{node.module}.{a.name}" if node.module in ("common", "data") else node.module for a in node.names
            }
    return {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}


def first(names):
    return {name.partition(".")[0] for name in names}


def test_the_top_level_has_the_scripts_and_the_heart():
    assert {path.stem for path in REPO.glob("*.py")} == SCRIPTS | HEART.keys()


@pytest.mark.parametrize("module", HEART)
def test_the_heart_imports_numpy_and_itself(module):
    assert first(imports(REPO / f"{module}.py")) <= HEART[module]


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_a_script_imports_no_other_script_and_no_tests(script):
    assert not first(imports(REPO / f"{script}.py")) & {*SCRIPTS, "tests"}


@pytest.mark.parametrize("path", READERS, ids=lambda path: path.stem)
def test_data_imports_only_itself_and_the_command_line(path):
    allowed = {"common.cli"}
    allowed |= {"bleu_utils"} if path.stem == "captions" else set()  # the special words and the decoder of captions
    allowed |= {"common.run"} if path.stem == "pretrain" else set()  # a command, not a reader
    ours = {name for name in imports(path) if first([name]) & {"common", "tests", *SCRIPTS, *HEART}}
    assert {".".join(name.split(".")[:2]) for name in ours} <= allowed


@pytest.mark.parametrize("path", COMMON, ids=lambda path: path.stem)
def test_common_imports_neither_scripts_nor_data(path):
    assert not first(imports(path)) & {*SCRIPTS, *HEART, "data", "tests"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPO)))
def test_every_library_is_in_requirements(path):
    assert first(imports(path)) <= {*LIBRARIES, *SCRIPTS, *HEART, "data", "common"}
    wanted = (REPO / "requirements.txt").read_text().lower().replace("pillow", "pil")
    assert all(f"\n{name.lower()}>=" in wanted for name in LIBRARIES)
