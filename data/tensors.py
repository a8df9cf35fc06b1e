"""Files of tensors: weights, models, checkpoints. Loading one never runs code that it may hold."""

import contextlib
import io
import warnings
import zipfile
from pathlib import Path

import torch

from data import DataError
from data.files import write_bytes

CONTAINERS = (dict, list, tuple, set)


def save_tensors(path, content):
    """Writes tensors, numbers, strings and dicts and lists of them, as `torch.save` does, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getbuffer())


@contextlib.contextmanager
def quiet():
    """No warnings while the block, or the function that this decorates, runs: what a broken file causes is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load_tensors(path, what):
    """Reads what `save_tensors` wrote, or any file of weights, onto the CPU. Never runs code that the file may hold.

    what: how an error calls the file ("a weights file").
    Raises DataError where the file is missing, cut short, or holds other things than tensors and plain values.
    """
    if not Path(path).is_file():
        found = "is a folder or the like" if Path(path).exists() else "no such file"
        raise DataError(f"{path}: {found}; it should be {what}")
    try:
        size = _unpacked_size(path)
        with quiet():  # of an odd pickle protocol: the error below says enough
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); it should be {what}") from None
    except Exception as error:  # torch.load raises a dozen kinds on broken files
        if "GLOBAL" in str(error):
            raise DataError(
                f"{path}: holds Python objects, which could run code, so it is not loaded; it should be {what}"
            ) from None
        raise DataError(f"{path}: cut short or no PyTorch file; it should be {what}") from None
    if not _is_plain(content, size):
        raise DataError(
            f"{path}: holds tensors of an odd kind (sparse, quantized, larger than the file); it should be {what}"
        )
    return content


def _unpacked_size(path):
    """The bytes of a file of tensors. Raises ValueError for one that gets larger when it is read: torch packs none."""
    size = Path(path).stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as parts:
            if sum(part.file_size for part in parts.infolist()) > size:
                raise ValueError("unpacks to more than the file")
    return size


def _is_plain(content, size):
    """Whether every tensor in `content` is dense and on the CPU, and all of them fit in the `size` bytes of their file.

    Goes level by level, no deeper than 20: a list that holds itself, or one list twice and so on, would have no end.
    """
    level, things, nbytes = [content], 0, 0
    for _ in range(20):
        tensors = [part for part in level if isinstance(part, torch.Tensor)]
        nbytes += sum(part.numel() * part.element_size() for part in tensors)
        if not all(map(_is_dense, tensors)) or nbytes > 2 * size:  # two names may stand for one tensor
            return False
        inner = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, CONTAINERS)]
        things += sum(map(len, inner))
        if not inner or things > size:  # each thing takes a byte of the file or more
            return not inner
        level = [part for parts in inner for part in parts]
    return False


def _is_dense(tensor):
    dense = tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_quantized
    return (
        dense
        and tensor.device.type == "cpu"
        and tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()
    )
