"""How text becomes tokens, and text again."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time

import pytest
from engine_data import tokenizers
from engine_data.config import BPE, Bytes, PretrainedTokenizer
from engine_data.tokenizers import END, PAD, build_bpe, build_bytes, build_pretrained
from huggingface_hub import constants
from hypothesis import given, settings, strategies as st
from pydantic import ValidationError
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, ByT5Tokenizer

from engine import RunError

_TEXTS = ["the cat sat on the mat", "a naïve 東京 🙂\r\n", "    indented = 12345\n", "the cat"] * 3


def _bpe(texts=_TEXTS, **options):
    return build_bpe(BPE(**{"vocab_size": 300, **options}), None)(texts)


def _bytes():
    return build_bytes(Bytes(), None)(())


@pytest.fixture(scope="module", params=[_bpe, _bytes])
def tokenizer(request):
    """Either of the two that the engine makes itself."""
    return request.param()


@given(
    st.text(max_size=60) | st.lists(st.sampled_from([END, PAD, "\r\n", "a", "\x85"])).map("".join)
)
@settings(max_examples=60, deadline=None)
def test_any_text_comes_back_character_by_character(tokenizer, text):
    """Unseen scripts, line ends, marks, and the names of special tokens included."""
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert not {tokenizer.eos_token_id, tokenizer.pad_token_id} & set(ids)


def test_every_byte_is_a_token(tokenizer):
    """So that nothing is unknown, whatever the tokenizer was trained on."""
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    assert len(alphabet) == 256
    vocabulary = tokenizer.get_vocab()
    assert alphabet <= vocabulary.keys()
    assert sorted(vocabulary.values()) == list(range(len(tokenizer)))


def test_bytes_are_one_token_each():
    """256, the end of a document, and padding."""
    tokenizer = _bytes()
    assert len(tokenizer) == 258
    text = "".join(map(chr, [*range(300), 0x6771, 0x1F642]))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) == len(text.encode())
    names = tokenizer.convert_ids_to_tokens(ids)
    assert len(set(names)) == len(set(text.encode()))


def test_documents_end_with_a_token_that_is_no_text(tokenizer, tmp_path):
    """Ends and padding have tokens of their own; saved and opened, the tokenizer is the same."""
    tokenizer.save_pretrained(tmp_path)
    opened = AutoTokenizer.from_pretrained(tmp_path)
    assert (opened.bos_token, opened.eos_token, opened.pad_token) == (END, END, PAD)
    assert opened.get_vocab() == tokenizer.get_vocab()
    text = "the cat , isn't it ?\n\n  12345"
    assert opened(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert opened.decode(opened(text)["input_ids"]) == text


@pytest.mark.covers("tokenizer/bpe.vocab_size", "tokenizer/bpe.min_frequency")
def test_pairs_are_merged_while_there_is_room_and_reason():
    """Up to the vocabulary's size, and as long as a pair is seen often enough."""
    assert len(_bpe()) == 300
    assert len(_bpe(vocab_size=270)) == 270
    assert _bpe().tokenize("the cat") == ["the", "Ġcat"]
    once, often = _bpe(min_frequency=1, vocab_size=4096), _bpe(min_frequency=7, vocab_size=4096)
    assert "Ġindented" not in often.get_vocab()
    assert len(_bpe(vocab_size=258)) == 258
    assert len(often) < len(once) < 4096
    with pytest.raises(ValidationError, match="greater than or equal to 258"):
        BPE(vocab_size=257)


def test_pieces_are_words_numbers_punctuation_and_indentation():
    """No token crosses them: three digits at most, a word with the space before it."""
    tokenizer = _bpe(["    if x == 1234567: isn't  it\r\n\r\n  'll"] * 9, vocab_size=4096)
    pieces = tokenizer.tokenize("    if x == 1234567: isn't  it\r\n\r\n  'll")
    assert [tokenizer.convert_tokens_to_string([piece]) for piece in pieces] == [
        "   ", " if", " x", " ==", " ", "123", "456", "7", ":", " isn", "'t", " ", " it",
        "\r\n\r\n", " ", " '", "ll",
    ]  # fmt: skip


