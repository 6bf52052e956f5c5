"""Checks of data sources, processors and tokenizers."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.contracts.config import Config
from engine.contracts.data import CorpusStep, DataSource, Processor
from engine.contracts.records import Bad, Record, Text
from engine.data.corpus.parts import Part, all_documents, records_in, table_of
from engine.data.corpus.steps import NamedProcessor, carried_out
from engine.data.corpus.store import Store, key_of
from engine.errors import RunError
from engine.testing.standalone import StandAloneContext, require

_KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def data_source(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Parts and records repeat, and each part stands by itself."""
    parts = list(new().parts())
    require(len(set(parts)) == len(parts), "the names of parts are unique")
    records = _read(new())
    require(records, "a source gives at least one record")
    gives = config.gives()  # type: ignore[attr-defined]
    for record in records:
        require(isinstance(record, Record | Bad), f"{record!r} is not a record")
        if isinstance(record, Bad):
            reason = record.reason
            require(_KEBAB.fullmatch(reason), f"the reason '{reason}' is not in kebab-case")
        elif gives is not None:
            wrong = f"gives() says {gives}, but the source gives a {record.schema} record"
            require(record.schema == gives, wrong)
    require(any(isinstance(record, Record) for record in records), "not every row is bad")
    ids = [record.id for record in records]
    require(len(set(ids)) == len(ids), "ids are unique")
    require(_read(new()) == records, "parts and records are always in the same order")
    source = new()
    apart = [list(source.records(part)) for part in reversed(parts)]
    require(
        [record for part in reversed(apart) for record in part] == records,
        "a part has the same records, whatever was read before",
    )
    for part, whole in zip(reversed(parts), apart, strict=True):
        pieces = [record for one in source.split(part) for record in source.records(one)]
        require(pieces == whole, "the parts that a part is split into are that part")


def _read(source: DataSource) -> list[Record | Bad]:
    return [record for part in source.parts() for record in source.records(part)]


def processor(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Documents become the same again, whatever stands beside them."""
    texts = [*context.documents, *context.documents[:2], "x", "Grüße, 世界\n\n", "line\n" * 30]
    records = [Text(id=f"r{n}", source="kit", text=text) for n, text in enumerate(texts)]
    made = new()
    try:
        found = processed(made, records)
    except RunError as error:
        raise AssertionError(f"broken contract: {error}") from error
    again = "the same documents have the same outcome: card.json and shards must repeat"
    require(processed(new(), records) == found, again)
    if isinstance(made, CorpusStep):
        parted = "the outcome is the same, however the documents are divided into parts"
        require(processed(new(), records, parts=3) == found, parted)
    else:
        alone = [outcome for record in records for outcome in processed(made, [record])]
        require(alone == found, "a document's outcome does not depend on other documents")
    for outcome in found:
        if isinstance(outcome, str):
            require(_KEBAB.fullmatch(outcome), f"the rule's name '{outcome}' is not in kebab-case")


def executor(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Each task is carried out once, and what a call raises comes back."""
    made = new()
    try:
        for tasks in (list(range(20)), [], [3]):
            found = sorted(made.run(str, tasks))
            wanted = [(number, str(task)) for number, task in enumerate(tasks)]
            require(found == wanted, "a result for each task, with its number")
        try:
            list(made.run(int, ["1", "no number"]))
        except ValueError:
            pass
        else:
            raise AssertionError("broken contract: run() raises what the function raises")
        require(sorted(made.run(str, [1])) == [(0, "1")], "it goes on after an error")
    finally:
        made.close()


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
    several = processors if isinstance(processors, Sequence) else [processors]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        given = []
        size = -(-len(records) // parts)
        for number in range(parts):
            key = key_of("kit", number)
            store.write(key, table_of(records[number * size :][:size]))
            given.append(Part(0, key))
        for number, one in enumerate(several):
            given = carried_out(store, given, NamedProcessor(type(one).__name__, str(number), one))
        found: list[Text | str] = []
        for number, part in enumerate(given):
            table = all_documents(store, part, number)
            rules = table.column("drop").to_pylist()
            made = zip(records_in(table), rules, strict=True)
            found += [record if rule is None else rule for record, rule in made]
    return found


def tokenizer(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Texts come back from its tokens, also when it is opened again."""
    from transformers import AutoTokenizer

    made = new()(context.documents)
    require(getattr(made, "is_fast", False), "it is one of transformers' fast tokenizers")
    require(made.eos_token_id is not None, "it has an EOS token, which ends documents")
    encoded = [made.encode(text, add_special_tokens=False) for text in context.documents]
    require(max(map(max, encoded)) < len(made), "ids are less than len(tokenizer)")
    for text, ids in zip(context.documents, encoded, strict=True):
        require(made.decode(ids).strip() == text.strip(), f"decoded tokens restore {text!r}")
    again = new()(context.documents)
    require(again.get_vocab() == made.get_vocab(), "the same texts give the same tokenizer")
    with tempfile.TemporaryDirectory() as folder:
        made.save_pretrained(folder)
        opened = AutoTokenizer.from_pretrained(folder)
    same = [opened.encode(text, add_special_tokens=False) for text in context.documents]
    require(same == encoded, "saved and opened again, it gives the same ids")
