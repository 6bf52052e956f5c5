"""Opens trained models: from safetensors only, in float32, without running their own code."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine import RunError, loading_fault, missing_plugin
from engine_lm import folders


def open_model(path: str, revision: str | None) -> Any:
    """A model from a folder or a hub; a LoRA in the folder is merged into its base.

    Raises RunError where transformers cannot open it, or would initialise missing weights at random.
    """
    folder = Path(path)
    if not folder.is_dir():
        return _opened(path, path, revision)
    _refuse(path, folders.fault(folder))
    base = folders.base_of(folder) or folder
    if not folders.is_adapter(folder):
        return _opened(str(base), path, None)
    with _without_adapter(base) as whole:
        model = _opened(whole, path, None)
    return _merged(model, folder)


def _opened(source: str, label: str, revision: str | None) -> Any:
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would overwrite the run's own
    told = logging.get_verbosity()
    logging.set_verbosity_error()  # problems in the weights are reported below, in one line
    try:
        config, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
        _refuse(label, folders.config_fault(config, label))
        if config["model_type"] not in CONFIG_MAPPING:
            _refuse(label, missing_plugin(config))
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            revision=revision,
            trust_remote_code=False,
            dtype="float32",  # exact, even if a file mixes dtypes
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
        model, found = loaded
    except RunError:
        raise
    except Exception as error:  # transformers' configs raise errors of their own kind
        raise RunError(f"model '{label}' cannot be opened: {why(error)}") from error
    finally:
        logging.set_verbosity(told)
    if hasattr(model, "peft_config"):
        merged = folders.merge_command(label, "merged")
        raise RunError(f"model '{label}' is a LoRA", hint=f"merge it into its base first: {merged}")
    if wrong := loading_fault(found):
        raise RunError(f"model '{label}' {wrong}")
    for name, has, wanted in sorted(found["mismatched_keys"])[:1]:
        raise RunError(
            f"model '{label}': its weight {name} has shape {tuple(has)}, but its config.json needs "
            f"{tuple(wanted)}",
            hint="fetch weights and config.json from the same place",
        )
    return model


@contextmanager
def _without_adapter(folder: Path) -> Iterator[str]:
    """A folder with the same files except the adapter, which transformers would load unmerged."""
    with TemporaryDirectory() as other:
        for file in folder.iterdir():
            if not file.name.startswith("adapter_"):
                (Path(other) / file.name).symlink_to(file.resolve())
        yield other


def _refuse(path: str, fault: str | None) -> None:
    if fault:
        raise RunError(f"model '{path}' cannot be opened: {fault}")


def why(error: Exception) -> str:
    """The cause of an error in one line: for a config field of the wrong type, the second line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__


def _merged(model: Any, folder: Path) -> Any:
    """The model with a folder's adapter merged into its weights; class and weight names stay.

    Raises RunError where the adapter was made for another model.
    """
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # deprecations inside peft
            warnings.filterwarnings("ignore", "Found missing adapter keys")  # refused below
            added = PeftModel.from_pretrained(model, str(folder), torch_device="cpu")
        odd = _odd_names(added, folder)
        whole = added.merge_and_unload()
    except Exception as error:  # peft raises errors of its own kinds
        raise RunError(
            f"'{folder}' cannot be merged into its base: {why(error)}",
            hint="use the base that it was trained on",
        ) from error
    if odd:
        raise RunError(
            f"'{folder}' was made for another base: {len(odd):,} weights do not match, such as "
            f"{odd[0]}",
            hint="use the base that it was trained on",
        )
    return whole.requires_grad_(True)


def _odd_names(added: Any, folder: Path) -> list[str]:
    """A LoRA's weights that are missing in its file, which peft leaves at random values, or have no
    place in its base, which peft ignores."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        given = set(file.keys())
    asked = set(get_peft_model_state_dict(added, save_embedding_layers=False))
    return sorted((asked - given) | (given - asked - set(added.state_dict())))
