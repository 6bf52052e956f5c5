"""Prompts and answers as tokens, alike in training, rollouts, rewards and scores.

With a chat template they are a user's and an assistant's message; without one, plain text. The two
are tokenized apart, as the model that answers a prompt sees only the prompt.
"""

from __future__ import annotations

from typing import Any


def prompt_text(tokenizer: Any, prompt: str) -> str:
    """What stands before the answer."""
    if tokenizer.chat_template is None:
        return prompt
    text: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    return text


def prompt_tokens(tokenizer: Any, prompt: str) -> list[int]:
    """The tokens before the answer; BOS, or else EOS, where that would be none."""
    tokens: list[int] = tokenizer.encode(prompt_text(tokenizer, prompt), add_special_tokens=False)
    bos = tokenizer.bos_token_id
    return tokens or [tokenizer.eos_token_id if bos is None else bos]


def answer_tokens(tokenizer: Any, answer: str) -> list[int]:
    """The answer's tokens and EOS."""
    tokens: list[int] = tokenizer.encode(answer, add_special_tokens=False)
    return [*tokens, tokenizer.eos_token_id]
