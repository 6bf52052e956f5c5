"""The question, answer and passage of a row, apart from the words of a prompt."""

from __future__ import annotations

from engine import ItemTexts
from engine_evals.benchmarks.multiple_choice import choices_of
from engine_evals.benchmarks.record import ChoiceRecord, GenerationRecord
from engine_evals.benchmarks.row_files import Row
from engine_evals.benchmarks.templates import expression, template


def texts_of(record: ChoiceRecord | GenerationRecord, row: Row, item: str) -> ItemTexts:
    """The texts of a row. Raises one of WRONG_ROW for a row of the wrong shape."""
    passage = None if record.passage is None else template(record.passage)(**row)
    return ItemTexts(item, _question(record, row), _answer(record, row), passage)


def _question(record: ChoiceRecord | GenerationRecord, row: Row) -> str:
    if record.question is not None:
        return template(record.question)(**row)
    if isinstance(record, ChoiceRecord) and record.question_fields:
        return " ".join(str(row[field]) for field in record.question_fields)
    return template(record.prompt)(**row)


def _answer(record: ChoiceRecord | GenerationRecord, row: Row) -> str:
    """The first right choice, by its text where the prompt shows letters; or the worked answer."""
    if isinstance(record, GenerationRecord):
        return template(record.answer)(**row)
    choices = choices_of(record.questions[0], row)
    texts = choices.texts
    if record.options_field is not None:
        texts = expression(record.options_field)(**row)
    return str(texts[min(choices.gold)])
