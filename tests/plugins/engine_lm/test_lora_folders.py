"""A LoRA in a folder is folded into its base, and refused where it was made for another."""

from __future__ import annotations

import shutil

import pytest
import torch
from engine_lm.config import Pretrained
from engine_lm.opening import open_model
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from engine import RunError


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # get_peft_model
@pytest.mark.parametrize("own_base", [False, True])
def test_a_lora_with_its_base_is_folded_into_it(whole, tmp_path, own_base):
    """As peft merges them, whether the base is another folder or the adapter's own."""
    base = open_model(str(whole), None)
    adapted = get_peft_model(
        base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    )
    adapted.peft_config["default"].base_model_name_or_path = str(whole)
    folder = tmp_path / "lora"
    if own_base:
        shutil.copytree(whole, folder)
    adapted.save_pretrained(folder)
    expected = adapted.merge_and_unload().state_dict()
    found = open_model(str(folder), None)
    assert found.state_dict().keys() == expected.keys()
    for name, weight in found.state_dict().items():
        torch.testing.assert_close(weight, expected[name])
    assert all(parameter.requires_grad for parameter in found.parameters())
    looked_at = list(Pretrained(path=str(folder)).reads())  # before a stage goes on
    assert looked_at == ([str(folder)] if own_base else [str(folder), str(whole)])


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # get_peft_model
@pytest.mark.parametrize("odd", ["more", "fewer"])
def test_a_lora_of_another_base_is_refused_by_a_name(whole, tmp_path, odd):
    """peft leaves out the weights that have no place, and draws anew those that are missing."""
    adapted = get_peft_model(
        open_model(str(whole), None), LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    )
    adapted.peft_config["default"].base_model_name_or_path = str(whole)
    adapted.save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    if odd == "more":
        weights |= {n.replace("layers.0", "layers.1"): w.clone() for n, w in weights.items()}
    else:
        weights = {n: w for n, w in weights.items() if "q_proj" in n}
    save_file(weights, file, {"format": "pt"})
    told = {"more": r"4 weights .*layers\.1\.self_attn", "fewer": r"2 weights .*v_proj"}[odd]
    with pytest.raises(RunError, match=f"'{tmp_path}' was made for another base: {told}"):
        open_model(str(tmp_path), None)
