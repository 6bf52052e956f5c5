"""Scores and generations equal the slow, plain ones, and lm-eval's and transformers' own."""

from __future__ import annotations

import copy

import pytest
import torch
from engine_inference import generation
from engine_inference.language_model import SharedPrefixLM
from engine_inference.likelihood import read
from engine_inference.prefix_trees import plan
from support.internals import Artifact
from support.models import tiny
from support.tokenizers import FAMILIES

from engine import Generation, LogLikelihood, Rolling, RunError, SpecError
from engine.modeling import boundary, scored_rows

PAIRS = [
    ("the cat sat on", " a mat"),
    ("the cat sat on ", "a mat"),  # lm-eval moves the space
    ("", "the cat"),
    ("the cat and the", " mouse that ran under two old chairs"),
    ("one small grey mouse", " 7"),
    ("the", " cat sat on a mat and saw one small grey mouse that ran" * 3),
    ("the cat", ""),
]
TEXTS = [
    "the cat sat on a mat",
    "",
    "a",
    "one small grey mouse that ran under two old chairs. " * 4,
]
CONTEXT = 32


@pytest.fixture(scope="module")
def artifact(finished_run):
    return Artifact(finished_run / "base" / "final")


@pytest.fixture(scope="module")
def model(artifact):
    return artifact.model()


@pytest.fixture(scope="module")
def tokenizer(artifact):
    return artifact.tokenizer()


@pytest.fixture
def lm(model, tokenizer):
    return SharedPrefixLM(model, tokenizer, context=CONTEXT, batch_tokens=100)


def _ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@torch.no_grad()
def _plain(model, tokens: list[int], scored: int) -> tuple[float, bool]:
    """log P of the last ``scored`` tokens after all before them, one forward pass, float64."""
    logits = model(torch.tensor([tokens[:-1]])).logits[0].double().log_softmax(-1)
    places = range(len(tokens) - 1 - scored, len(tokens) - 1)
    total = sum(float(logits[p, tokens[p + 1]]) for p in places)
    return total, all(int(logits[p].argmax()) == tokens[p + 1] for p in places)


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


def _foreign(tokenizer, **fields):
    from transformers import GenerationConfig

    model = tiny(vocab_size=len(tokenizer), initializer_range=0.3).eval()
    model.generation_config = GenerationConfig(**fields)
    return model


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


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_ends_where_transformers_does(family):
    """At any of several ends, after the ids that transformers makes of the prompt."""
    words = FAMILIES[family]()
    free = _foreign(words)
    ids = torch.tensor([words.encode("Ada took 4")])
    own = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": words.eos_token_id}
    with torch.no_grad():
        text = free.generate(ids, attention_mask=torch.ones_like(ids), **own)[0, ids.shape[1] :]
        ends = [words.eos_token_id, int(text[5])]
        model = _foreign(words, eos_token_id=ends)
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), **own)
    found = SharedPrefixLM(model, words).generate(Generation("Ada took 4", max_tokens=24))
    assert list(found.ids) == expected[0, ids.shape[1] :].tolist()
    assert found.ended
    assert found.ids[-1] == ends[1]
    whole = words.decode([*ids[0], *found.ids], skip_special_tokens=True)
    assert words.decode(ids[0], skip_special_tokens=True) + found.text == whole


SHOTS = "the cat sat on a mat and saw one small grey mouse that ran under two old chairs. " * 40
SHARING = [
    LogLikelihood(f"{before}{question}", ending)
    for before in (SHOTS, SHOTS[5:], "")
    for question in ("a mouse", "one grey cat saw", "seven chairs")
    for ending in (" and", " cat", " that ran under", " sat on a mat", "")
] + [Rolling("the cat sat on a mat. " * 9)]


def _apart(ours, theirs):
    assert [r.greedy for r in ours] == [r.greedy for r in theirs]
    assert [r.tokens for r in ours] == [r.tokens for r in theirs]
    return max(abs(a.logprob - b.logprob) for a, b in zip(ours, theirs, strict=True))


