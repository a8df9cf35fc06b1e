"""The house: what lies at the top level, and arrows that go one way: script -> model -> layers, script -> data."""

import ast
import sys

import pytest

from tests.conftest import REPO

SCRIPTS = {"transfer_learning", "style_transfer", "image_captioning", "sentiment"}
LAYERS = {  # module: all that it may import
    "layers": {"numpy"},
    "rnn_layers": {"numpy", "layers"},
    "rnn": {"numpy", "layers", "rnn_layers", "bleu_utils"},
    "bleu_utils": {"numpy", "layers"},
}
ASKED_FOR = {"numpy", "torch", "torchvision", "matplotlib", "PIL", "tqdm", "h5py"}  # in requirements.txt, not for tests
FILES = [*sorted(REPO.glob("*.py")), *sorted((REPO / "data").rglob("*.py"))]


def imports(path):
    """The modules that a file imports anywhere, by their first name; what stands under its `__main__` is left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and "__main__" in ast.unparse(node.test))]
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def test_the_top_level_has_the_scripts_and_the_layer_modules_and_no_other_python_file():
    assert {path.stem for path in REPO.glob("*.py")} == SCRIPTS | LAYERS.keys()


@pytest.mark.parametrize("module", LAYERS)
def test_the_layer_modules_import_numpy_and_one_another_alone(module):
    assert imports(REPO / f"{module}.py") <= LAYERS[module]


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_a_script_imports_no_other_script_and_nothing_of_the_tests(script):
    assert not imports(REPO / f"{script}.py") & {*SCRIPTS, "tests"}


@pytest.mark.parametrize("path", sorted((REPO / "data").rglob("*.py")), ids=lambda path: str(path.relative_to(REPO)))
def test_data_imports_no_script_no_layer_and_nothing_of_the_tests(path):
    allowed = {"bleu_utils"} if path.name == "captions.py" else set()  # the special words and the decoder of captions
    assert not imports(path) & {*SCRIPTS, *LAYERS, "tests"} - allowed


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPO)))
def test_nothing_is_imported_that_requirements_txt_does_not_ask_for(path):
    assert imports(path) <= {*ASKED_FOR, *SCRIPTS, *LAYERS, "data"}
