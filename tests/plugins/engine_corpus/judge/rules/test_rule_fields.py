"""Every field of the rules' configurations changes what becomes of some text."""

from __future__ import annotations

from typing import Any

import pytest
from engine_corpus.judge.rules import c4, fineweb, gopher, language, word_list
from engine_corpus.judge.rules.config import C4, FineWeb, Gopher, Language, WordList
from pydantic import ValidationError
from support.rule_limits import no_limits

from engine import RunError, Text
from engine.testing import check_component, processed

PROSE = (
    "The people of the town have to be there early. They wait with others in front of a large house, "
    "and that is where the mayor lives. Nobody knows why she asked them to come on such a cold day. "
    "Some carry lamps; children sleep on their parents' arms. When the door opens at last, all are "
    "silent.\n\nShe looks at each face and begins to speak about winter, bread, and the old bridge. "
)
PARAGRAPHS = [
    f"Part {n} of the text has to be with {n * n} others and that is it." for n in range(9)
]
OFF = no_limits(gopher.GopherRules, Gopher)
REPEATED = "x y z the of " * 3 + PROSE
C4_LINES = "\n".join(["This is a sentence. Here is one more, and it is long."] * 4)

FIELDS: list[tuple[str, str, str, dict[str, Any], dict[str, Any]]] = [
    ("gopher", "words", PROSE, {**OFF, "min_alphabetic_words": 0.95}, {"words": "whitespace"}),
    ("gopher", "drop", "short", {}, {"drop": False}),
    ("gopher", "min_words", "one two", {}, {"min_words": 0}),
    ("gopher", "max_words", PROSE, {}, {"max_words": 60}),
    ("gopher", "min_mean_word_length", PROSE, {}, {"min_mean_word_length": 5}),
    ("gopher", "max_mean_word_length", PROSE, {}, {"max_mean_word_length": 3.5}),
    ("gopher", "max_hashes", PROSE + "# " * 3, {}, {"max_hashes": 0.02}),
    ("gopher", "max_ellipses", PROSE + "... and … so ...", {}, {"max_ellipses": 0.02}),
    ("gopher", "max_bullet_lines", "- " + PROSE, {}, {"max_bullet_lines": 0.2}),
    ("gopher", "max_ellipsis_lines", PROSE + "...\nand\nso", {}, {"max_ellipsis_lines": 0.1}),
    ("gopher", "min_alphabetic_words", PROSE, {}, {"min_alphabetic_words": 0.95}),
    ("gopher", "min_stop_words", PROSE, {}, {"min_stop_words": 9}),
    ("gopher", "stop_words", PROSE, {}, {"stop_words": ["der", "die"]}),
    (
        "gopher",
        "max_duplicate_paragraphs",
        PROSE + "\n\na\n\na\n\na",
        {},
        {"max_duplicate_paragraphs": 0.5},
    ),
    (
        "gopher",
        "max_duplicate_paragraph_characters",
        "a\n\na\n\n" + PROSE,
        OFF,
        {"max_duplicate_paragraph_characters": 0},
    ),
    ("gopher", "max_duplicate_lines", PROSE + "\na\na", OFF, {"max_duplicate_lines": 0.2}),
    (
        "gopher",
        "max_duplicate_line_characters",
        PROSE + "\na\na",
        OFF,
        {"max_duplicate_line_characters": 0},
    ),
    *(
        ("gopher", f"max_top_{n}_gram", REPEATED, OFF, {f"max_top_{n}_gram": 0.01})
        for n in (2, 3, 4)
    ),
    *(
        ("gopher", f"max_duplicate_{n}_grams", REPEATED, OFF, {f"max_duplicate_{n}_grams": 0})
        for n in range(5, 11)
    ),
    ("c4", "words", "It ends here.* Then it goes on. " * 3, {}, {"words": "whitespace"}),
    ("c4", "drop", "short", {}, {"drop": False}),
    ("c4", "split", C4_LINES + " and no end", {}, {"split": "sentences"}),
    ("c4", "remove_citations", C4_LINES + "\nAnd so it was.[12]", {}, {"remove_citations": False}),
    (
        "c4",
        "require_terminal_punctuation",
        C4_LINES + "\nand no end",
        {},
        {"require_terminal_punctuation": False},
    ),
    ("c4", "min_words_per_line", C4_LINES + "\nToo short.", {}, {"min_words_per_line": 2}),
    ("c4", "max_word_length", C4_LINES + "\nHere is a very-long-word.", {}, {"max_word_length": 9}),
    (
        "c4",
        "drop_lorem_ipsum",
        C4_LINES + "\nLorem ipsum dolor sit.",
        {},
        {"drop_lorem_ipsum": False},
    ),
    (
        "c4",
        "remove_javascript",
        C4_LINES + "\nThis needs JavaScript now.",
        {},
        {"remove_javascript": False},
    ),
    (
        "c4",
        "drop_curly_brackets",
        C4_LINES + "\nThis is {a} set.",
        {},
        {"drop_curly_brackets": False},
    ),
    (
        "c4",
        "remove_policies",
        C4_LINES + "\nRead our privacy policy.",
        {},
        {"remove_policies": False},
    ),
    ("c4", "min_sentences", C4_LINES, {}, {"min_sentences": 9}),
    (
        "fineweb",
        "words",
        "a.b.c, d!\n(e)f - g. h.\ni",
        {"max_short_lines": 1, "max_newlines": 0.22},
        {"words": "whitespace"},
    ),
    ("fineweb", "drop", "", {}, {"drop": False}),
    ("fineweb", "min_punctuated_lines", "no mark " * 9, {}, {"min_punctuated_lines": 0}),
    ("fineweb", "keep_unpunctuated", "no mark " * 9, {}, {"keep_unpunctuated": True}),
    ("fineweb", "max_short_lines", "Short.", {}, {"max_short_lines": 1}),
    ("fineweb", "short_line", "Short.", {}, {"short_line": 3}),
    (
        "fineweb",
        "max_duplicate_line_characters",
        (PROSE + ".\n") * 2,
        {},
        {"max_duplicate_line_characters": 1},
    ),
    ("fineweb", "max_newlines", PROSE + "end.", {}, {"max_newlines": 0.01}),
    ("word-list", "words", "so, bad, it is", {}, {"words": "whitespace"}),
    ("word-list", "drop", "bad", {}, {"drop": False}),
    ("word-list", "name", "bad", {}, {"name": "rude-words"}),
    ("word-list", "list", "good", {}, {"list": ["Good"]}),
    ("word-list", "max_count", "bad bad", {}, {"max_count": 2}),
    ("word-list", "max_share", "bad bad thing", {}, {"max_share": 0.7}),
    ("language", "keep", PROSE, {"keep": ["de"]}, {"keep": ["de", "en"]}),
    (
        "language",
        "min_confidence",
        PROSE + "Das ist ein deutscher Satz, der nicht englisch ist. " * 8,
        {"keep": ["en", "de"], "min_confidence": 0.3},
        {"min_confidence": 0.99},
    ),
]
KINDS = {
    "gopher": (Gopher, gopher.build, {}),
    "c4": (C4, c4.build, {}),
    "fineweb": (FineWeb, fineweb.build, {}),
    "word-list": (WordList, word_list.build, {"list": ["bad"]}),
    "language": (Language, language.build, {}),
}