def test_neither_sharing_nor_batches_nor_order_change_an_answer(model, tokenizer):
    """By more than 1e-4 in float32; prefixes were shared, in several runs."""
    lm = SharedPrefixLM(model, tokenizer, context=2048)
    assert lm._scorer.shares
    alone = SharedPrefixLM(model, tokenizer, context=2048, batch_tokens=1)
    alone._scorer._shares = False
    expected = alone.loglikelihoods(SHARING)
    asked = scored_rows(tokenizer, SHARING[:-1], 10**6)
    rows = [read(row) for its, _ in asked for row in its]
    assert len([run for run in plan(rows) if run.prefix > 100]) == 2
    assert _apart(lm.loglikelihoods(SHARING), expected) < 1e-4
    small = SharedPrefixLM(model, tokenizer, context=2048, batch_tokens=64)
    assert _apart(small.loglikelihoods(SHARING), expected) < 1e-4
    assert _apart(lm.loglikelihoods(SHARING[::-1])[::-1], expected) < 1e-4


@pytest.mark.parametrize("sliding", [None, 16])
def test_attention_of_its_own_is_not_shared(tokenizer, sliding):
    """A window would let a tree's branches see too little: such models read row by row."""
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, sliding_window=sliding,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    lm = SharedPrefixLM(model, tokenizer, context=2048)
    assert lm._scorer.shares == (sliding is None)
    alone = SharedPrefixLM(model, tokenizer, context=2048, batch_tokens=1)
    alone._scorer._shares = False
    assert _apart(lm.loglikelihoods(SHARING), alone.loglikelihoods(SHARING)) < 1e-4
    text = lm.generate(Generation("the cat", max_tokens=40)).text
    assert text == _generated(model, tokenizer, "the cat", 40)


def test_logits_that_change_after_the_head_are_refused(tokenizer):
    """They would all be wrong, in training, too."""
    from transformers import GPT2Config, GPT2LMHeadModel

    def positive(module, given, out):
        out.logits = out.logits.relu()

    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2)
    ).eval()
    model.register_forward_hook(positive)
    with pytest.raises(SpecError, match=r"'gpt2' changes its logits after the head"):
        SharedPrefixLM(model, tokenizer, context=64)


@torch.no_grad()
def _generated(model, tokenizer, prompt, most):
    ids = torch.tensor([_ids(tokenizer, prompt)])
    tokens = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=most, do_sample=False,
        pad_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )[0, ids.shape[1] :]  # fmt: skip
    return tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("before", ["", SHOTS])
def test_many_prompts_are_continued_as_each_alone(model, tokenizer, before, monkeypatch):
    """Token for token as transformers does, in fewer slots than prompts, each to its own length."""
    monkeypatch.setattr(generation, "_MOST", 4)
    lm = SharedPrefixLM(model, tokenizer, context=2048)
    ends = ["the cat", "a", "one small grey mouse that", "7: ", "chairs", "two old", "sat on a mat"]
    requests = [
        Generation(before + end, max_tokens=5 + 7 * number) for number, end in enumerate(ends)
    ]
    done = []
    found = lm.generations(requests, done.append)
    assert done == list(range(1, len(ends) + 1))
    for request, response in zip(requests, found, strict=True):
        assert response.text == _generated(model, tokenizer, request.prompt, request.max_tokens)
        assert response.ended == (response.tokens < request.max_tokens)


def test_a_sampled_text_does_not_depend_on_its_neighbours(lm):
    """Nor do stop strings."""
    requests = [
        Generation("the cat", max_tokens=12, temperature=1.0, seed=seed, stop=(". ",))
        for seed in range(6)
    ]
    together = lm.generations(requests)
    assert [r.text for r in together] == [lm.generate(r).text for r in requests]
    assert len({r.text for r in together}) > 1


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_a_text_comes_with_its_ids_and_their_logprob(model, tokenizer, temperature):
    """At temperature 1, EOS included, as one pass over prompt and answer gives it."""
    likely_eos = copy.deepcopy(model)
    weight = likely_eos.get_output_embeddings().weight
    weight.data[tokenizer.eos_token_id] = weight.data[: len(tokenizer)].mean(0) * 3
    lm = SharedPrefixLM(likely_eos, tokenizer, context=64)
    requests = [
        Generation(PAIRS[seed % 2][0], max_tokens=12, temperature=temperature, seed=seed)
        for seed in range(24)
    ]
    responses = lm.generations(requests)
    rows = [
        (_ids(tokenizer, request.prompt), response.ids)
        for request, response in zip(requests, responses, strict=True)
    ]
    for response, (own, _) in zip(responses, lm.logprobs(rows), strict=True):
        assert response.logprob == pytest.approx(float(own.double().sum()), abs=1e-4)
        assert response.ended == (response.ids[-1] == tokenizer.eos_token_id)
        assert response.tokens == len(response.ids) - response.ended
        assert response.text == tokenizer.decode(response.ids, skip_special_tokens=True)
    if temperature:
        assert {r.ended for r in responses} == {True, False}
    rollouts = lm.rollouts([prompt for prompt, _ in rows], requests)
    assert [tuple(r.tokens) for r in rollouts] == [r.ids for r in responses]


