"""Checks existing models and tokenizers, and opens tokenizers.

A folder's files are read as data: without transformers, and before anything is built.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.errors import RunError
from engine.files.reading import json_of, read_json

_COMPLETE = ("tokenizer.json", "vocab.json", "vocab.txt", "tekken.json")
"""Files from which transformers makes a fast tokenizer without another package."""
_POINTER = b"version https://git-lfs"
_COMPUTED = re.compile(r"(inv_freq|masked_bias)$")
"""Weights in older files that a model computes itself."""
_TIKTOKEN = re.compile(rb"[A-Za-z0-9+/]+=* \d+\r?\n")


def tokenizer_fault(folder: Path) -> str | None:
    """Why the folder's tokenizer cannot be opened, judged by its files, and how to fix it; or None."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        wrong = file_fault(folder / name)
        if wrong:
            return wrong
    if any((folder / name).is_file() for name in _COMPLETE):
        return None
    models = sorted(folder.glob("*.model"))
    if not models:
        return (
            f"'{folder}' has no tokenizer (no tokenizer.json); save that of its base model there: "
            f"{_saved('MODEL', folder)}"
        )
    packages = _converters(models[0])
    if all(map(_is_installed, packages)):
        return None
    return (
        f"'{folder}' has its tokenizer only as {models[0].name}; convert it to a tokenizer.json: "
        f"pip install {' '.join(packages)}; {_saved(folder, folder)}"
    )


def _unreadable(folder: Path) -> Path | None:
    """The folder's tokenizer.json, if that file itself cannot be opened."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    try:
        Tokenizer.from_file(str(file))
    except Exception:  # the Rust library raises nothing narrower
        return file
    return None


def file_fault(file: Path) -> str | None:
    """Why a file of JSON fields or safetensors cannot be used; None if it can, or does not exist."""
    if not file.is_file():
        return None
    with file.open("rb") as opened:
        if opened.read(len(_POINTER)) == _POINTER:
            return f"'{file}' is a Git LFS pointer, not the file itself; run `git lfs pull`"
    wrong = _fields_fault(file) if file.suffix == ".json" else _weights_fault(file)
    return wrong and f"'{file}' {wrong}; download it again"


def _fields_fault(file: Path) -> str | None:
    try:
        data = read_json(file)
    except (OSError, ValueError) as error:
        return f"is damaged ({error})"
    empty = not isinstance(data, dict) or not data
    return f"holds {json.dumps(data)[:40]} instead of fields" if empty else None


def _weights_fault(file: Path) -> str | None:
    """Checks the file's size against its header: 8 bytes of length, then JSON with tensor offsets."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 + length:
            return "is truncated, or not a safetensors file"
        try:
            header = json_of(opened.read(length))
            ends = [w["data_offsets"][1] for n, w in header.items() if n != "__metadata__"]
            whole = 8 + length + max(ends, default=0)
        except (ValueError, TypeError, LookupError, AttributeError):
            return "is damaged: its header cannot be read"
    return None if size == whole else f"is truncated: {size:,} bytes of {whole:,}"


def kernel_of(config: Any) -> str | None:
    """The hub kernel that a config.json requests for its model's attention or experts, whose code
    transformers would run; None if there is none."""
    if not isinstance(config, Mapping):
        return None
    for name, value in config.items():
        parts = value.values() if isinstance(value, Mapping) else (value,)
        if str(name).endswith(("attn_implementation", "experts_implementation")):
            found = next((p for p in parts if isinstance(p, str) and "/" in p), None)
        else:
            found = kernel_of(value)
        if found:
            return found
    return None


def loading_fault(found: Mapping[str, Any]) -> str | None:
    """Why a model cannot be used, from transformers' report of its loading: missing weights, which
    would be drawn at random, or unused ones, such as layers beyond those of its config.json."""
    missing = found["missing_keys"]
    if missing:
        return f"lacks weights that its config.json asks for: {_some(missing)}; download both again"
    left = [name for name in found["unexpected_keys"] if not _COMPUTED.search(name)]
    if left:
        return (
            f"holds weights that its config.json has no place for: {_some(left)}; download both from "
            "the same source, or remove these weights from the file"
        )
    return None


def pretrained_tokenizer(path: str, revision: str | None = None) -> Any:
    """Opens the fast tokenizer of a folder or hub name, never running code that comes with it.

    Raises RunError with the cause in one line.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging

    wrong = tokenizer_fault(Path(path)) if Path(path).is_dir() else None
    if wrong:
        raise RunError(f"tokenizer: {wrong}")
    told = logging.get_verbosity()
    logging.set_verbosity_error()  # it would warn of a model of a plugin that is not installed
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False)
        tokenizer.decode(tokenizer("a text")["input_ids"])  # some fields are read only on use
    except Exception as error:  # the Rust library raises nothing narrower
        why = " ".join(str(error).split()) or type(error).__name__
        if "trust_remote_code" in why:
            why = "it needs code of its own, which the engine never runs"
        raise RunError(
            f"tokenizer '{_unreadable(Path(path)) or path}' cannot be opened: {why}",
            hint="save it again as a tokenizer.json and a tokenizer_config.json",
        ) from error
    finally:
        logging.set_verbosity(told)
    if not tokenizer.is_fast:
        raise RunError(
            f"tokenizer '{path}' is not a fast tokenizer",
            hint="convert it to a tokenizer.json first",
        )
    if tokenizer.eos_token_id is None:
        raise RunError(
            f"tokenizer '{path}' has no EOS token to end documents and answers",
            hint=f"set one and save it: {_saved(path, Path(path), _ending(Path(path), tokenizer))}",
        )
    return tokenizer


def _ending(folder: Path, tokenizer: Any) -> str:
    """The EOS token that the model's own files name, or the placeholder ``TOKEN``."""
    for name in ("generation_config.json", "config.json"):
        try:
            ends = read_json(folder / name)["eos_token_id"]
            token = tokenizer.convert_ids_to_tokens(ends[0] if isinstance(ends, list) else ends)
        except (OSError, ValueError, LookupError, TypeError, OverflowError):
            continue
        if isinstance(token, str):
            return token
    return "TOKEN"


def _some(names: Collection[str]) -> str:
    first = sorted(names)[:3]
    return ", ".join(first) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _saved(source: str | Path, folder: Path, eos: str | None = None) -> str:
    """The command that saves a model's tokenizer into a folder, optionally with an EOS token."""
    given = f", eos_token={eos!r}" if eos else ""
    return (
        'python -c "from transformers import AutoTokenizer as T; '
        f'T.from_pretrained({str(source)!r}{given}).save_pretrained({str(folder)!r})"'
    )


def _converters(model: Path) -> tuple[str, ...]:
    """The distributions that transformers needs to convert such a file."""
    with model.open("rb") as opened:
        ranked = _TIKTOKEN.match(opened.read(4096))
    return ("tiktoken",) if ranked else ("sentencepiece", "protobuf")


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
