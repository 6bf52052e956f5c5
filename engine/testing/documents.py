"""Checks of what works on a corpus's documents: processors, steps, and tokenizers."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.contracts.component import Kind
from engine.contracts.component_config import TokenizerConfig
from engine.contracts.config import Config
from engine.contracts.data import CorpusStep, Processor
from engine.contracts.records import Text
from engine.data.corpus.documents import found_by_last
from engine.data.corpus.parts import Part, all_documents, records_in, table_of
from engine.data.corpus.steps import NamedProcessor, carried_out
from engine.data.corpus.store import Store, key_of
from engine.errors import RunError
from engine.testing.elsewhere import elsewhere
from engine.testing.requirements import require, works
from engine.testing.standalone import DOCUMENTS, StandAloneContext

_KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_HARD = ("Grüße, 世界\n\n", "Two  blanks,\n\ta Tab: IT'S naïve!? (42 %).\n", "the cat sat. " * 400)
"""Texts that a tokenizer may change: capitals, accents, blanks, and a long one."""
_ODD = ("x", "Grüße, 世界\n\n", "line\n" * 30, "12 + 30\n", "\n")


def processor(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Documents become the same again, whatever stands beside them."""
    texts = [*context.documents, *context.documents[:6], *context.documents[:6], *_ODD]
    records = [Text(id=f"r{n}", source="kit", text=text) for n, text in enumerate(texts)]
    made = new()
    kind: Kind = "corpus-step" if isinstance(made, CorpusStep) else "processor"
    try:
        whole = _Outcome(made, [records])
    except RunError as error:
        raise AssertionError(f"broken contract: {error}") from error
    again = "the same documents have the same outcome: card.json and shards must repeat"
    require(_Outcome(new(), [records]).rows == whole.rows, again)
    if kind == "corpus-step":
        size = -(-len(records) // 3)
        parts = [records[start : start + size] for start in range(0, len(records), size)]
        parted = "the outcome is the same, however the documents are divided into parts"
    else:
        parts = [[record] for record in records]
        parted = "a document's outcome does not depend on other documents"
    divided = _Outcome(made, parts)
    require(divided.rows == whole.rows, parted)
    for name, one in whole.types.items():
        other = divided.types.get(name, one)
        wrong = f"the column '{name}' has one type in all parts, not {one} and {other}"
        require(one == other, wrong)
    for outcome in whole.outcomes:
        if isinstance(outcome, str):
            require(_KEBAB.fullmatch(outcome), f"the rule's name '{outcome}' is not in kebab-case")
    replaces = any(
        isinstance(o, Text) and o != r for o, r in zip(whole.outcomes, records, strict=True)
    )
    wrong = "it replaces texts, so changes_texts() of its configuration gives True"
    require(not replaces or config.changes_texts(), wrong)
    if kind == "processor":
        others = [
            Text(id=r.id, source="other", text=t) for r, t in zip(records, texts[::-1], strict=True)
        ]
        require(
            _Outcome(made, [others]).rows == _Outcome(new(), [others]).rows,
            "a document's outcome does not depend on earlier ones, which may have the same id",
        )
    _check_summary(new, whole.found, divided.found)
    for found in elsewhere(_told, kind, config, context):
        require(
            found == _told(new),
            "in a new process the same documents have the same outcome; `hash` of a text and the order "
            "of a `set` are others in each: use zlib.crc32 or hashlib, and sort",
        )


def _told(new: Callable[[], Any]) -> list[str]:
    return [
        repr(outcome)
        for outcome in processed(
            new(),
            [Text(id=f"r{n}", source="kit", text=text) for n, text in enumerate(DOCUMENTS * 2)],
        )
    ]


def _check_summary(
    new: Callable[[], Any], whole: Sequence[pa.Table], divided: Sequence[pa.Table]
) -> None:
    told = works("summary() takes any tables", lambda: new().summary(iter(whole)))
    works("what summary() gives is plain data, which card.json stores", lambda: json.dumps(told))
    tables = works("summary() takes any tables", lambda: new().summary(iter(divided)))
    require(
        tables == told,
        f"summary() is the same, however the documents are divided into tables: {told}, not {tables}",
    )


class _Outcome:
    """What becomes of documents in these parts, with all that was found of them."""

    def __init__(
        self, several: Processor | CorpusStep | Sequence[Any], parts: Sequence[Sequence[Text]]
    ) -> None:
        chain = several if isinstance(several, Sequence) else [several]
        self.rows: list[str] = []
        self.outcomes: list[Text | str] = []
        self.types: dict[str, pa.DataType] = {}
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder))
            given = []
            for number, records in enumerate(parts):
                key = key_of("kit", number)
                store.write(key, table_of(records))
                given.append(Part(0, key))
            for number, one in enumerate(chain):
                named = NamedProcessor(type(one).__name__, str(number), one)
                given = carried_out(store, given, named)
            for number, part in enumerate(given):
                self._add(all_documents(store, part, number))
            self.found = list(found_by_last(store, given)) if chain else []

    def _add(self, table: pa.Table) -> None:
        rules = table.column("drop").to_pylist()
        made = zip(records_in(table), rules, strict=True)
        self.outcomes += [record if rule is None else rule for record, rule in made]
        columns = table.drop_columns(["part", "row"])
        self.rows += [repr(sorted(row.items())) for row in _without_nulls(columns)]
        for field in columns.schema:
            if not pa.types.is_null(field.type):
                self.types.setdefault(field.name, field.type)


