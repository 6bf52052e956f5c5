"""Languages are detected, and documents in others are dropped."""
# ruff: noqa: RUF001 (the letters of other scripts are meant)

from __future__ import annotations

import pyarrow as pa
import pytest
from engine_corpus.judge.rules.config import Language
from engine_corpus.judge.rules.language import build, detected

from engine import Text
from engine.testing import processed

TEXTS = {
    "en": "All human beings are born free and equal in dignity and rights.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "he": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "ar": "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق.",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "zh": "人人生而自由，在尊严和权利上一律平等。",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar.",
}
"""The first sentence of the Universal Declaration of Human Rights."""


@pytest.mark.parametrize("code", TEXTS)
def test_the_language_of_a_sentence_is_detected(code):
    """With the code that is in use today."""
    language, confidence = detected(TEXTS[code])
    assert language == code
    assert confidence > 0.9


@pytest.mark.parametrize("disturbed", ["\0", "\x0b\x1b\x7f\x85", "\ufffe\U0010ffff\ufdd0"])
def test_characters_that_the_detector_refuses_do_not_matter(disturbed):
    """Controls and noncharacters count as spaces."""
    assert detected(f"{disturbed} {TEXTS['de']} {disturbed}")[0] == "de"


@pytest.mark.parametrize(
    "text", ["", " \n", "\0", "\ufffe", "😀" * 50, "a" * 300_000, "12 + 7 = 19"]
)
def test_text_without_a_language_is_of_none(text):
    """Its confidence is zero, and a list of languages to keep drops it."""
    assert detected(text) == (None, 0.0)
    record = Text(id="a", source="s", text=text)
    assert processed(build(Language(keep=("en",)), None), [record]) == ["other-language"]
    assert processed(build(Language(), None), [record]) == [record]


def test_other_languages_are_dropped():
    """Also mixtures in which the main language has too small a share."""
    mixed = " ".join(TEXTS[code] for code in ("en", "fr", "es"))
    texts = [*TEXTS.values(), mixed]
    records = [Text(id=str(n), source="s", text=text) for n, text in enumerate(texts)]
    found = processed(build(Language(keep=("en", "de")), None), records)
    assert found == [*records[:2], *["other-language"] * 10]
    anyhow = processed(
        build(Language(keep=("en", "fr", "es"), min_confidence=0), None), records[-1:]
    )
    assert anyhow == records[-1:]


def test_columns_and_summary():
    """Language and confidence of each document; languages in the order of their documents."""
    processor = build(Language(), None)
    texts = [TEXTS["en"], "", TEXTS["de"], TEXTS["en"]]
    columns = processor.columns(pa.record_batch({"text": pa.array(texts, pa.large_string())}))
    assert columns.keys() == {"language", "language_confidence"}
    assert columns["language"].to_pylist() == ["en", None, "de", "en"]
    summary = processor.summary(iter([pa.table(dict(columns))]))
    assert list(summary["languages"].items()) == [("en", 2), ("de", 1), ("unknown", 1)]
