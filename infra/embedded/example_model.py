"""The example model: a tiny Llama with its tokenizer, made here, so that no hub is needed.

Its weights are random (fixed seed), so its answers are nonsense; its shape is real: safetensors, a
byte-level BPE tokenizer and a chat template, which a real vLLM loads like any other model. Head size is
64 because engines refuse small heads only at their first request, after they have said they are healthy.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL_NAME = "tiny-llama"

_SEED = 20_240_229
_VOCABULARY = 512
_HIDDEN = 256
_HEADS = 4
_LAYERS = 2
_INTERMEDIATE = 512
_CONTEXT_TOKENS = 2048
_TOKENIZER_TEXT = (
    "Meridian serves language models on GPUs rented from many clouds as if they were one pool. "
    "A request goes to the nearest region that has room; when a replica, a node or a region fails, "
    "another takes over and the answer goes on. The quick brown fox jumps over the lazy dog. "
    "What is the capital of France? Tell me a short story about the sea, please. Hello, how are you? "
    "Engines batch requests, keep keys and values of earlier tokens in memory, and stream their answers "
    "word by word over the network while operators watch latency, throughput and the price of an hour."
)
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_SPECIAL_TOKENS = ("<|begin|>", "<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>")


@dataclass(frozen=True)
class ExampleModel:
    """The model on disk: its folder and the digest that the catalog stores for it."""

    path: Path
    digest: str

    @property
    def source_uri(self) -> str:
        """The folder as a ``file://`` address."""
        return self.path.as_uri()


def ensure(cache_dir: Path) -> ExampleModel:
    """Make the model under ``cache_dir/models`` unless it is there whole, and return it.

    Raises OSError when the folder can't be written.
    """
    path = (cache_dir / "models" / MODEL_NAME).resolve()
    if _is_whole(path):
        return ExampleModel(path=path, digest=folder_digest(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{MODEL_NAME}-", dir=path.parent))
    try:
        _write(scratch)
        (scratch / ".whole").write_text(folder_digest(scratch) + "\n")
        scratch.chmod(0o755)
        shutil.rmtree(path, ignore_errors=True)
        scratch.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return ExampleModel(path=path, digest=folder_digest(path))


def folder_digest(path: Path) -> str:
    """Digest of a model folder: ``sha256:`` over the lines ``<sha256 of the file>  <name>\\n`` by name.

    The same as ``sha256sum * | sha256sum`` in the C locale; hidden files don't count.
    """
    names = sorted(entry.name for entry in path.iterdir() if entry.is_file() and entry.name[0] != ".")
    listing = "".join(f"{hashlib.sha256((path / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    return "sha256:" + hashlib.sha256(listing.encode()).hexdigest()


def _is_whole(path: Path) -> bool:
    try:
        return (path / ".whole").read_text().strip() == folder_digest(path)
    except OSError:
        return False


def _write(folder: Path) -> None:
    # Imported late: `status` and `down` should not pay for the tokenizer's and the weights' libraries.
    from safetensors.numpy import save_file

    ids = _write_tokenizer(folder)
    _write_json(folder / "config.json", _config(ids))
    _write_json(
        folder / "generation_config.json",
        {"bos_token_id": ids["<|begin|>"], "eos_token_id": ids["<|end|>"], "pad_token_id": ids["<|pad|>"]},
    )
    save_file(_weights(), str(folder / "model.safetensors"), metadata={"format": "pt"})


def _write_tokenizer(folder: Path) -> dict[str, int]:
    """Train and write the tokenizer; return the ids of the special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=list(_SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_TOKENIZER_TEXT], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|begin|>",
            "eos_token": "<|end|>",
            "pad_token": "<|pad|>",
            "clean_up_tokenization_spaces": False,
            "model_max_length": _CONTEXT_TOKENS,
            "chat_template": _CHAT_TEMPLATE,
        },
    )
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return {token: vocabulary[token] for token in _SPECIAL_TOKENS}


def _config(ids: dict[str, int]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": _VOCABULARY,
        "hidden_size": _HIDDEN,
        "intermediate_size": _INTERMEDIATE,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _HEADS,
        "head_dim": _HIDDEN // _HEADS,
        "hidden_act": "silu",
        "max_position_embeddings": _CONTEXT_TOKENS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": ids["<|begin|>"],
        "eos_token_id": ids["<|end|>"],
        "pad_token_id": ids["<|pad|>"],
        "torch_dtype": "float32",
    }


def _weights() -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng(_SEED)

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return (generator.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.05)).astype(
            np.float32
        )

    weights = {"model.embed_tokens.weight": matrix(_VOCABULARY, _HIDDEN)}
    for layer in range(_LAYERS):
        prefix = f"model.layers.{layer}"
        for projection in ("q_proj", "k_proj", "v_proj", "o_proj"):
            weights[f"{prefix}.self_attn.{projection}.weight"] = matrix(_HIDDEN, _HIDDEN)
        weights[f"{prefix}.mlp.gate_proj.weight"] = matrix(_INTERMEDIATE, _HIDDEN)
        weights[f"{prefix}.mlp.up_proj.weight"] = matrix(_INTERMEDIATE, _HIDDEN)
        weights[f"{prefix}.mlp.down_proj.weight"] = matrix(_HIDDEN, _INTERMEDIATE)
        weights[f"{prefix}.input_layernorm.weight"] = np.ones(_HIDDEN, dtype=np.float32)
        weights[f"{prefix}.post_attention_layernorm.weight"] = np.ones(_HIDDEN, dtype=np.float32)
    weights["model.norm.weight"] = np.ones(_HIDDEN, dtype=np.float32)
    weights["lm_head.weight"] = matrix(_VOCABULARY, _HIDDEN)
    return weights


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
