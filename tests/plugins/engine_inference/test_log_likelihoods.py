"""Log-likelihoods equal those of one plain pass for each text, and lm-eval's own."""

from __future__ import annotations

import pytest
from engine_inference.language_model import SharedPrefixLM
from support.language_models import (
    CONTEXT,
    PAIRS,
    TEXTS,
    foreign as _foreign,
    plain_score as _plain,
    token_ids as _ids,
)
from support.tokenizers import FAMILIES

from engine import LogLikelihood, Rolling
from engine.modeling import boundary


def test_loglikelihoods_equal_one_by_one(lm, model, tokenizer):
    """Batches of unequal lengths, padded, in another order: to float32's rounding."""
    prefix = tokenizer.bos_token_id or tokenizer.eos_token_id
    found = lm.loglikelihoods([LogLikelihood(*pair) for pair in PAIRS])
    for (context, continuation), response in zip(PAIRS, found, strict=True):
        before = _ids(tokenizer, context.rstrip())
        whole = _ids(tokenizer, context + continuation)
        scored = len(whole) - len(before)
        tokens = whole if before else [prefix, *whole]
        response_tokens = min(scored, CONTEXT)
        assert response.tokens == response_tokens
        assert response.truncated == (len(tokens) > CONTEXT + 1)
        if scored:
            total, greedy = _plain(model, tokens[-CONTEXT - 1 :], response_tokens)
            assert response.logprob == pytest.approx(total, abs=1e-4)
            assert response.greedy == greedy
        else:
            assert response.logprob == 0


@pytest.mark.parametrize("stride", [None, 8])
def test_rolling_reads_every_token_once(lm, model, tokenizer, stride):
    """In windows whose last ``stride`` tokens count; without one, all but the last are disjoint."""
    prefix = tokenizer.bos_token_id or tokenizer.eos_token_id
    found = lm.loglikelihoods([Rolling(text, stride) for text in TEXTS])
    for text, response in zip(TEXTS, found, strict=True):
        ids = _ids(tokenizer, text)
        stream = [prefix, *ids]
        expected, start = 0.0, 0
        while start < len(ids):
            end = min(start + (stride if stride and start else CONTEXT), len(ids))
            window = stream[max(0, end - CONTEXT) : end + 1]
            expected += _plain(model, window, end - start)[0]
            start = end
        assert response.tokens == len(ids)
        assert response.logprob == pytest.approx(expected, abs=2e-4)


@pytest.mark.filterwarnings("ignore")  # lm-eval's and its libraries' own
def test_the_numbers_are_lm_evals(lm, model, tokenizer):
    """Log-likelihoods, greediness, and texts in disjoint windows."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    peer = HFLM(pretrained=model, tokenizer=tokenizer, max_length=CONTEXT, batch_size=2)
    # It has no answer for an empty continuation, or one that is longer than the context.
    pairs = [pair for pair in PAIRS if 0 < len(_ids(tokenizer, pair[1])) <= CONTEXT]
    assert len(pairs) >= 5
    asked = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    theirs = peer.loglikelihood(asked, disable_tqdm=True)
    ours = lm.loglikelihoods([LogLikelihood(*pair) for pair in pairs])
    for (logprob, greedy), response in zip(theirs, ours, strict=True):
        assert response.logprob == pytest.approx(logprob, abs=1e-4)
        assert response.greedy == greedy
    texts = [TEXTS[0], TEXTS[3]]  # it has no answer for an empty one
    asked = [Instance("loglikelihood_rolling", {}, (t,), i) for i, t in enumerate(texts)]
    theirs = peer.loglikelihood_rolling(asked, disable_tqdm=True)
    ours = lm.loglikelihoods([Rolling(text) for text in texts])
    assert [r.logprob for r in ours] == pytest.approx(theirs, abs=2e-4)


@pytest.mark.filterwarnings("ignore")  # lm-eval's and its libraries' own
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_lm_evals_numbers(family):
    """With BOS where the tokenizer puts it; but lm-eval scores a text of its own after two of them."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    words = FAMILIES[family]()
    model = _foreign(words)
    peer = HFLM(pretrained=model, tokenizer=words, max_length=128, batch_size=2)
    lm = SharedPrefixLM(model, words)
    pairs = [("Ada took", " 4 pears"), ("Ada took ", "4 pears"), ("Who?\n", "Ben"), ("", "Cleo")]
    asked = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    theirs = [logprob for logprob, _ in peer.loglikelihood(asked, disable_tqdm=True)]
    ours = [one.logprob for one in lm.loglikelihoods([LogLikelihood(*pair) for pair in pairs])]
    assert ours == pytest.approx(theirs, abs=1e-4)
    (rolling,) = lm.loglikelihoods([Rolling("Ada took 4 pears.")])
    ids = [boundary(words), *_ids(words, "Ada took 4 pears.")]
    assert rolling.logprob == pytest.approx(_plain(model, ids, len(ids) - 1)[0], abs=1e-4)
