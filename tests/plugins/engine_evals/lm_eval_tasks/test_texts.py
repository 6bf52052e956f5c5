"""Questions, answers and passages of lm-eval's tasks, by which documents are searched."""

from __future__ import annotations

from engine_evals.lm_eval_tasks.texts import texts_of

from engine import ItemTexts

PASSAGE = " ".join(f"In year {n} the tower grew by a floor." for n in range(8))


def _boolq(*rows):
    fields = ("passage", "question", "label")
    return {"validation": [dict(zip(fields, row, strict=True)) for row in rows]}


def test_a_passage_stands_apart_from_its_question(lm_eval_task):
    """Where it is long; a short one belongs to the question."""
    rows = _boolq((PASSAGE, "is it tall", 1), (f"{PASSAGE} No.", "is it old", 0), ("Ice.", "is", 1))
    assert texts_of("boolq", lm_eval_task("boolq", rows)) == [
        ItemTexts("boolq/0", "is it tall", "yes", PASSAGE),
        ItemTexts("boolq/1", "is it old", "no", f"{PASSAGE} No."),
        ItemTexts("boolq/2", "Ice.\nQuestion: is?", "yes"),
    ]


def test_a_passage_without_a_question_is_one(lm_eval_task):
    """Since else nothing would count as found."""
    task = lm_eval_task("boolq", _boolq((PASSAGE, "", 1), (f"Yes. {PASSAGE}", "", 0)), shots=0)
    task.config.doc_to_text = "{{passage}}\nAnswer:"
    texts = texts_of("boolq", task)
    assert texts[0] == ItemTexts("boolq/0", PASSAGE, "yes")
    assert texts[1] == ItemTexts("boolq/1", f"Yes. {PASSAGE}", "no")


def test_words_that_all_questions_share_stay(lm_eval_task):
    """Only labels are left out, up to a colon and from a line break on."""
    rows = [
        {"goal": f"How to clean a {n}?", "sol1": "dust", "sol2": "dry", "label": 0} for n in "ab"
    ]
    task = lm_eval_task("piqa", {"validation": rows})
    assert texts_of("piqa", task) == [
        ItemTexts("piqa/0", "How to clean a a?", "dust"),
        ItemTexts("piqa/1", "How to clean a b?", "dust"),
    ]
    task = lm_eval_task("piqa", {"validation": rows[:1]})
    (alone,) = texts_of("piqa", task)
    assert "How to clean a a?" in alone.question


def test_of_several_prompts_the_right_one_is_told(lm_eval_task, invented):
    """As Winogrande has one for each choice."""
    row = invented["winogrande"]["validation"][0]
    (found,) = texts_of("w", lm_eval_task("winogrande", {"validation": [row]}))
    before, _, after = row["sentence"].partition("_")
    assert found == ItemTexts("w/0", before + row[f"option{row['answer']}"], after.strip())
