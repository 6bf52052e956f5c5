"""Checks folders of models without loading them: says in one line what is wrong and how to mend it.

Imports neither torch nor transformers, so that specs are checked fast. Faults in the weights themselves
are found when the model is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engine import (
    file_fault,
    kernel_of,
    missing_plugin,
    read_json,
    tokenizer_fault,
)
from engine_lm import architectures

_ADAPTER = "adapter_config.json"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_POSITIVE = ("num_attention_heads", "num_hidden_layers", "hidden_size", "vocab_size")
_BITS = {"load_in_4bit": 4, "load_in_8bit": 8}


def base_of(folder: Path) -> Path | None:
    """The folder of the base model: the folder itself if it holds a whole model; else the base of its
    adapter, or None where that is not on this machine."""
    if not is_adapter(folder) or any((folder / name).is_file() for name in (_WEIGHTS, _INDEX)):
        return folder
    base = Path(str(_read(folder / _ADAPTER).get("base_model_name_or_path") or folder))
    return base if base.is_dir() and base.resolve() != folder.resolve() else None


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter in peft's layout."""
    return (folder / _ADAPTER).is_file()


def config_of(folder: Path) -> dict[str, Any]:
    """The model's config.json; empty where it is missing or unreadable."""
    base = base_of(folder)
    return {} if base is None else _read(base / "config.json")


def model_type(folder: Path) -> str | None:
    """The model's architecture; None where its config.json names none."""
    kind = config_of(folder).get("model_type")
    return kind if isinstance(kind, str) else None


def tokenizer_folder(folder: Path) -> Path:
    """The folder of a model's tokenizer: the adapter's, if it has one, else the base's."""
    return folder if tokenizer_fault(folder) is None else base_of(folder) or folder


def fault(folder: Path) -> str | None:
    """Why the model in a folder cannot be used; None if it can."""
    return next(_faults(folder), None)


def config_fault(config: Mapping[str, Any], name: str) -> str | None:
    """Why a model with this config.json, from a folder or a hub, cannot be used; None if it can."""
    quantised = config.get("quantization_config")
    if quantised:
        given = quantised if isinstance(quantised, dict) else {}
        method = str(given.get("quant_method") or "bitsandbytes").lower()
        bits = next((b for k, b in _BITS.items() if given.get(k)), given.get("bits"))
        hint = "use the checkpoint that it was quantised from"
        if method == "bitsandbytes":
            hint += f", or dequantise it: {_converted(name, f'{name}-wide', '.dequantize()')}"
        how = f"{method}, {bits} bits" if bits else method
        return (
            f"'{name}' is quantised ({how}); quantised weights cannot be trained or scored, not even "
            f"below a LoRA; {hint}"
        )
    if kernel := kernel_of(config):
        return (
            f"'{name}': its config.json asks for the kernel '{kernel}', which is external code and is "
            "never run; remove that field"
        )
    for field in _POSITIVE:
        count = config.get(field)
        if isinstance(count, int) and count < 1:
            return f"'{name}': its config.json gives {field} as {count}; fetch it again"
    if wrong := architectures.unsuited(config):
        return f"'{name}' {wrong}"
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        return f"'{name}': its config.json names no model_type; fetch it again"
    wrong = architectures.refused(kind)
    if architectures.unknown(kind) and (needs := missing_plugin(config)):
        return f"'{name}': {needs}"
    if wrong and config.get("auto_map"):
        return (
            f"'{name}' needs code of its own ('{kind}', by auto_map in its config.json), which is "
            "never run; use a model whose architecture transformers has, or put the code into a plugin "
            "(contrib/README.md)"
        )
    return f"'{name}': {wrong}" if wrong else None


def merge_command(adapter: str, target: str) -> str:
    """The command that merges a LoRA into its base, and saves both model and tokenizer."""
    return (
        'python -c "from peft import AutoPeftModelForCausalLM as P; from transformers import '
        f"AutoTokenizer as T; m = P.from_pretrained({adapter!r}); "
        "T.from_pretrained(m.peft_config['default'].base_model_name_or_path)"
        f'.save_pretrained({target!r}); m.merge_and_unload().save_pretrained({target!r})"'
    )


def _faults(folder: Path) -> Iterator[str]:
    if is_adapter(folder):
        yield from _adapter_faults(folder)
    base = base_of(folder) or folder
    if not (base / "config.json").is_file():
        yield _without_config(base)
    wrong = (
        file_fault(base / "config.json")
        or config_fault(config_of(folder), str(base))
        or _weights_fault(base)
    )
    if wrong:
        yield wrong if base == folder else f"'{folder}' is a LoRA over '{base}': {wrong}"


