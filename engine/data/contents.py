"""Digests of a stage's inputs, compared before the stage resumes.

A digest of examples covers every value. That of a model's folder covers the names, sizes and contents
of the files that model and tokenizer are loaded from; of a file above 16 MiB, 256 evenly spaced blocks
of 64 KiB, the first and last included. This detects other weights, but perhaps not a single number
edited in a large file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.contracts.batch import Example

_OPENED = (".jinja", ".json", ".model", ".safetensors", ".txt")
_WHOLE = 2**24
_BLOCKS, _BLOCK = 256, 2**16


def of_examples(examples: Iterable[Example]) -> str:
    """Digest of all examples in their order, as 32 hexadecimal digits."""
    found = blake2b(digest_size=16)
    for example in examples:
        _add(found, example.fields)
    return found.hexdigest()


def of_folder(folder: Path) -> str:
    """Digest of a model folder's files, as 32 hexadecimal digits. Raises OSError."""
    found = blake2b(digest_size=16)
    files = sorted(f for f in folder.iterdir() if f.suffix in _OPENED and f.is_file())
    for file in files:
        size = file.stat().st_size
        found.update(f"{file.name}:{size}:".encode(errors="surrogateescape"))
        with file.open("rb") as opened:
            if size <= _WHOLE:
                found.update(opened.read())
                continue
            for block in range(_BLOCKS):
                opened.seek((size - _BLOCK) * block // (_BLOCKS - 1))
                found.update(opened.read(_BLOCK))
    return found.hexdigest()


def _add(found: Any, value: Any) -> None:
    """Hashes a value with its types and sizes, so that different values hash different bytes."""
    if is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Mapping):
        found.update(b"{%d" % len(value))
        for key, part in value.items():
            _add(found, key)
            _add(found, part)
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        found.update(f"{value.dtype}{value.shape}".encode())
        found.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, AbstractSet):  # the order of a set differs between processes
        _add(found, sorted(map(repr, value)))
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        found.update(b"[%d" % len(value))
        for part in value:
            _add(found, part)
    elif isinstance(value, torch.Tensor):
        found.update(f"{value.dtype}{tuple(value.shape)}".encode())
        _add(found, value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    else:
        text = repr(value)
        if text.startswith("<"):  # the default repr contains the object's address
            text = type(value).__qualname__
        found.update(f"{len(text)}:{text}".encode(errors="surrogatepass"))
