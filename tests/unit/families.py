"""A tiny model of each family in docs/models.md, with whatever makes the family special set as its real models have it.

Weights are large and biases not zero, so that what a family does beyond the common shows in its logits.
"""

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

LAYERS = 5
COMMON = {
    "vocab_size": 102,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "eos_token_id": 1,
    "bos_token_id": None,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_group": 1, "topk_group": 1}
LATENT = {
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
    "first_k_dense_replace": 1,
}
MAMBA = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "mamba_chunk_size": 16,
}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}


def mixed(other, attention="full_attention"):
    """Kinds of layers: attention in the middle alone, so that it stays when three of the five are kept."""
    return [other, other, attention, other, other]


SPECIAL = {
    "bamba": MAMBA | {"attn_layer_indices": [2]},
    "codegen": {"rotary_dim": 4},
    "cohere2": {"sliding_window": 8},
    "deepseek_v2": ROUTED | LATENT | {"q_lora_rank": None},
    "deepseek_v3": ROUTED | LATENT | {"n_shared_experts": 1, "head_dim": 4},
    "dots1": ROUTED | {"n_shared_experts": 1, "first_k_dense_replace": 1},
    "falcon_h1": MAMBA | {"mamba_d_ssm": 64, "lm_head_multiplier": 0.02},
    "falcon_mamba": {"state_size": 8},
    "gemma2": {"sliding_window": 8, "final_logit_softcapping": 30.0},
    "gemma3_text": {"sliding_window": 8},
    "gemma3n_text": {
        "vocab_size_per_layer_input": 102,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 4,
        "num_kv_shared_layers": 0,
        "layer_types": mixed("sliding_attention"),
        "activation_sparsity_pattern": [0.0] * LAYERS,
    },
    "glm4_moe": ROUTED,
    "gpt_neo": {"attention_types": [[["global"], LAYERS]], "window_size": 8},
    "gpt_oss": EXPERTS | {"sliding_window": 8},
    "gptj": {"rotary_dim": 4},
    "granite": {"logits_scaling": 8.0},
    "granitemoehybrid": MAMBA
    | {
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "shared_intermediate_size": 48,
        "layer_types": mixed("mamba", "attention"),
        "logits_scaling": 8.0,
    },
    "jamba": {
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "attn_layer_period": 4,
        "attn_layer_offset": 2,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
    },
    "lfm2": {"layer_types": mixed("conv"), "block_auto_adjust_ff_dim": False},
    "lfm2_moe": EXPERTS | {"layer_types": mixed("conv"), "num_dense_layers": 1},
    "llama4_text": {"intermediate_size_mlp": 48, "num_local_experts": 2, "num_experts_per_tok": 1},
    "mamba": {"state_size": 8},
    "mamba2": {"state_size": 8, "num_heads": 8, "expand": 2, "n_groups": 1, "chunk_size": 16},
    "minimax": {"num_local_experts": 2, "layer_types": mixed("linear_attention"), "block_size": 16},
    "mixtral": EXPERTS,
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": LAYERS, "expansion_ratio": 2, "max_seq_len": 256},
    "nemotron_h": {
        "layers_block_type": ["mamba", "mlp", "attention", "mlp", "mamba"],
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 1,
        "expand": 2,
        "chunk_size": 16,
    },
    "olmoe": EXPERTS,
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "qwen2": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    "qwen2_moe": EXPERTS | {"shared_expert_intermediate_size": 16},
    "qwen3_5_text": LINEAR | {"layer_types": mixed("linear_attention")},
    "qwen3_moe": EXPERTS,
    "qwen3_next": EXPERTS | LINEAR | {"shared_expert_intermediate_size": 16, "layer_types": mixed("linear_attention")},
    "recurrent_gemma": {"lru_width": 32, "attention_window_size": 16},
    "rwkv": {"attention_hidden_size": 32, "context_length": 256},
    "smollm3": {"no_rope_layers": [1, 1, 0, 1, 1]},
    "zamba2": {
        "mamba_d_state": 8,
        "mamba_ngroups": 1,
        "n_mamba_heads": 8,
        "num_mem_blocks": 1,
        "chunk_size": 16,
        "layers_block_type": mixed("mamba", "hybrid"),
    },
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "projector_input_dim": 16,
    "projector_output_dim": 16,
    "vision_output_dim": 16,
}
WITH_VISION = {"gemma3": "gemma3_text", "llama4": "llama4_text"}  # the text part of a model that also sees


def config_of(family):
    if family in WITH_VISION:
        text = {"model_type": WITH_VISION[family]} | COMMON | SPECIAL[WITH_VISION[family]]
        return CONFIG_MAPPING[family](text_config=text, vision_config=VISION)
    values = COMMON | SPECIAL.get(family, {})
    if family == "falcon":  # computes it
        del values["head_dim"]
    return CONFIG_MAPPING[family](**values)


def tiny(family):
    """A randomly initialised model; the same at every call."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(family)).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() > 1:
                weights.mul_(6)
            elif name.endswith("bias"):
                weights.normal_()
    return model
