"""The layout: which modules are at the top level, and what each module may import."""

import ast
import sys

import pytest

from tests.conftest import REPO

SCRIPTS = {"transfer_learning", "style_transfer", "image_captioning", "sentiment"}
CORE = {  # module: what it may import
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
    """The dotted names of the modules that a file imports, except under `if __name__ == ...`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and "__main__" in ast.unparse(node.test))]
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            ours = node.module in ("common", "data")
            names |= {f"{node.module}.{alias.name}" if ours else node.module for alias in node.names}
    return {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}


def first(names):
    return {name.partition(".")[0] for name in names}


def test_the_top_level_has_only_scripts_and_core_modules():
    assert {path.stem for path in REPO.glob("*.py")} == SCRIPTS | CORE.keys()


@pytest.mark.parametrize("module", CORE)
def test_core_modules_import_only_numpy_and_each_other(module):
    assert first(imports(REPO / f"{module}.py")) <= CORE[module]


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_scripts_import_neither_scripts_nor_tests(script):
    assert not first(imports(REPO / f"{script}.py")) & {*SCRIPTS, "tests"}


@pytest.mark.parametrize("path", READERS, ids=lambda path: path.stem)
def test_data_imports_only_data_and_the_command_line(path):
    allowed = {"common.cli"}
    allowed |= {"bleu_utils"} if path.stem == "captions" else set()  # the special words and the decoder of captions
    allowed |= {"common.run"} if path.stem == "pretrain" else set()  # pretrain.py is a command
    ours = {name for name in imports(path) if first([name]) & {"common", "tests", *SCRIPTS, *CORE}}
    assert {".".join(name.split(".")[:2]) for name in ours} <= allowed


@pytest.mark.parametrize("path", COMMON, ids=lambda path: path.stem)
def test_common_imports_neither_scripts_nor_data(path):
    assert not first(imports(path)) & {*SCRIPTS, *CORE, "data", "tests"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPO)))
def test_every_library_is_in_requirements(path):
    assert first(imports(path)) <= {*LIBRARIES, *SCRIPTS, *CORE, "data", "common"}
    wanted = (REPO / "requirements.txt").read_text().lower().replace("pillow", "pil")
    assert all(f"\n{name.lower()}>=" in wanted for name in LIBRARIES)