def test_no_room_for_a_text(lm):
    """Nothing is written, and nothing breaks."""
    assert lm.generations([]) == []
    assert lm.answer([Generation("a", max_tokens=1)])[0].tokens <= 1


PROMPTS = ["the cat", "one small grey mouse that", "a", "7: "]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_generation_is_transformers(lm, model, tokenizer, prompt):
    """Token for token, with the cache."""
    ids = torch.tensor([_ids(tokenizer, prompt)])
    with torch.no_grad():
        expected = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )[0, ids.shape[1] :]  # fmt: skip
    found = lm.generate(Generation(prompt, max_tokens=12))
    assert found.text == tokenizer.decode(expected, skip_special_tokens=True)
    assert not found.truncated


def test_a_stop_string_ends_it_and_is_left_out(lm):
    """Also where it ends inside a token; what was told meanwhile is the same text."""
    whole = lm.generate(Generation("the cat", max_tokens=20)).text
    stop = next(w for n in range(2, 6) if (w := whole[n : n + 2]).isascii())
    pieces: list[str] = []
    found = lm.generate(Generation("the cat", max_tokens=20, stop=(stop,)), pieces.append)
    assert found.text == whole[: whole.index(stop)]
    assert "".join(pieces) == found.text


def test_sampling_repeats_with_its_seed(lm):
    """Another seed gives another text; a nucleus of nothing is the likeliest token."""

    def sample(**fields):
        return lm.generate(Generation("the cat", max_tokens=16, **fields)).text

    assert sample(temperature=1.0, seed=1) == sample(temperature=1.0, seed=1)
    assert sample(temperature=1.0, seed=1) != sample(temperature=1.0, seed=2)
    assert sample(temperature=1.0, top_p=1e-9) == sample()
    assert sample(temperature=1e-4) == sample()


def test_prompts_too_long_keep_their_end(lm):
    """And say so."""
    long = "the cat sat on a mat and saw one small grey mouse " * 10
    found = lm.generate(Generation(long, max_tokens=8))
    assert found.truncated
    assert found.tokens <= 8
    assert lm.generate(Generation("", max_tokens=4)).tokens <= 4


def test_a_prompt_keeps_a_quarter_of_the_context(lm, tokenizer):
    """However long the answer may become, which then has the rest."""
    long = "the cat sat on a mat and saw one small grey mouse " * 10
    text = lm._text(Generation(long, max_tokens=10 * CONTEXT))
    assert list(text.prompt) == _ids(tokenizer, long)[-CONTEXT // 4 :]
    assert text.limit == CONTEXT - CONTEXT // 4


def test_answers_come_in_the_order_of_the_requests(lm):
    """Of whatever kinds they are; progress ends with all of them."""
    done: list[int] = []
    requests = [Rolling(TEXTS[0]), Generation("a", max_tokens=2), LogLikelihood("the", " cat")]
    answers = lm.answer(requests, done.append)
    assert answers[0] == lm.loglikelihoods([requests[0]])[0]
    assert answers[1] == lm.generate(requests[1])
    assert answers[2].tokens == len(_ids(lm.tokenizer, "the cat")) - len(_ids(lm.tokenizer, "the"))
    assert done[-1] == 3


def test_a_model_of_tokens_has_no_values(lm):
    """The logit of some token is no reward."""
    with pytest.raises(
        RunError, match="LlamaForCausalLM predicts the next token and has no scalar head"
    ):
        lm.scores([("the cat", " sat")])
