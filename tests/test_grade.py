"""tests/grade.py, run on our files with one change each."""

import shutil

import pytest

from tests import grade
from tests.conftest import REPO

REGATED = "f(*a[:3], *(np.concatenate([np.split(w, 4, -1)[k] for k in (1, 0, 2, 3)], -1) for w in a[3:]))"
BATCH_FIRST = "(lambda h, c: (h.swapaxes(0, 1), c))(*f(a[0].swapaxes(0, 1), *a[1:]))"
CASES = [  # check, function of rnn_layers.py, its new result (f, a, r: our function, arguments, result), expected words
    ("rnn_step_forward", "rnn_step_forward", "r[0].squeeze(), r[1]", "only with N = 1"),
    ("rnn_step_forward", "rnn_step_forward", "np.array([a[0], a[2]]), r[1]", "use a tuple"),
    ("rnn_step_backward", "rnn_step_backward", "r[:4]", "returned 4 values, expected 5: dx, dprev_h, dWx"),
    ("rnn_step_backward", "rnn_step_backward", "*r[:3], r[3].T, r[4]", "axes 0 and 1 are swapped"),
    ("rnn_step_backward", "rnn_step_forward", "0 * r[0], r[1]", "does not depend on its arguments"),
    ("rnn_forward", "rnn_forward", "list(r[0]), r[1]", None),
    ("rnn_forward", "rnn_forward", BATCH_FIRST, "it expects sequences (N, T, D)"),
    ("rnn_backward", "rnn_backward", "*r[:4], 0 * r[4]", "every value is 0 times the expected one"),
    ("lstm_step_forward", "lstm_step_forward", REGATED, "its gates are in the order i, f, c̃, o; the handout has"),
    ("lstm_step_forward", "lstm_step_forward", "__import__('os')._exit(3)", "Python exited with status 3"),
    ("lstm_step_backward", "lstm_step_backward", "r[0], r[2], r[1], *r[3:]", "it equals the expected dprev_c"),
    ("lstm_forward", "lstm_forward", "1 / 0", "rnn_layers.py line 275: ZeroDivisionError: division"),
    ("lstm_backward", "lstm_backward", "exec('while True: pass')", "took more than 2 s"),
    ("temporal_fc_backward", "temporal_fc_backward", "r[0], -r[1], r[2]", "every value is -1 times the expected one"),
    ("temporal_softmax_loss", "temporal_softmax_loss", "f(*a[:2], a[2] | True)", "the mask is ignored"),
    ("temporal_softmax_loss, dx", "temporal_softmax_loss", "2 * r[0], 2 * r[1]", None),  # right for twice the loss
    ("CaptioningRNN.loss, rnn, grads", "temporal_fc_backward", "r[0], -r[1], r[2]", "it passes with our temporal_fc"),
]  # fmt: skip


@pytest.fixture
def student(tmp_path):
    """A folder with a copy of our files."""
    for module in grade.OURS:
        shutil.copy(REPO / f"{module}.py", tmp_path)
    return tmp_path


@pytest.mark.parametrize("check, function, returned, words", CASES)
def test_a_mistake_is_explained(student, check, function, returned, words):
    results = "f(*a)" if "r[" in returned else "None"
    with (student / "rnn_layers.py").open("a") as file:
        file.write(f"\n\n{function} = (lambda f: lambda *a: (lambda r: ({returned}))({results}))({function})\n")
    failure = grade.ask(student, check, 2 if "while" in returned else 60)["failure"]
    assert (failure is None) if words is None else words in failure


def test_our_files_get_all_points(student, command):
    source = (student / "rnn.py").read_text()
    (student / "rnn.py").write_text(source.replace('self.cell_type == "rnn"', 'self.cell_type is "rnn"'))
    done = command(grade.main, student)
    assert done.status == 0 and "FAILS" not in done.out and "total                  18 of 18 points" in done.out


def test_bleu_without_its_nltk_import_passes(student):
    score = "nltk.translate.bleu_score.sentence_bleu([a], b, weights=[1])"
    words = "[w for w in text.split() if w not in ('<START>', '<END>', '<UNK>')]"
    code = f"def BLEU_score(a, b):\n    a, b = ({words} for text in (a, b))\n    return {score}\n"
    (student / "bleu_utils.py").write_text(code)
    assert grade.ask(student, "BLEU_score", 20)["failure"] is None


def test_missing_and_broken_files_lose_their_points(student, command):
    (student / "layers.py").unlink()
    (student / "rnn.py").write_text("import nowhere\n")
    done = command(grade.main, student)
    assert done.out.count("rnn.py cannot be imported: rnn.py line 1: ModuleNotFoundError") == 6
    assert "layers.py not found" in done.out and "total                  12 of 18 points" in done.out
