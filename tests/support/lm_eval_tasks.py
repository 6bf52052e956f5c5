"""Tasks in lm-eval's format: one of each kind, some that cannot be asked, and a group."""

from __future__ import annotations

from typing import Any

TASKS: dict[str, dict[str, Any]] = {
    "tiny_choice": {
        "output_type": "multiple_choice",
        "fewshot_split": "train",
        "doc_to_text": "{{n}}: the",
        "doc_to_choice": ["cat", "old chairs", "mouse"],
        "doc_to_target": "gold",
        "metric_list": [
            {"metric": m, "aggregation": "brier_score" if m == "brier_score" else "mean"}
            for m in ("acc", "acc_norm", "acc_mutual_info", "brier_score")
        ],
    },
    "tiny_last_word": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{text.split()[0]}}",
        "doc_to_target": " {{text.split()[1]}}",
        "metric_list": [
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        ],
    },
    "tiny_text": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [
            {"metric": m} for m in ("word_perplexity", "byte_perplexity", "bits_per_byte")
        ],
    },
    "tiny_words": {
        "output_type": "generate_until",
        "doc_to_text": "{{n}}{{n}}",
        "doc_to_target": "{{words[gold]}} that that that that",
        "generation_kwargs": {"until": [" one"], "max_gen_toks": 12, "num_beams": 1},
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "mean",
                "higher_is_better": True,
                "regexes_to_ignore": [" that"],
            },
            {"metric": "bleu", "aggregation": "bleu"},
        ],
        "filter_list": [
            {
                "name": "first-word",
                "filter": [
                    {"function": "regex", "regex_pattern": r"(\w+)"},
                    {"function": "take_first"},
                ],
            },
            {"name": "whole", "filter": [{"function": "take_first"}]},
        ],
    },
    "tiny_asks_for_none": {
        "output_type": "multiple_choice",
        "num_fewshot": 0,
        "doc_to_text": "{{n}}: the",
        "doc_to_choice": ["cat", "mouse"],
        "doc_to_target": 0,
    },
    "tiny_beams": {
        "output_type": "generate_until",
        "doc_to_text": "the",
        "doc_to_target": "cat",
        "generation_kwargs": {"num_beams": 4, "until": ["."], "length_penalty": 2},
    },
    "tiny_nowhere": {
        "dataset_path": "nobody-at-all/nothing-there",
        "dataset_kwargs": {},
        "output_type": "multiple_choice",
        "doc_to_text": "a",
        "doc_to_choice": ["b", "c"],
        "doc_to_target": 0,
    },
}
GROUP = {
    "group": "tiny_group",
    "task": ["tiny_choice", "tiny_asks_for_none"],
    "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
}
