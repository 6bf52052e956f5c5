"""Folders of models, read as data: why one cannot be used, in one line with the mend.

Nothing here imports torch or transformers: a spec's check finds it. What only the weights themselves
can tell is left to the opening.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engine import file_fault, tokenizer_fault
from engine_lm import architectures

_ADAPTER = "adapter_config.json"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_POSITIVE = ("num_attention_heads", "num_hidden_layers", "hidden_size", "vocab_size")
_BITS = {"load_in_4bit": 4, "load_in_8bit": 8}


def base_of(folder: Path) -> Path | None:
    """The folder of the model under an adapter: the adapter's own where it holds the whole model too;
    None where it is not on this machine. Of a folder without an adapter, itself."""
    if not is_adapter(folder) or any((folder / name).is_file() for name in (_WEIGHTS, _INDEX)):
        return folder
    base = Path(str(_read(folder / _ADAPTER).get("base_model_name_or_path") or folder))
    return base if base.is_dir() and base.resolve() != folder.resolve() else None


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, as peft saves it."""
    return (folder / _ADAPTER).is_file()


def config_of(folder: Path) -> dict[str, Any]:
    """The model's config.json; empty where there is none, or none that can be read."""
    base = base_of(folder)
    return {} if base is None else _read(base / "config.json")


def tokenizer_folder(folder: Path) -> Path:
    """Where a model's tokenizer is: beside an adapter, or else beside its base."""
    return folder if tokenizer_fault(folder) is None else base_of(folder) or folder


def fault(folder: Path) -> str | None:
    """Why the model of a folder cannot be used."""
    return next(_faults(folder), None)


def config_fault(config: Mapping[str, Any], name: str) -> str | None:
    """Why a model of such a config.json cannot be used, from a folder or a hub."""
    quantised = config.get("quantization_config")
    if quantised:
        given = quantised if isinstance(quantised, dict) else {}
        method = str(given.get("quant_method") or "bitsandbytes").lower()
        bits = next((b for k, b in _BITS.items() if given.get(k)), given.get("bits"))
        mend = "give the checkpoint that it was made from"
        if method == "bitsandbytes":
            mend += f", or widen it: {_converted(name, f'{name}-wide', '.dequantize()')}"
        how = f"{method}, {bits} bits" if bits else method
        return (
            f"'{name}' is quantised ({how}), and quantised weights are neither trained nor scored "
            f"here, nor is a LoRA over them; {mend}"
        )
    for field in _POSITIVE:
        count = config.get(field)
        if isinstance(count, int) and count < 1:
            return f"'{name}': its config.json gives {field} as {count}; fetch it again"
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        return f"'{name}': its config.json names no model_type; fetch it again"
    unknown = architectures.unknown(kind)
    if unknown and config.get("auto_map"):
        return (
            f"'{name}' has code of its own ('{kind}', by auto_map in its config.json), and a model's "
            "code is never run here; take a model of an architecture that transformers has, or put it "
            "in a plugin of yours (contrib/README.md)"
        )
    return f"'{name}': {unknown}" if unknown else None


def merge_command(adapter: str, target: str) -> str:
    """The command that saves a LoRA's base with the LoRA in its weights, and its tokenizer."""
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
            f"'{folder}' is no whole model but a LoRA over '{base}', which is no folder here; merge "
            f"them, and give the merged folder: {merge_command(str(folder), f'{folder}-merged')}"
        )
    if find_spec("peft") is None:
        yield f"'{folder}' is a LoRA, which needs peft: pip install 'training-engine[sft]'"
    file = folder / "adapter_model.safetensors"
    if file.is_file():
        yield from filter(None, [file_fault(file)])
    elif (folder / "adapter_model.bin").is_file():
        yield (
            f"'{folder}' has pickled weights (adapter_model.bin), which are never opened here; "
            'convert them: python -c "from peft import AutoPeftModelForCausalLM as P; '
            f'P.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"'
        )
    else:
        yield f"'{folder}' is a LoRA over '{base}' without its adapter_model.safetensors; copy it there"


def _without_config(folder: Path) -> str:
    packed = next(iter(sorted(folder.glob("*.gguf"))), None)
    if packed is None:
        return f"'{folder}' has no config.json, so it is no model's folder"
    return (
        f"'{folder}' has its model as {packed.name} only; convert it: pip install gguf; "
        f"{_unpacked(packed, f'{folder}-converted')}"
    )


def _weights_fault(folder: Path) -> str | None:
    """Of a folder with a sound config.json."""
    if (folder / _WEIGHTS).is_file():
        return file_fault(folder / _WEIGHTS)
    if (folder / _INDEX).is_file():
        wrong = file_fault(folder / _INDEX)
        if wrong:
            return wrong
        told = _read(folder / _INDEX).get("weight_map")
        files = sorted(set(told.values())) if isinstance(told, dict) else []
        missing = [name for name in files if not (folder / name).is_file()]
        if missing or not files:
            what = ", ".join(missing[:3]) or "any file"
            return f"'{folder}' lacks {what}, of which {_INDEX} tells; fetch it again"
        return next(filter(None, (file_fault(folder / name) for name in files)), None)
    pickled = next(iter(sorted(folder.glob("pytorch_model*.bin"))), None)
    if pickled is not None:
        return (
            f"'{folder}' has pickled weights ({pickled.name}), which are never opened here; convert "
            'them to safetensors: python -c "from transformers import AutoModelForCausalLM as M; '
            f"M.from_pretrained({str(folder)!r}, dtype='auto', weights_only=True)"
            f'.save_pretrained({str(folder)!r})"'
        )
    return (
        f"'{folder}' has no weights: neither {_WEIGHTS} nor {_INDEX}; fetch them, in the layout of "
        "transformers"
    )


def _converted(source: str, target: str, method: str) -> str:
    """The command that saves a model and its tokenizer elsewhere, as safetensors.

    The weights that a ``method`` made have no way back to those of the file.
    """
    return (
        'python -c "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; '
        f"M.from_pretrained({source!r}){method}.save_pretrained({target!r}, "
        f'save_original_format=False); T.from_pretrained({source!r}).save_pretrained({target!r})"'
    )


def _unpacked(file: Path, target: str) -> str:
    """The command that saves the model of a GGUF file as safetensors.

    Newer versions of transformers keep its blocks, which cannot be saved, unless told not to.
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
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
