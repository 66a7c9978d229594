"""The example model is made here, always the same, and whole or not at all."""

import json
import subprocess
from pathlib import Path

from safetensors.numpy import load_file
from tokenizers import Tokenizer

from infra.embedded import example_model


def test_two_makings_are_equal_to_the_byte(tmp_path: Path) -> None:
    """The digest is stable, so that the catalog can name it, and anyone can check it with two commands."""
    first = example_model.ensure(tmp_path / "one")
    second = example_model.ensure(tmp_path / "a second")
    assert first.digest == second.digest
    shell = subprocess.run(
        ["sh", "-c", "export LC_ALL=C; sha256sum * | sha256sum"],
        cwd=first.path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert first.digest == f"sha256:{shell.stdout.split()[0]}"
    assert second.source_uri.endswith("/a%20second/models/tiny-llama")


def test_the_model_is_one_that_engines_accept(tmp_path: Path) -> None:
    """Safetensors only, heads of 32 or more, a tokenizer that gives back every text, a chat template."""
    path = example_model.ensure(tmp_path).path
    config = json.loads((path / "config.json").read_text())
    assert config["head_dim"] >= 32
    weights = load_file(path / "model.safetensors")
    assert weights["lm_head.weight"].shape == (config["vocab_size"], config["hidden_size"])
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    text = "Grüße aus 東京, and 12 € to you!"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert json.loads((path / "tokenizer_config.json").read_text())["chat_template"]
    assert not list(path.glob("*.bin"))


def test_a_damaged_model_is_made_again(tmp_path: Path) -> None:
    """What a crash or a full disk left is not served."""
    made = example_model.ensure(tmp_path)
    (made.path / "model.safetensors").write_bytes(b"half")
    assert example_model.ensure(tmp_path) == made
    assert example_model.folder_digest(made.path) == made.digest
