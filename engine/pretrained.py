"""Models and tokenizers that exist: whether they can be used, and tokenizers opened or refused.

What a folder's files say is read as data: without transformers, and before anything is built.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.errors import RunError

_COMPLETE = ("tokenizer.json", "vocab.json", "vocab.txt", "tekken.json")
"""Files from which transformers makes a fast tokenizer with no other package."""
_POINTER = b"version https://git-lfs"
_COMPUTED = re.compile(r"(inv_freq|masked_bias)$")
"""Of older files: what a model computes for itself."""
_TIKTOKEN = re.compile(rb"[A-Za-z0-9+/]+=* \d+\r?\n")


def tokenizer_fault(folder: Path) -> str | None:
    """Why the tokenizer of a folder cannot be opened, as its files show, with the mend."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        wrong = file_fault(folder / name)
        if wrong:
            return wrong
    if any((folder / name).is_file() for name in _COMPLETE):
        return None
    models = sorted(folder.glob("*.model"))
    if not models:
        return (
            f"'{folder}' has no tokenizer (no tokenizer.json); save the one of the model that it was "
            f"made from beside it: {_saved('MODEL', folder)}"
        )
    packages = _converters(models[0])
    if all(map(_is_installed, packages)):
        return None
    return (
        f"'{folder}' has its tokenizer as {models[0].name} only, which is to be converted to a "
        f"tokenizer.json: pip install {' '.join(packages)}; {_saved(folder, folder)}"
    )


def file_fault(file: Path) -> str | None:
    """Why a file of JSON fields or of safetensors, if it is there, cannot be used."""
    if not file.is_file():
        return None
    with file.open("rb") as opened:
        if opened.read(len(_POINTER)) == _POINTER:
            return (
                f"'{file}' is a pointer of Git LFS in place of the file; `git lfs pull` fetches it"
            )
    wrong = _fields_fault(file) if file.suffix == ".json" else _weights_fault(file)
    return wrong and f"'{file}' {wrong}; fetch it again"


def _fields_fault(file: Path) -> str | None:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"is damaged ({error})"
    empty = not isinstance(data, dict) or not data
    return f"holds {json.dumps(data)[:40]} and no fields" if empty else None


def _weights_fault(file: Path) -> str | None:
    """A header begins the file: its length in 8 bytes, then JSON with every tensor's bounds."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 + length:
            return "is cut off, or no safetensors file"
        try:
            header = json.loads(opened.read(length))
            ends = [w["data_offsets"][1] for n, w in header.items() if n != "__metadata__"]
            whole = 8 + length + max(ends, default=0)
        except (ValueError, TypeError, LookupError, AttributeError):
            return "is damaged: its header cannot be read"
    return None if size == whole else f"is cut off: {size:,} bytes of {whole:,}"


def loading_fault(found: Mapping[str, Any]) -> str | None:
    """Why a model cannot be used, by what transformers tells of its loading: weights that would be
    drawn anew, or that nothing took, such as layers beyond those of its config.json."""
    missing = found["missing_keys"]
    if missing:
        return f"lacks weights that its config.json asks for: {_some(missing)}; fetch both anew"
    left = [name for name in found["unexpected_keys"] if not _COMPUTED.search(name)]
    if left:
        return (
            f"holds weights that its config.json has no place for: {_some(left)}; fetch both from the "
            "same place, or take these weights out of the file"
        )
    return None


def pretrained_tokenizer(path: str, revision: str | None = None) -> Any:
    """The fast tokenizer of a folder or a name on the hub; code of its own is never run.

    Raises RunError with the cause in one line.
    """
    from transformers import AutoTokenizer

    wrong = tokenizer_fault(Path(path)) if Path(path).is_dir() else None
    if wrong:
        raise RunError(f"tokenizer: {wrong}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False)
        tokenizer.decode(tokenizer("a text")["input_ids"])  # fields that only the use reads
    except Exception as error:  # the Rust library raises nothing narrower
        why = " ".join(str(error).split()) or type(error).__name__
        if "trust_remote_code" in why:
            why = "it has code of its own, which is never run"
        raise RunError(
            f"tokenizer '{path}' cannot be opened: {why}",
            mend="save it as a tokenizer.json and a tokenizer_config.json",
        ) from error
    if not tokenizer.is_fast:
        raise RunError(
            f"tokenizer '{path}' is not a fast one", mend="convert it to a tokenizer.json first"
        )
    if tokenizer.eos_token_id is None:
        raise RunError(
            f"tokenizer '{path}' has no EOS token: nothing would end documents and answers",
            mend=f"name it, and save it: {_saved(path, Path(path), _ending(Path(path), tokenizer))}",
        )
    return tokenizer


def _ending(folder: Path, tokenizer: Any) -> str:
    """The token by which the model of a folder ends, as its own files say; or a place for its name."""
    for name in ("generation_config.json", "config.json"):
        try:
            ends = json.loads((folder / name).read_text(encoding="utf-8"))["eos_token_id"]
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
    """The command that saves the tokenizer of one model into a folder, perhaps with an EOS token."""
    given = f", eos_token={eos!r}" if eos else ""
    return (
        'python -c "from transformers import AutoTokenizer as T; '
        f'T.from_pretrained({str(source)!r}{given}).save_pretrained({str(folder)!r})"'
    )


def _converters(model: Path) -> tuple[str, ...]:
    """The distributions by which transformers converts such a file."""
    with model.open("rb") as opened:
        ranked = _TIKTOKEN.match(opened.read(4096))
    return ("tiktoken",) if ranked else ("sentencepiece", "protobuf")


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
