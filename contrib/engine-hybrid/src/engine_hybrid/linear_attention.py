"""Gated linear attention in chunks (Yang et al. 2024, "Gated Linear Attention Transformers with
Hardware-Efficient Training"), with one decay for each head as in Mamba-2 (Dao & Gu 2024).

Shapes: B rows, T tokens, C tokens of a chunk, H heads, E width of a head, D channels, W tokens of a
convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

CHUNK = 64


def linear_attention(
    query_BHTE: Tensor,
    key_BHTE: Tensor,
    value_BHTE: Tensor,
    log_decay_BHT: Tensor,
    position_BT: Tensor,
    state_BHEE: Tensor | None = None,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """o_t = S_tᵀ q_t with S_t = exp(log_decay_t) · S_{t-1} + k_t v_tᵀ: every o, ``_BHTE``, and the
    last S, ``_BHEE``.

    A position of 0 begins a document, with S = 0. ``state_BHEE``: S before the first token. Within
    a chunk this is attention with decaying weights. Only S goes from chunk to chunk, so the cost
    is linear in T.
    """
    document_BT = (position_BT == 0).cumsum(1)
    state = key_BHTE.new_zeros(*key_BHTE.shape[:2], key_BHTE.shape[3], value_BHTE.shape[3])
    if state_BHEE is not None:
        state = state_BHEE
    before_B1 = torch.zeros_like(document_BT[:, :1])  # the document that the state belongs to
    out = []
    for start in range(0, position_BT.shape[1], chunk):
        part = slice(start, start + chunk)
        query, key, value = (x[:, :, part] for x in (query_BHTE, key_BHTE, value_BHTE))
        document_BC = document_BT[:, part]
        decay_BHC = log_decay_BHT[:, :, part].cumsum(-1)
        seen_BCC = (document_BC[:, :, None] == document_BC[:, None]).tril()
        between = decay_BHC[..., :, None] - decay_BHC[..., None, :]
        weights = between.masked_fill(~seen_BCC[:, None], -torch.inf).exp()
        goes_on_B1C = (document_BC == before_B1)[:, None]
        carried_BHC = decay_BHC.exp() * goes_on_B1C
        inside = (query @ key.mT * weights) @ value
        out.append(inside + carried_BHC[..., None] * (query @ state))
        before_B1 = document_BC[:, -1:]
        to_end = (decay_BHC[..., -1:] - decay_BHC).exp() * (document_BC == before_B1)[:, None]
        state = carried_BHC[..., -1, None, None] * state + (key * to_end[..., None]).mT @ value
    return torch.cat(out, 2), state


def convolution(inputs_BDT: Tensor, weight_DW: Tensor, position_BT: Tensor) -> Tensor:
    """Σ_i weight_i · input_{t-i} over the last W tokens of the same document, ``_BDT``.

    ``inputs_BDT`` may have more tokens than ``position_BT``: those before them.
    """
    tokens, width = position_BT.shape[1], weight_DW.shape[1]
    inputs_BDT = pad(inputs_BDT, (width - 1, 0))[..., -(tokens + width - 1) :]
    out_BDT = inputs_BDT[..., -tokens:] * weight_DW[:, -1:]
    for back in range(1, width):
        earlier_BDT = inputs_BDT[..., width - 1 - back :][..., :tokens]
        weight_BDT = weight_DW[:, -1 - back, None] * (position_BT >= back)[:, None]
        out_BDT = out_BDT + earlier_BDT * weight_BDT
    return out_BDT