def _without_nulls(table: pa.Table) -> Iterator[dict[str, Any]]:
    for row in table.to_pylist():
        yield {name: value for name, value in row.items() if value is not None}


def processed(
    processors: Processor | CorpusStep | Sequence[Processor | CorpusStep],
    records: Sequence[Text],
    *,
    parts: int = 1,
) -> list[Text | str]:
    """What becomes of documents: each as a processor or step, or several one after the other, leave it,
    or the rule that drops it.

    ``parts``: of which the corpus consists. Raises RunError as a run does.
    """
    size = -(-len(records) // parts)
    divided = [records[number * size :][:size] for number in range(parts)]
    return _Outcome(processors, divided).outcomes


class _Corpus:
    """Texts that can be read several times, and are not a list."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)


def tokenizer(new: Callable[[], Any], config: TokenizerConfig, context: StandAloneContext) -> None:
    """Texts come back from its tokens, also when it is opened again."""
    from transformers import AutoTokenizer

    texts = [*context.documents, *_HARD]
    made = works("it takes texts that are iterated, as in a run", lambda: new()(_Corpus(texts)))
    require(getattr(made, "is_fast", False), "it is one of transformers' fast tokenizers")
    require(made.eos_token_id is not None, "it has an EOS token, which ends documents")
    batch = made.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    encoded = [made.encode(text, add_special_tokens=False) for text in texts]
    require(max(map(max, encoded)) < len(made), "ids are less than len(tokenizer)")
    for text, ids in zip(texts, encoded, strict=True):
        require(
            made.decode(ids).strip() == text.strip(),
            f"decoded tokens restore {text[:200]!r}, not {made.decode(ids)[:200]!r}",
        )
        require(
            made.eos_token_id not in ids,
            f"no text has the token that ends documents, {made.eos_token!r}: {text[:200]!r}",
        )
    declared = config.vocabulary()
    require(
        declared is None or declared >= len(made),
        f"vocabulary() of its configuration says {declared} tokens, but it has {len(made)}",
    )
    again = new()(_Corpus(texts))
    require(again.get_vocab() == made.get_vocab(), "the same texts give the same tokenizer")
    with tempfile.TemporaryDirectory() as folder:
        made.save_pretrained(folder)
        opened = AutoTokenizer.from_pretrained(folder)
    same = [opened.encode(text, add_special_tokens=False) for text in texts]
    require(same == encoded, "saved and opened again, it gives the same ids")
    require(
        [one.ids for one in batch] == encoded,
        "many texts at a time have the tokens of each alone, neither padded nor cut off",
    )
    for found in elsewhere(_vocabulary, "tokenizer", config, context):
        require(
            found == _vocabulary(new),
            "in a new process the same texts give the same tokenizer; the order of a `set` of texts is "
            "another one in each process: sort it",
        )


def _vocabulary(new: Callable[[], Any]) -> dict[str, int]:
    found: dict[str, int] = new()(_Corpus(DOCUMENTS)).get_vocab()
    return found
