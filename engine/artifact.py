"""A model and its tokenizer in a folder that opens with transformers."""

from __future__ import annotations

import copy
import math
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from engine import manifest
from engine.conversation import ends
from engine.errors import RunError
from engine.pretrained import loading_fault, pretrained_tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

_SCALAR = "ForSequenceClassification"
"""Ends the class of a model that gives one number for a sequence."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A ``final/`` folder, or any folder of transformers' shape."""

    folder: Path

    def model(self) -> nn.Module:
        """The model in evaluation mode and in float32, by the class that its config.json names.

        Raises RunError when a file is damaged or the class is unknown.
        """
        import transformers

        from engine.trial import examine

        transformers.utils.logging.disable_progress_bar()  # it draws over the run's own
        if (self.folder / manifest.NAME).is_file():
            # Whoever made it counts as done: to remove it would not bring it back.
            manifest.verify(
                self.folder, mend="copy it anew, or make it anew by --rerun of its stage"
            )
        config = self._config()
        names = config.architectures or ["AutoModelForCausalLM"]
        if not isinstance(names, list) or not isinstance(names[0], str):
            raise RunError(
                f"{self.folder}/config.json: architectures is {names!r:.40}, no list of names"
            )
        if names[0].endswith(_SCALAR) and config.num_labels != 1:
            raise RunError(
                f"{self.folder}: a {names[0]} that gives {config.num_labels} numbers and not one"
            )
        cls: Any = getattr(transformers, names[0], None)
        if cls is None:
            raise RunError(f"{self.folder}/config.json: transformers has no class '{names[0]}'")
        try:
            model, found = cls.from_pretrained(
                self.folder, dtype="float32", use_safetensors=True, output_loading_info=True
            )
        except Exception as error:  # safetensors and transformers have kinds of their own
            raise self._damaged(error) from error
        if wrong := loading_fault(found):
            raise RunError(f"{self.folder}: {wrong}")
        self._check_scalar(model)
        examine(model, learns=False)
        return cast("nn.Module", model.eval())

    def _config(self) -> Any:
        import transformers

        try:
            return transformers.AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
        except Exception as error:  # a config's fields have errors of a kind of their own
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> RunError:
        why = " ".join(str(error).split()) or type(error).__name__
        return RunError(f"{self.folder}: its model cannot be opened: {why}")

    def _check_scalar(self, model: Any) -> None:
        """Raises RunError where a model that gives one number would give none of use."""
        if not hasattr(model, "score"):
            return
        if not bool(model.score.weight.isfinite().all()):
            raise RunError(f"{self.folder}: its head is not finite", mend="train it anew")
        std = getattr(model.config, "value_std", 1.0)
        if not 0 < std < math.inf:
            raise RunError(
                f"{self.folder}/config.json: value_std is {std}, by which values are divided"
            )

    def tokenizer(self) -> Any:
        """The fast tokenizer beside the model."""
        return pretrained_tokenizer(str(self.folder))

    @classmethod
    def save(
        cls, folder: Path, model: nn.Module, weights: Iterable[tuple[str, Tensor]], tokenizer: Any
    ) -> Artifact:
        """Writes a whole folder or none; what stood there before is replaced."""
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
    """A tokenizer for a model that gives one number, which transformers reads at the last token that is
    not padding: were EOS the padding, before the EOS, where training did not read it.

    Any token will do that ends no text. Without one there is no padding, and transformers takes texts
    one at a time.
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
    """As transformers lays it out.

    Not by its ``save_pretrained``: that imports DeepSpeed wherever it is installed, for two
    seconds, and writes the type of the model, which in training may be narrower than the weights.
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
    named = revert_weight_conversion(model, weights)  # experts apart, as the files have them
    tied = model.all_tied_weights_keys
    save_torch_state_dict({k: _own(w) for k, w in named.items() if k not in tied}, folder)


def _own(weight: Tensor) -> Tensor:
    """The weight in memory of its own, not as a view of a larger one."""
    return weight.clone() if weight.untyped_storage().nbytes() > weight.nbytes else weight
