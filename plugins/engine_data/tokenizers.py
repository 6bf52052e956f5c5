"""Tokenizers: trained BPE, pretrained, and bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from engine import Context, TokenizerTrainer, pretrained_tokenizer
from engine_data.config import BPE, Bytes, PretrainedTokenizer

_SAMPLE_PIECE = 10_000
"""Characters in a piece; a tokenizer's training sample is given and drawn in such pieces."""

_WORD_END = re.compile(r"(?<=[^\W_])(?=\W)")
"""Between a letter or digit and what is neither, where a token ends whatever stands around it."""

END = "<|endoftext|>"
PAD = "<|pad|>"

# Words with a leading space, at most three digits, punctuation, line ends, and indentation without the
# last space before a word: GPT-4's pattern (cl100k_base), with lower-case contractions only.
_PIECES = (
    r"'(?:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def build_bpe(config: BPE, context: Context) -> TokenizerTrainer:
    """Trains byte-level BPE, deterministically."""

    def train(texts: Iterable[str]) -> Any:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PIECES), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=config.vocab_size,
            min_frequency=config.min_frequency,
            special_tokens=[END, PAD],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(_spread(texts, config.sample_mb * 1_000_000), trainer)
        return _fast(tokenizer)

    return train


def build_bytes(config: Bytes, context: Context) -> TokenizerTrainer:
    """Builds a tokenizer of 256 bytes, an end-of-document token, and padding."""

    def make(texts: Iterable[str]) -> Any:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocabulary = {token: i for i, token in enumerate([END, PAD, *alphabet])}
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        return _fast(tokenizer)

    return make


def build_pretrained(config: PretrainedTokenizer, context: Context) -> TokenizerTrainer:
    """Loads a tokenizer, without reading the texts."""

    return lambda texts: pretrained_tokenizer(config.path, config.revision)


def _fast(tokenizer: Tokenizer) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )


def _spread(texts: Iterable[str], budget: int) -> Iterator[str]:
    """A sample of about ``budget`` characters, in pieces drawn evenly from all texts."""
    total = sum(len(text) for text in texts)
    if total <= budget:
        for text in texts:
            yield from _slices(text)
        return
    owed = 0.0
    for text in texts:
        for start in range(0, len(text), _SAMPLE_PIECE):
            piece = text[start : start + _SAMPLE_PIECE]
            owed += len(piece) * budget / total
            if owed >= len(piece):
                owed -= len(piece)
                yield piece


def _slices(text: str) -> Iterator[str]:
    """The text in slices that end where words do, so that training on them gives the same tokens.

    Training takes 30 bytes for each of a slice, and the square of the time for a longer word. Hence
    text without an end of a word within a slice's length is cut anywhere.
    """
    start = 0
    while len(text) - start > 2 * _SAMPLE_PIECE:
        end = start + _SAMPLE_PIECE
        word_end = _WORD_END.search(text, end, end + _SAMPLE_PIECE)
        end = word_end.start() if word_end else end
        yield text[start:end]
        start = end
    yield text[start:]
