"""Bulk encoding by tiktoken: the same ids as tokenizers', or not used at all."""

from __future__ import annotations

import json
import random
import sys
import time
import unicodedata

import pytest
from engine_data.config import BPE
from engine_data.tokenizers import END, PAD, build_bpe
from support.tokenizers import FAMILIES, TEXTS
from tokenizers import Tokenizer

from engine.modeling.encoding import Encoder
from engine.modeling.fast_encoding import FastEncoder

SCRIPTS = [
    "The quick brown fox can't jump; it's 12,345.67 metres!\r\n\tEND  \n\n  of it\x00\x1f",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Ελληνικά, Ἀχιλῆος",
    "いろはにほへと 散りぬるを。東京特許許可局　全角１２３ 한국어 조선말 𠮷野家",
    "السلام عليكم ٠١٢٣ שָׁלוֹם नमस्ते १२३ ภาษาไทย ข้าพเจ้า",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 e\u0301 ﬁ \u017f K İ ß \u200b\u2028\u2029\u0085\u00a0\u3000\ufeff Ⅷ½²",
    f"{END}{PAD} {END[:-1]} <|end|> {END}a\U000f0000\U00100001{PAD}",
]
_LONG = 300_000


@pytest.fixture(scope="module", name="trained")
def _trained():
    """Trained on all scripts, so that its tokens have pieces of characters."""
    return build_bpe(BPE(vocab_size=1000, min_frequency=1), None)([*TEXTS, *SCRIPTS * 3])


@pytest.fixture(scope="module", name="encoders")
def _encoders(trained):
    return FastEncoder(trained.backend_tokenizer), Encoder(trained.backend_tokenizer)


def _same(encoders, texts):
    fast, slow = encoders
    assert [ids.tolist() for ids in fast.texts(texts)] == slow.texts(texts)


def test_texts_of_many_scripts_have_the_same_ids(encoders):
    """Also where some texts of a batch spell special tokens, or have characters that stand for them."""
    assert encoders[0].fast
    _same(encoders, [*TEXTS, *SCRIPTS, "", " ", *map("".join, zip(*SCRIPTS, strict=False))])


def test_all_characters_have_the_same_ids(encoders):
    """All that Unicode has assigned, beside letters and numbers."""
    given = [chr(code) for code in range(sys.maxunicode)]
    assigned = [one for one in given if unicodedata.category(one) not in ("Cn", "Co", "Cs")]
    rows = [assigned[start : start + 4096] for start in range(0, len(assigned), 4096)]
    _same(encoders, ["".join(f"a{one}1{one}" for one in row) for row in rows])


def test_random_strings_have_the_same_ids(encoders):
    """Of bytes, of pieces of texts, and of whatever divides words."""
    dice = random.Random(0)
    signs = " \n\r\t'!a1sdtlvreSLé東🙂\u0301\u00a0"
    pieces = [text[start : start + 3] for text in [*SCRIPTS, TEXTS[0]] for start in range(60)]
    texts = [dice.randbytes(200).decode("latin-1") for _ in range(100)]
    texts += ["".join(dice.choices(signs, k=200)) for _ in range(300)]
    texts += ["".join(dice.choices(pieces, k=100)) for _ in range(300)]
    _same(encoders, texts)


@pytest.mark.parametrize("run", ["a", "ab", " ", "\n", "!", "7", "é", " \n", "\u017f"])
def test_a_long_run_has_the_same_ids_in_time(encoders, run):
    """That of runs grows with their length, not with its square."""
    text = run * (_LONG // len(run))
    started = time.process_time()
    encoders[0].texts([text])
    assert time.process_time() - started < 5
    _same(encoders, [text])


def test_what_tiktoken_gives_up_is_encoded_all_the_same(encoders):
    """Its patterns' engine ends at about a million spaces in a row."""
    _same(encoders, ["a", "\t" * 1_100_000 + "a"])


@pytest.mark.parametrize("family", FAMILIES)
def test_only_tokenizers_of_byte_pairs_are_replaced(family):
    """All give the same ids."""
    backend = FAMILIES[family]().backend_tokenizer
    fast = FastEncoder(backend)
    assert fast.fast == family.startswith("byte-level")
    _same((fast, Encoder(backend)), [*TEXTS[:5], *SCRIPTS])


_IGNORING_CASE = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"
)
_CHANGES = {
    "a case-insensitive pattern": ({"pattern": _IGNORING_CASE}, True),
    "words as they are": ({"ignore_merges": True}, True),
    "a pattern that leaves out white space": ({"pattern": r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"}, True),
    "a lazy pattern": ({"pattern": r"\p{L}+?|[^\p{L}]+"}, False),
    "possessive in one engine alone": ({"pattern": r"\p{N}{1,3}+|[^\p{N}]+"}, False),
    "a pattern of what is empty": ({"pattern": r"\p{L}*|[^\p{L}]+"}, False),
    "a class that is not compared": ({"pattern": r"\p{Lu}|[^\p{Lu}]+"}, False),
    "a normalizer": ({"normalizer": {"type": "NFC"}}, False),
    "dropout": ({"dropout": 0.1}, False),
    "signs for ends of words": ({"end_of_word_suffix": "</w>"}, False),
    "a space before texts": ({"add_prefix_space": True}, False),
    "a token that no merges make": ({"merges": -1}, False),
    "merges that hide a token": ({"merges": "hidden"}, False),
    "a word that is added": ({"added": "naïvely"}, False),
}


@pytest.mark.parametrize("change", _CHANGES)
def test_a_tokenizer_in_doubt_is_not_replaced(trained, change):
    """The proof is of the whole tokenizer."""
    changes, fast = _CHANGES[change]
    state = json.loads(trained.backend_tokenizer.to_str())
    model, (split, by_byte) = state["model"], state["pre_tokenizer"]["pretokenizers"]
    for name, value in changes.items():
        match name, value:
            case "pattern", _:
                split["pattern"] = {"Regex": value}
            case "normalizer", _:
                state[name] = value
            case "add_prefix_space", _:
                by_byte[name] = value
            case "merges", -1:
                model["merges"].pop()
            case "merges", _:
                model["merges"] = _hidden(model["merges"])
            case "added", _:
                like = state["added_tokens"][0]
                added = {"id": len(model["vocab"]), "content": value, "special": False}
                state["added_tokens"].append({**like, **added})
            case _:
                model[name] = value
    backend = Tokenizer.from_str(json.dumps(state))
    assert FastEncoder(backend).fast == fast
    if fast:
        _same(
            (FastEncoder(backend), Encoder(backend)), [*TEXTS[:9], *SCRIPTS, "it'\u017f we'LL 'K"]
        )


def _hidden(merges):
    """A token of three bytes loses one of the first two to a merge that now comes first."""
    for first, second in merges:
        pair = [first[1:], second]
        if len(first + second) == len({*first, second}) == 3 and pair in merges:
            return [pair, *(one for one in merges if one != pair)]
    raise AssertionError("the texts have such a token")
