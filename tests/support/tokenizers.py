"""Tokenizers of every family, made small: what differs between them is what goes wrong."""

from __future__ import annotations

from typing import Any

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

TEXTS = [
    f"{name} took {n} {thing} from the {place}.\n    And gave {n // 2} of them away, naïvely."
    for n, (name, thing, place) in enumerate(
        [("Ada", "pears", "market"), ("Ben", "coins", "bridge"), ("Cleo", "books", "harbour")] * 30
    )
]
ENDS = ["<|end|>", "<|start|>", "<|stop|>"]


def byte_level(*, bos: bool = False, specials: list[str] | None = None, **options: Any) -> Any:
    """As of GPT-2 and Qwen, and with ``bos`` as of Llama 3, which puts it before every text."""
    names = specials or ENDS
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=names,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    if bos:
        tokenizer.post_processor = _first(tokenizer, names[1])
    chosen = {"bos_token": names[1] if bos else None, "eos_token": names[0], **options}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **chosen)


def metaspace(*, bos: bool = True) -> Any:
    """As of Llama 2 and Mistral: words with a sign for their space, one before the first, and bytes
    for what is unknown. Its decoder strips a text's first space."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = _marked()
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False)
    trained.train_from_iterator(TEXTS, trainer)
    ranked = sorted(trained.get_vocab().items(), key=lambda item: item[1])
    vocabulary = {name: n for n, name in enumerate(names)}
    for name, _ in ranked:
        vocabulary.setdefault(name, len(vocabulary))
    merges = [(a, b) for a, b in _merges(trained) if a + b in vocabulary]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    )
    tokenizer.normalizer = _marked()
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(names[:3])
    if bos:
        tokenizer.post_processor = _first(tokenizer, "<s>")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def _marked() -> Any:
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    import json

    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def _first(tokenizer: Tokenizer, name: str) -> Any:
    found = tokenizer.token_to_id(name)
    return processors.TemplateProcessing(single=f"{name} $A", special_tokens=[(name, found)])


FAMILIES = {
    "byte-level": byte_level,
    "byte-level with BOS": lambda: byte_level(bos=True),
    "metaspace": metaspace,
    "metaspace without BOS": lambda: metaspace(bos=False),
}
