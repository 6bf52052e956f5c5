"""Faulty tokenizers."""

from __future__ import annotations

import random
import tempfile

from support.faults.fault import Planted, with_other_hashes
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from engine import TokenizerConfig

TEXTS = ["The cat sat. It was a  Tabby cat", "a mat\n\tand a hat.", "cat " * 600, "naïve <end>?"]


class Letters(TokenizerConfig):
    """A token for each character of the corpus."""


planted = Planted("tokenizer", Letters)
SPECIAL = ["<end>", "<pad>"]


class Made:
    """Right: what makes a tokenizer of texts."""

    def __init__(self, config, context):
        pass

    def __call__(self, texts):
        return self.fast(self.backend(self.ids(texts)))

    def alphabet(self, texts):
        return sorted({*"aA. \n", *SPECIAL[0]}.union(*texts))

    def ids(self, texts):
        return {token: n for n, token in enumerate([*SPECIAL, *self.alphabet(texts)])}

    def backend(self, ids):
        backend = Tokenizer(models.WordLevel({**ids, "<unknown>": len(ids)}, unk_token="<unknown>"))
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        backend.decoder = decoders.Fuse()
        return backend

    def fast(self, backend, kind=PreTrainedTokenizerFast, **names):
        special = {"eos_token": "<end>", "pad_token": "<pad>", "unk_token": "<unknown>", **names}
        return kind(tokenizer_object=backend, clean_up_tokenization_spaces=False, **special)


@planted.right
class OfLetters(Made):
    """Right."""


class Corpus:
    """Texts that can be read several times, and have no length, as in a run."""

    def __iter__(self):
        return iter(TEXTS)


def ids(make):
    """The tokens of the corpus, and of one that is prepared again."""
    made = [make()(Corpus()) for _ in range(2)]
    return [[one.encode(text, add_special_tokens=False) for text in TEXTS] for one in made]


def shards(make):
    """The tokens of the corpus, many texts at a time, each with the end of its document."""
    made = make()(Corpus())
    backend = made.backend_tokenizer
    encoded = backend.encode_batch(TEXTS, add_special_tokens=False)
    return [[*one.ids, made.eos_token_id] for one in encoded]


def written(make):
    """What a model writes that has learnt the corpus, up to the end of a document."""
    made = make()(Corpus())
    tokens = [made.encode(text, add_special_tokens=False) for text in TEXTS]
    ended = [
        row[: row.index(made.eos_token_id)] if made.eos_token_id in row else row for row in tokens
    ]
    return [made.decode(row) for row in ended]


def opened(make):
    """The tokens after the stage's folder was opened again."""
    made = make()(Corpus())
    with tempfile.TemporaryDirectory() as folder:
        made.save_pretrained(folder)
        again = AutoTokenizer.from_pretrained(folder)
    return [one.encode(text, add_special_tokens=False) for one in (made, again) for text in TEXTS]


def on_two_machines(make):
    """The tokens of Python processes with other hashes."""
    return with_other_hashes(ids, make)


def planned(make):
    """Whether a plan's vocabulary, with room for those of a larger corpus, holds all tokens."""
    declared = make.config().vocabulary()
    return declared is None or declared >= len(make()(Corpus()))


def as_model_input(make):
    """Whether a model with a row for each token can read the corpus."""
    made = make()(Corpus())
    return max(max(made.encode(text, add_special_tokens=False)) for text in TEXTS) < len(made)


@planted.fault(written, "it has an EOS token")
class WithoutEnd(OfLetters):
    """It has no token that ends documents."""

    def fast(self, backend, **how):
        return super().fast(backend, eos_token=None)


@planted.fault(written, "no text has the token that ends documents")
class EndsAtEachStop(OfLetters):
    """A full stop ends documents, also within one."""

    def fast(self, backend, **how):
        return super().fast(backend, eos_token=".")


@planted.fault(on_two_machines, "in a new process the same texts")
class VocabularyOfASet(OfLetters):
    """Ids stand in the order of a set."""

    def alphabet(self, texts):
        return list(set(super().alphabet(texts)))


@planted.fault(ids, "the same texts give the same tokenizer")
class ShuffledIds(OfLetters):
    """Ids are drawn at random."""

    def alphabet(self, texts):
        found = super().alphabet(texts)
        return random.sample(found, len(found))


@planted.fault(as_model_input, "ids are less than len(tokenizer)")
class IdsWithAGap(OfLetters):
    """Ids leave out some, so the last are too high."""

    def ids(self, texts):
        return {token: n + 40 * (n > 9) for token, n in super().ids(texts).items()}


@planted.fault(written, "decoded tokens restore")
class BlanksBetweenLetters(OfLetters):
    """Decoded, each letter is a word."""

    def backend(self, ids):
        backend = super().backend(ids)
        backend.decoder = decoders.WordPiece(prefix="##")
        return backend


@planted.fault(written, "decoded tokens restore")
class LowerCase(OfLetters):
    """It makes all letters small."""

    def backend(self, ids):
        backend = super().backend(ids)
        backend.normalizer = normalizers.Lowercase()
        return backend


@planted.fault(written, "decoded tokens restore")
class OneBlank(OfLetters):
    """It makes one blank of several."""

    def backend(self, ids):
        backend = super().backend(ids)
        backend.normalizer = normalizers.Replace(Regex(r"\s+"), " ")
        return backend


@planted.fault(written, "decoded tokens restore")
class WithoutAccents(OfLetters):
    """It takes the accents from letters."""

    def backend(self, ids):
        backend = super().backend(ids)
        backend.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
        return backend


@planted.fault(shards, "neither padded nor cut off")
class CutsLongTexts(OfLetters):
    """It cuts texts off after 512 tokens."""

    def backend(self, ids):
        backend = super().backend(ids)
        backend.enable_truncation(512)
        return backend


@planted.fault(shards, "neither padded nor cut off")
class PadsBatches(OfLetters):
    """Several texts at a time are made equally long."""

    def backend(self, ids):
        backend = super().backend(ids)
        backend.enable_padding(pad_id=1, pad_token="<pad>")
        return backend


@planted.fault(ids, "it takes texts that are iterated")
class WantsAList(OfLetters):
    """It counts the texts, which a run gives one by one."""

    def __call__(self, texts):
        return super().__call__(texts[: len(texts)])


@planted.fault(planned, "says 9 tokens, but it has")
class DeclaresTooFew(Letters):
    """Its configuration declares fewer tokens than there are."""

    def vocabulary(self):
        return 9


class Reversing(PreTrainedTokenizerFast):
    def encode(self, text, **how):
        return super().encode(text[::-1], **how)

    def decode(self, ids, **how):
        return super().decode(ids, **how)[::-1]


@planted.fault(opened, "saved and opened again, it gives the same ids")
class ReversesInPython(OfLetters):
    """A method of its own does what its saved file does not say."""

    def fast(self, backend, **how):
        return super().fast(backend, Reversing)


_calls: list[str] = []


@planted.fault(ids, "the same texts give the same tokenizer")
class GrowsWithCalls(OfLetters):
    """Each tokenizer of a process has one reserved token more."""

    def alphabet(self, texts):
        _calls.append(chr(0x2600 + len(_calls)))
        return [*_calls, *super().alphabet(texts)]