def _adapter_faults(folder: Path) -> Iterator[str]:
    wrong = file_fault(folder / _ADAPTER)
    if wrong:
        yield wrong
    given = _read(folder / _ADAPTER)
    kind, base = given.get("peft_type"), given.get("base_model_name_or_path")
    if kind != "LORA":
        yield f"'{folder}' is an adapter of type {kind}, and only a LoRA can be merged into its base"
    if base_of(folder) is None:
        yield (
            f"'{folder}' is a LoRA over '{base}', which is not a folder on this machine; merge them, "
            f"and use the merged folder: {merge_command(str(folder), f'{folder}-merged')}"
        )
    if find_spec("peft") is None:
        yield f"'{folder}' is a LoRA, which needs peft: pip install 'training-engine[sft]'"
    file = folder / "adapter_model.safetensors"
    if file.is_file():
        yield from filter(None, [file_fault(file)])
    elif (folder / "adapter_model.bin").is_file():
        yield (
            f"'{folder}' has pickled weights (adapter_model.bin), which are never opened; "
            'convert them: python -c "from peft import AutoPeftModelForCausalLM as P; '
            f'P.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"'
        )
    else:
        yield f"'{folder}' is a LoRA over '{base}' but lacks adapter_model.safetensors; copy it there"


def _without_config(folder: Path) -> str:
    packed = next(iter(sorted(folder.glob("*.gguf"))), None)
    if packed is None:
        return f"'{folder}' has no config.json, so it is not a model's folder"
    return (
        f"'{folder}' has its model only as {packed.name}; convert it: pip install gguf; "
        f"{_unpacked(packed, f'{folder}-converted')}"
    )


def _weights_fault(folder: Path) -> str | None:
    """Why the weights in a folder with a valid config.json cannot be used; None if they can."""
    if (folder / _WEIGHTS).is_file():
        return file_fault(folder / _WEIGHTS)
    if (folder / _INDEX).is_file():
        wrong = file_fault(folder / _INDEX)
        if wrong:
            return wrong
        told = _read(folder / _INDEX).get("weight_map")
        files = sorted(set(map(str, told.values()))) if isinstance(told, dict) else []
        away = [n for n in files if Path(n).name != n or not n.endswith(".safetensors")]
        if away:
            return (
                f"'{folder / _INDEX}' names '{away[0]}', which is not a safetensors file beside it"
            )
        missing = [name for name in files if not (folder / name).is_file()]
        if missing or not files:
            what = ", ".join(missing[:3]) or "any file"
            return f"'{folder}' lacks {what}, which {_INDEX} lists; fetch it again"
        return next(filter(None, (file_fault(folder / name) for name in files)), None)
    pickled = next(iter(sorted(folder.glob("pytorch_model*.bin"))), None)
    if pickled is not None:
        return (
            f"'{folder}' has pickled weights ({pickled.name}), which are never opened; convert "
            'them to safetensors: python -c "from transformers import AutoModelForCausalLM as M; '
            f"M.from_pretrained({str(folder)!r}, dtype='auto', weights_only=True)"
            f'.save_pretrained({str(folder)!r})"'
        )
    return (
        f"'{folder}' has no weights: neither {_WEIGHTS} nor {_INDEX}; fetch them, in the layout of "
        "transformers"
    )


def _converted(source: str, target: str, method: str) -> str:
    """The command that saves a model and its tokenizer to another folder, as safetensors.

    ``method`` is called on the model first, which cannot be undone.
    """
    return (
        'python -c "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; '
        f"M.from_pretrained({source!r}){method}.save_pretrained({target!r}, "
        f'save_original_format=False); T.from_pretrained({source!r}).save_pretrained({target!r})"'
    )


def _unpacked(file: Path, target: str) -> str:
    """The command that saves the model of a GGUF file as safetensors.

    Newer versions of transformers keep quantised blocks, which cannot be saved, unless told to
    dequantise.
    """
    source = f"{str(file.parent)!r}, gguf_file={file.name!r}"
    return (
        "python -c \"import transformers as t; keep = getattr(t, 'GgufConfig', None); "
        "wide = {'quantization_config': keep(dequantize=True)} if keep else {}; "
        f"t.AutoModelForCausalLM.from_pretrained({source}, **wide).save_pretrained({target!r}); "
        f't.AutoTokenizer.from_pretrained({source}).save_pretrained({target!r})"'
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        data = read_json(file)
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