def _outcome(kind: str, text: str, fields: dict[str, Any]) -> Text | str:
    config, build, needed = KINDS[kind]
    made = build(config(**{**needed, **fields}), None)
    return processed(made, [Text(id="a", source="s", text=text)])[0]


@pytest.mark.parametrize(
    ("kind", "field", "text", "before", "change"),
    [
        pytest.param(
            *row, marks=pytest.mark.covers(f"processor/{row[0]}.{row[1]}"), id=f"{row[0]} {row[1]}"
        )
        for row in FIELDS
    ],
)
def test_a_field_has_an_effect(kind, field, text, before, change):
    """Another value of this field alone changes what becomes of a document."""
    assert change.keys() == {field}
    assert _outcome(kind, text, before) != _outcome(kind, text, {**before, **change})


@pytest.mark.covers("processor/word-list.path")
def test_a_file_of_words_is_read(tmp_path):
    """One word or phrase on a line, blank lines aside; a missing file is told beforehand, and one that
    is no text when it is read."""
    file = tmp_path / "words.txt"
    file.write_text("\ufeffrude\n\nvery rude phrase\r\n", encoding="utf-8")
    config = WordList(path=str(file))
    made = word_list.build(config, None)
    counts = [
        made.judge(text).measures["count"] for text in ("A RUDE word", "a very rude phrase", "ok")
    ]
    assert counts == [1, 2, 0]
    assert not config.problems()
    assert list(config.reads()) == [str(file)]
    assert "no file" in WordList(path=str(tmp_path / "none")).problems()["path"]
    file.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(RunError, match=r"words\.txt"):
        word_list.build(config, None)


def test_every_field_is_in_the_table():
    """But for the file of words, which has its own test."""
    expected = {
        (kind, field) for kind, (config, _, _) in KINDS.items() for field in config.model_fields
    }
    assert {row[:2] for row in FIELDS} == expected - {("word-list", "path")}


def test_unusable_configurations_are_refused():
    """With what is wrong."""
    with pytest.raises(ValidationError, match="has no words"):
        WordList()
    with pytest.raises(ValidationError, match="empty word"):
        WordList(list=["a", " "])
    assert "no language 'xq'" in Language(keep=["en", "xq"]).problems()["keep"]
    assert not Language(keep=["en", "de", "zh", "zh-Hant", "he"]).problems()
    assert not Language().problems()


@pytest.mark.parametrize("kind", KINDS)
def test_the_contract_is_kept(kind):
    """Also with a list of languages, which drops."""
    settings = {"keep": ["en"]} if kind == "language" else KINDS[kind][2]
    check_component("processor", {"type": kind, **settings})