@pytest.mark.covers("tokenizer/bpe.sample_mb")
@pytest.mark.parametrize("documents", [250, 1])
def test_a_large_corpus_is_trained_on_in_part(documents):
    """So many MB of it, evenly from its beginning to its end, also where it is one long document.

    Each word here stands 125 times in 2.5 MB, so about 50 times in one: whether it is merged says
    whether it was seen that often.
    """
    pages = [("early " if i < 125 else "late ") + "ab " * 3331 for i in range(250)]
    size = 250 // documents
    texts = ["".join(pages[i : i + size]) for i in range(0, 250, size)]
    assert {len(text) // size for text in texts} <= {9998, 9999}

    def merged(sample_mb, min_frequency):
        options = {"vocab_size": 400, "sample_mb": sample_mb, "min_frequency": min_frequency}
        return {"early", "late"} & {
            token.strip("Ġ") for token in _bpe(texts, **options).get_vocab()
        }

    assert merged(3, 120) == {"early", "late"}
    assert merged(1, 60) == set()
    assert merged(1, 40) == {"early", "late"}


def test_a_long_text_is_given_in_slices_without_an_effect_on_its_tokens(monkeypatch):
    """In every script, since a slice ends where a token does."""
    words = [
        "naïve",
        "don't",
        "x2",
        "²",
        "_a",
        "12345",
        "東京は、",
        "ไทยไทย",
        "नमस्ते",
        "🙂",
        "==",
        "1\u0301",
    ]
    chance = random.Random(1)
    text = "".join(
        chance.choice(words) + chance.choice(["", " ", "  ", "\n", " \r\n\t"]) for _ in range(5000)
    )
    whole = _bpe([text], vocab_size=500).backend_tokenizer.to_str()
    monkeypatch.setattr(tokenizers, "_SAMPLE_PIECE", 50)
    slices = list(tokenizers._slices(text))
    assert len(slices) > 100
    assert max(map(len, slices)) <= 100
    assert "".join(slices) == text
    assert _bpe([text], vocab_size=500).backend_tokenizer.to_str() == whole


@pytest.mark.parametrize("letters", ["a", "ab"])
def test_a_long_word_takes_no_longer_than_other_text(letters):
    """As a whole, 300,000 times one letter would take minutes; and as one of random letters, too."""
    started = time.process_time()
    text = "".join(random.Random(2).choices(letters, k=300_000))
    assert len(_bpe([text], vocab_size=280)) > 258
    assert time.process_time() - started < 20


def test_the_same_texts_give_the_same_tokenizer(tmp_path):
    """Here and in another process, on one thread or on many, with all its ties among pairs."""
    chance = random.Random(5)
    texts = ["".join(chance.choices("abcdefgh ", k=200)) for _ in range(100)]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    first, again = (_bpe(texts, vocab_size=500).backend_tokenizer.to_str() for _ in range(2))
    assert first == again
    script = (
        "import json, sys; from engine_data.config import BPE\n"
        "from engine_data.tokenizers import build_bpe\n"
        "trained = build_bpe(BPE(vocab_size=500), None)(json.load(open(sys.argv[1])))\n"
        "sys.stdout.write(trained.backend_tokenizer.to_str())"
    )
    other = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "texts.json"],
        env={**os.environ, "TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout == first


def _pretrained(path: object, **options):
    def unread():
        raise AssertionError("a pretrained tokenizer has no use for the texts")
        yield

    return build_pretrained(PretrainedTokenizer(path=str(path), **options), None)(unread())


@pytest.mark.covers("tokenizer/pretrained.path")
def test_a_folder_s_tokenizer_is_opened_as_it_is(tmp_path):
    """Nothing is trained."""
    _bpe().save_pretrained(tmp_path / "a")
    _bytes().save_pretrained(tmp_path / "b")
    assert _pretrained(tmp_path / "a").get_vocab() == _bpe().get_vocab()
    assert _pretrained(tmp_path / "b").get_vocab() == _bytes().get_vocab()


@pytest.mark.covers("tokenizer/pretrained.revision")
def test_a_revision_of_the_hub_is_the_one_asked_for(tmp_path, monkeypatch):
    """Two of them here, as the hub's client keeps them; one that is not here is an error."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshots = tmp_path / "models--someone--words" / "snapshots"
    for revision, size in {"a" * 40: 270, "b" * 40: 280}.items():
        _bpe(vocab_size=size).save_pretrained(snapshots / revision)
        (snapshots / revision / "config.json").write_text('{"model_type": "llama"}')
        assert len(_pretrained("someone/words", revision=revision)) == size
    with pytest.raises(RunError, match="tokenizer 'someone/words' cannot be opened"):
        _pretrained("someone/words", revision="c" * 40)
    wrong = PretrainedTokenizer(path="someone/words").problems()["path"]
    assert wrong.startswith("'someone/words' is not a folder here")
    assert "revision" in wrong


@pytest.mark.parametrize("content", [None, "{", "{}", '{"version": "1.0", "model": {"type": "X"}}'])
def test_a_folder_without_a_whole_tokenizer_is_an_error(tmp_path, content):
    """It is named."""
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(RunError, match=str(tmp_path)):
        _pretrained(tmp_path)


def test_a_tokenizer_in_python_is_refused(tmp_path):
    """Only fast ones tell which characters a token stands for."""
    ByT5Tokenizer().save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text('{"a": 0}')  # of which it has no need
    with pytest.raises(RunError, match=r"is not a fast tokenizer; convert it to a tokenizer\.json"):
        _pretrained(tmp_path)


@pytest.mark.parametrize("told", ["config.json", "generation_config.json", None])
def test_a_tokenizer_without_an_eos_token_is_told_with_the_command_that_names_it(tmp_path, told):
    """It knows the token where the model's own files do; the command is right as it stands."""
    _bytes().save_pretrained(tmp_path)
    eos = _bytes().eos_token
    (tmp_path / "tokenizer_config.json").unlink()
    if told:
        ends = _bytes().eos_token_id
        given = {"eos_token_id": [ends, 0] if "gen" in told else ends, "model_type": "llama"}
        (tmp_path / told).write_text(json.dumps(given))
    with pytest.raises(RunError, match=f"'{tmp_path}' has no EOS token") as error:
        _pretrained(tmp_path)
    ((line, source),) = re.findall(r'(python -c "(.*)")', str(error.value))
    assert f"eos_token={eos if told else 'TOKEN'!r}" in line
    exec(source.replace("'TOKEN'", repr(eos)), {})
    assert _pretrained(tmp_path).eos_token == eos


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    """In a tokenizer's path, as in a shell; a folder that is not there is no name on the hub."""
    _bytes().save_pretrained(tmp_path / "words")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _pretrained("~/words").get_vocab() == _bytes().get_vocab()
    assert PretrainedTokenizer(path="~/words").vocabulary() == 258
    wrong = PretrainedTokenizer(path="~/word", revision="a" * 40).problems()["path"]
    assert wrong.startswith(f"'{tmp_path / 'word'}' is not a folder here; in ")
