"""Qwen3's real tokenizer, built offline from the BPE ranks that PyPI's `dashscope` ships."""

from __future__ import annotations

import json
from functools import cache
from importlib import metadata
from pathlib import Path

import tiktoken
from tiktoken.load import load_tiktoken_bpe
from tokenizers import AddedToken, Tokenizer, normalizers
from transformers.convert_slow_tokenizer import TikTokenConverter

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
MERELY_ADDED = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>",
)  # fmt: skip
CONTROLS = {name: 151643 + offset for offset, name in enumerate((*SPECIAL, *MERELY_ADDED))}


def ranks_path() -> Path:
    """The file of ranks, found without importing the package's code."""
    (found,) = (file for file in metadata.files("dashscope") or [] if file.name == "qwen.tiktoken")
    return Path(str(found.locate()))


@cache
def qwen_tokenizer() -> Tokenizer:
    """The tokenizer as Hugging Face's library runs it: control tokens are parsed wherever they stand."""
    tokenizer = TikTokenConverter(
        vocab_file=str(ranks_path()), pattern=PATTERN, extra_special_tokens=[], additional_special_tokens=[]
    ).converted()
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in MERELY_ADDED])
    assert {name: tokenizer.token_to_id(name) for name in CONTROLS} == CONTROLS
    return tokenizer


@cache
def qwen_ranks() -> tiktoken.Encoding:
    """The same ranks as tiktoken runs them, without any control token; it does not normalise."""
    return tiktoken.Encoding(
        "qwen", pat_str=PATTERN, mergeable_ranks=load_tiktoken_bpe(str(ranks_path())), special_tokens={}
    )


def save_qwen_tokenizer(folder: Path) -> None:
    """Write `tokenizer.json` and the config that transformers needs to read it."""
    qwen_tokenizer().save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
