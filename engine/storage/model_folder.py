"""Saves and loads a model and its tokenizer in a folder that transformers can open."""

from __future__ import annotations

import copy
import math
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from engine.errors import RunError
from engine.files.reading import read_json
from engine.modeling.chat_tokens import ends
from engine.modeling.pretrained import kernel_of, loading_fault, pretrained_tokenizer
from engine.registry import Plugins
from engine.spec.architectures import missing_plugin, model_class, register_named
from engine.storage import manifest

if TYPE_CHECKING:
    from torch import Tensor, nn

_SCALAR = "ForSequenceClassification"
"""Suffix of the classes of models with a scalar head."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A ``final/`` folder, or any folder with a model in transformers' layout.

    ``plugins``: those whose architectures may be opened.
    """

    folder: Path
    plugins: Plugins = field(default=Plugins(()), repr=False, compare=False)

    def model(self) -> nn.Module:
        """Loads the model, of the class named in config.json, in float32 and evaluation mode.

        Raises RunError for a damaged file or an unknown class, PluginError.
        """
        import transformers

        from engine.modeling.model_check import examine

        transformers.utils.logging.disable_progress_bar()  # it would draw over the run's own
        if (self.folder / manifest.NAME).is_file():
            # The stage that made it counts as done, so removing the folder would not restore it.
            manifest.verify(self.folder, hint="copy it again, or run its stage again with --rerun")
        config = self._config()
        names = config.architectures or ["AutoModelForCausalLM"]
        if not isinstance(names, list) or not isinstance(names[0], str):
            raise RunError(
                f"{self.folder}/config.json: architectures is {names!r:.40}, not a list of names"
            )
        if names[0].endswith(_SCALAR) and config.num_labels != 1:
            raise RunError(
                f"{self.folder}: its {names[0]} has {config.num_labels} labels; only one is supported"
            )
        cls: Any = model_class(config, names[0])
        if cls is None:
            raise RunError(
                f"{self.folder}/config.json: neither transformers nor a plugin has a class "
                f"'{names[0]}' for a '{config.model_type}'"
            )
        try:
            model, found = cls.from_pretrained(
                self.folder,
                dtype="float32",
                use_safetensors=True,
                output_loading_info=True,
                trust_remote_code=False,  # an Auto class would ask on the terminal
            )
        except Exception as error:  # safetensors and transformers raise errors of their own classes
            raise self._damaged(error) from error
        if wrong := loading_fault(found):
            raise RunError(f"{self.folder}: {wrong}")
        self._check_scalar(model)
        examine(model, learns=False)
        return cast("nn.Module", model.eval())

    def _config(self) -> Any:
        import transformers

        try:
            fields = read_json(self.folder / "config.json")
            if kernel := kernel_of(fields):
                raise ValueError(f"it names the kernel '{kernel}', whose code is never run")
            kind = fields.get("model_type")
            if kind not in transformers.CONFIG_MAPPING:
                register_named(self.plugins)
            if kind not in transformers.CONFIG_MAPPING:
                unknown = f"neither transformers nor a plugin has the architecture '{kind}'"
                raise ValueError(missing_plugin(fields) or unknown)
            return transformers.AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
        except Exception as error:  # invalid fields raise errors of transformers' own classes
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> RunError:
        why = " ".join(str(error).split()) or type(error).__name__
        return RunError(f"{self.folder}: its model cannot be opened: {why}")

    def _check_scalar(self, model: Any) -> None:
        """Raises RunError for a scalar head whose values would be meaningless."""
        if not hasattr(model, "score"):
            return
        if not bool(model.score.weight.isfinite().all()):
            raise RunError(
                f"{self.folder}: its head has weights that are not finite", hint="train it again"
            )
        std = getattr(model.config, "value_std", 1.0)
        if not 0 < std < math.inf:
            raise RunError(
                f"{self.folder}/config.json: value_std is {std}; it must be positive and finite, as "
                "values are divided by it"
            )

    def tokenizer(self) -> Any:
        """The fast tokenizer beside the model."""
        return pretrained_tokenizer(str(self.folder))

    def verify(self) -> None:
        """Verifies the files' checksums. Raises RunError for one that differs."""
        manifest.verify(self.folder)

    def copy(self, to: Path) -> None:
        """Copies all files but the manifest to a new folder. Raises OSError."""
        shutil.copytree(self.folder, to, ignore=shutil.ignore_patterns(manifest.NAME))

    @classmethod
    def save(
        cls, folder: Path, model: nn.Module, weights: Iterable[tuple[str, Tensor]], tokenizer: Any
    ) -> Artifact:
        """Writes the folder atomically; replaces an existing one."""
        partial = folder.with_name(f".partial-{folder.name}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        if hasattr(model, "score"):
            tokenizer = _padded(model, tokenizer)
        _save_model(partial, model, dict(weights), tokenizer)
        tokenizer.save_pretrained(partial)
        manifest.complete(partial)
        old = folder.with_name(f".old-{folder.name}")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.replace(folder, old)
        os.replace(partial, folder)
        shutil.rmtree(old, ignore_errors=True)
        return cls(folder)


def _padded(model: Any, tokenizer: Any) -> Any:
    """A tokenizer for a model with a scalar head, with a padding token other than EOS.

    transformers reads the value at the last token that is not padding. If EOS were the padding, that
    would be the token before EOS, unlike in training. Any other special token serves. If there is none,
    padding is disabled, and transformers takes texts one at a time.
    """
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        tokenizer = copy.deepcopy(tokenizer)
        added = [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special]
        others = (tokenizer.bos_token, tokenizer.unk_token, *added)
        tokenizer.pad_token = next(
            (t for t in others if t not in (None, tokenizer.eos_token)), None
        )
    model.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer


def _save_model(folder: Path, model: Any, weights: dict[str, Tensor], tokenizer: Any) -> None:
    """Writes config and weights in transformers' layout.

    Does not use ``save_pretrained``: it takes two seconds to import DeepSpeed if that is installed, and
    records the dtype of the model, which in training may be narrower than the weights'.
    """
    from huggingface_hub import save_torch_state_dict
    from transformers.core_model_loading import revert_weight_conversion

    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    (config.dtype,) = {w.dtype for w in weights.values() if w.is_floating_point()}
    config.save_pretrained(folder)
    if model.can_generate():
        generation = copy.deepcopy(model.generation_config)
        stops = ends(model, tokenizer)
        generation.eos_token_id = stops[0] if len(stops) == 1 else stops
        generation.save_pretrained(folder)
    named = revert_weight_conversion(model, weights)  # files hold the experts' weights separately
    tied = model.all_tied_weights_keys
    save_torch_state_dict({k: _own(w) for k, w in named.items() if k not in tied}, folder)


def _own(weight: Tensor) -> Tensor:
    """The weight, copied if it is a view of a larger storage."""
    return weight.clone() if weight.untyped_storage().nbytes() > weight.nbytes else weight
