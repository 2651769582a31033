"""A small Qwen3 checkpoint as the GGUF file that llama.cpp reads: the same weights, in float32, and its tokenizer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
from safetensors.numpy import load_file

if TYPE_CHECKING:
    from pathlib import Path

ARCHITECTURE = gguf.MODEL_ARCH.QWEN3
HEAD_TYPE = gguf.GGMLQuantizationType.Q4_0


def write_gguf(checkpoint: Path, target: Path, *, add_eos: bool = False, eos: str = "<|endoftext|>") -> Path:
    """Write a folder of `save_qwen3` as GGUF.

    Args:
        checkpoint: Holds `config.json`, `model.safetensors` and `tokenizer.json`.
        target: The file to write.
        add_eos: Whether a server is to append EOS to texts that it tokenises; token ids are taken as they are.
        eos: The token that it appends.
    """
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[ARCHITECTURE])
    _add_shape(writer, config)
    _add_tokenizer(writer, tokenizer, config["vocab_size"])
    writer.add_eos_token_id(_ids(tokenizer)[eos])
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(add_eos)
    _add_weights(writer, checkpoint / "model.safetensors", config["num_hidden_layers"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _add_shape(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    # transformers 5 writes it under `rope_parameters`.
    writer.add_rope_freq_base(config.get("rope_theta") or config["rope_parameters"]["rope_theta"])
    writer.add_pooling_type(gguf.PoolingType.LAST)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: dict[str, Any], size: int) -> None:
    tokens = [f"[PAD{row}]" for row in range(size)]  # the matrix has more rows than there are tokens
    kinds = [gguf.TokenType.UNUSED] * size
    for token, row in tokenizer["model"]["vocab"].items():
        tokens[row], kinds[row] = token, gguf.TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(
        [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]]
    )


def _add_weights(writer: gguf.GGUFWriter, file: Path, layers: int) -> None:
    names = gguf.get_tensor_name_map(ARCHITECTURE, layers)
    weights = load_file(file)
    for name, tensor in weights.items():
        found = names.get_name(name, try_suffixes=(".weight",))
        assert found is not None, f"GGUF has no name for {name}"
        writer.add_tensor(found, tensor)
    _add_empty_head(writer, *weights["embed_tokens.weight"].shape)


def _add_empty_head(writer: gguf.GGUFWriter, vocabulary: int, width: int) -> None:
    """Zeros for the scores of next tokens, in four bits: llama.cpp computes them for every token that it embeds, and
    with these small layers they would be nearly all of its work.
    """
    blocks, size = gguf.GGML_QUANT_SIZES[HEAD_TYPE]
    writer.add_tensor("output.weight", np.zeros((vocabulary, width // blocks * size), np.uint8), raw_dtype=HEAD_TYPE)


def _ids(tokenizer: dict[str, Any]) -> dict[str, int]:
    return {added["content"]: added["id"] for added in tokenizer["added_tokens"]}
