"""NEFTune: noise of the right size on embedded tokens, in training only."""

from __future__ import annotations

import math

import pytest
import torch
from engine_sft.noise import EmbeddingNoise, document_lengths

from engine.modeling import hidden_states


@pytest.fixture
def embedded(bench):
    """What a model's layers get, with and without the noise that a spec asks for."""

    def embed(neftune, training, position_ids):
        model = bench.model().train(training)
        bench.objective(neftune=neftune).attach(model)
        seen = []
        layer = model.model.layers[0]
        layer.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
        ids = torch.arange(position_ids.numel()).view(position_ids.shape) % 50
        torch.manual_seed(3)
        hidden_states(model, input_ids=ids, position_ids=position_ids)
        return seen[0], model.get_input_embeddings().weight.detach()[ids]

    return embed


@pytest.mark.covers("objective/sft.neftune")
def test_noise_is_of_the_size_that_the_paper_has(embedded):
    """Uniform within α / √(L · D), L being each document's own length, packed or not."""
    position_ids = torch.cat(
        [torch.arange(25), torch.arange(100), torch.zeros(3, dtype=torch.long)]
    )
    noisy, plain = embedded(5.0, True, position_ids[None])
    noise = (noisy - plain)[0]
    for part, length in ((slice(0, 25), 25), (slice(25, 125), 100), (slice(125, 128), 1)):
        most = 5 / math.sqrt(length * 16)
        assert 0.9 * most < noise[part].abs().max() <= most * 1.001
    most = 5 / math.sqrt(100 * 16)
    assert noise[25:125].std() == pytest.approx(most / math.sqrt(3), rel=0.05)
    assert abs(float(noise[25:125].mean())) < 0.05 * most


def test_there_is_none_in_scores_and_none_by_default(embedded):
    """Frozen models and evaluations read the text as it is."""
    position_ids = torch.arange(20)[None]
    for neftune, training in ((5.0, False), (None, True)):
        noisy, plain = embedded(neftune, training, position_ids)
        assert torch.equal(noisy, plain)


def test_the_noise_follows_the_step_s_seed(embedded):
    """So a resumed run draws the same."""
    position_ids = torch.arange(20)[None]
    assert torch.equal(embedded(5.0, True, position_ids)[0], embedded(5.0, True, position_ids)[0])


def test_it_is_transformers_noise_on_a_row_of_one_document(bench):
    """The same numbers as the hook of transformers' trainer."""
    from transformers.integrations.neftune import neftune_post_forward_hook

    model = bench.model()
    EmbeddingNoise(5.0).attach(model)
    embedding = model.get_input_embeddings()
    ids, places = torch.arange(30)[None], torch.arange(30)[None]
    torch.manual_seed(1)
    seen = []
    layer = model.model.layers[0]
    layer.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    hidden_states(model, input_ids=ids, position_ids=places)
    embedding.neftune_noise_alpha = 5.0
    plain = embedding.weight.detach()[ids]
    torch.manual_seed(1)
    torch.testing.assert_close(seen[0], neftune_post_forward_hook(embedding, (ids,), plain))


def test_lengths_are_read_off_the_positions():
    """Documents begin at 0; padding is documents of one token."""
    positions = torch.tensor([[0, 1, 2, 0, 1, 0], [0, 0, 1, 2, 3, 0]])
    assert document_lengths(positions).tolist() == [[3, 3, 3, 2, 2, 1], [1, 4, 4, 4, 4, 1]]


def test_degrees_that_never_call_the_whole_model_are_refused(stage, write_spec, engine, sums):
    """With both values; the others are fine."""
    spec = stage(sums, {"type": "sft", "neftune": 5}, strategy={"type": "mesh", "pipeline": 2})
    told = engine("validate", write_spec(spec), "--nproc", 2, status=2).stderr
    assert "neftune 5 does not work with pipeline 2" in " ".join(told.split())
