"""Make a small language model with random weights, for demos and tests.

    python scripts/demo_model.py DIR [--size tiny|bench] [--seed N]

The model is a Llama with a byte-level tokenizer and a chat template. Its
replies are gibberish in small letters, and they depend on the whole prompt: a
wrong prefix in a cache shows. The same size and seed give the same bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import string
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

PAD, BEGIN, SYSTEM, USER, ASSISTANT, END = (
    "<|pad|>",
    "<|begin|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
)
SPECIAL_TOKENS = (PAD, BEGIN, SYSTEM, USER, ASSISTANT, END)
BYTES = 256
VOCABULARY = BYTES + len(SPECIAL_TOKENS)

# What the model may say. A space comes up often enough to make words.
SPOKEN = string.ascii_lowercase + " ,."

CHAT_TEMPLATE = """\
{%- for message in messages %}
{%- if message.role not in ('system', 'user', 'assistant') %}
{{- raise_exception('role ' ~ message.role ~ ' is unknown: use system, user or assistant') }}
{%- endif %}
{{- '<|' ~ message.role ~ '|>' ~ message.content ~ '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|assistant|>' }}
{%- endif %}"""

RECIPE_FILE = "recipe.json"

Array = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a model. Head width is 64 throughout."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    feed_forward: int
    context: int
    head_width: int = 64


SHAPES = {
    "tiny": Shape(2, 128, 4, 2, 256, 16_384),
    "bench": Shape(6, 512, 8, 4, 1_536, 16_384),
}


def main() -> None:
    """Make the model that the command line asks for."""
    arguments = _parser().parse_args()
    made = make_model(arguments.directory, arguments.size, arguments.seed)
    print(f"{'Made' if made else 'Found'} the {arguments.size} demo model in {arguments.directory}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--size", choices=sorted(SHAPES), default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def make_model(directory: Path, size: str = "tiny", seed: int = 0) -> bool:
    """Put a model into `directory`; return False where it is there already.

    Raises FileExistsError where the directory holds something else.
    """
    recipe = {"size": size, "seed": seed, "program": _own_hash()}
    if _is_made(directory, recipe):
        return False
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".making-") as place:
        draft = Path(place) / "new"
        draft.mkdir()
        _write(draft, SHAPES[size], seed)
        _write_json(draft / RECIPE_FILE, recipe)
        if directory.exists():
            # Gone together with the temporary directory.
            directory.rename(Path(place) / "old")
        draft.rename(directory)
    return True


def _own_hash() -> str:
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def _is_made(directory: Path, recipe: dict[str, Any]) -> bool:
    if not directory.exists() or not any(directory.iterdir()):
        return False
    marker = directory / RECIPE_FILE
    if not marker.exists():
        raise FileExistsError(
            f"{directory} is not empty and holds no demo model: "
            "name another directory, or empty this one"
        )
    return bool(json.loads(marker.read_text()) == recipe)


def _write(directory: Path, shape: Shape, seed: int) -> None:

    save_file(
        make_weights(shape, seed),
        directory / "model.safetensors",
        metadata={"format": "pt"},
    )
    make_tokenizer().save(str(directory / "tokenizer.json"))
    _write_json(directory / "config.json", _config(shape))
    _write_json(directory / "tokenizer_config.json", tokenizer_config(shape.context))
    _write_json(
        directory / "generation_config.json",
        {"eos_token_id": token_id(END), "pad_token_id": token_id(PAD)},
    )
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def token_id(special: str) -> int:
    """Return the id of a special token; a byte's id is its value."""
    return BYTES + SPECIAL_TOKENS.index(special)


def make_tokenizer(words: Sequence[str] = ()) -> Tokenizer:
    """Return a tokenizer with one token per UTF-8 byte, and the chat markers.

    `words` get the ids after those. No text is encoded by them, but a model may say them.
    """
    spoken = [*_byte_letters(), *SPECIAL_TOKENS, *words]
    vocabulary = {token: number for number, token in enumerate(spoken)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    return tokenizer


def _byte_letters() -> list[str]:
    """Return the letter by which byte-level tokenizers write each byte.

    Visible Latin-1 characters stand for themselves, the rest come after 255.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(BYTES, 2 * BYTES))
    return [chr(byte if byte in visible else next(spare)) for byte in range(BYTES)]


def tokenizer_config(context: int) -> dict[str, Any]:
    """Return what belongs to the tokenizer and is not in its own file."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": False,
    }


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "intermediate_size": shape.feed_forward,
        "max_position_embeddings": shape.context,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "bos_token_id": token_id(BEGIN),
        "eos_token_id": token_id(END),
        "pad_token_id": token_id(PAD),
    }


def make_weights(shape: Shape, seed: int) -> dict[str, Array]:
    """Return random weights by name, float32."""
    random = np.random.default_rng(seed)
    weights: dict[str, Array] = {}
    embedding = _embedding(random, shape)
    weights["model.embed_tokens.weight"] = embedding
    for layer in range(shape.layers):
        weights |= _layer(random, shape, f"model.layers.{layer}.")
    weights["model.norm.weight"] = np.ones(shape.width, np.float32)
    weights["lm_head.weight"] = _output(random, shape, embedding)
    return weights


def _matrix(random: np.random.Generator, rows: int, columns: int, scale: float = 1.0) -> Array:
    """Return a matrix that keeps the size of what it multiplies, times `scale`."""
    table: Array = random.standard_normal((rows, columns), np.float32)
    table *= np.float32(scale / columns**0.5)
    return table


def _embedding(random: np.random.Generator, shape: Shape) -> Array:
    table = random.standard_normal((VOCABULARY, shape.width), np.float32)
    # Coordinate 0 is 1 for every token. No layer writes to it, so that the
    # output matrix can use it as the bias that Llama does not have.
    table[:, 0] = 1.0
    return table


def _layer(random: np.random.Generator, shape: Shape, prefix: str) -> dict[str, Array]:
    width, head = shape.width, shape.head_width
    # Sharp attention: it picks a few tokens, where a flat average over a long
    # prompt would be the same for all prompts.
    query = _matrix(random, shape.heads * head, width, scale=3.0)
    # Loud layers: context outweighs the last letter, which alone would only
    # say what letter comes next and soon turn in a circle.
    loud = 5.0 / shape.layers**0.5
    weights = {
        "self_attn.q_proj.weight": query,
        "self_attn.k_proj.weight": _matrix(random, shape.kv_heads * head, width),
        "self_attn.v_proj.weight": _matrix(random, shape.kv_heads * head, width),
        "self_attn.o_proj.weight": _matrix(random, width, shape.heads * head, scale=loud),
        "mlp.gate_proj.weight": _matrix(random, shape.feed_forward, width),
        "mlp.up_proj.weight": _matrix(random, shape.feed_forward, width),
        "mlp.down_proj.weight": _matrix(random, width, shape.feed_forward, scale=loud),
        "input_layernorm.weight": np.ones(width, np.float32),
        "post_attention_layernorm.weight": np.ones(width, np.float32),
    }
    for writer in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
        weights[writer][0] = 0.0
    return {prefix + name: weight for name, weight in weights.items()}


def _output(random: np.random.Generator, shape: Shape, embedding: Array) -> Array:
    """Return the output matrix `[vocabulary, width]`."""
    # A token's own embedding lowers its score, so letters seldom double.
    table = _matrix(random, VOCABULARY, shape.width, scale=3.0)
    table -= embedding * np.float32(20 / shape.width)
    table[:, 0] = -1_000.0
    for letter in SPOKEN:
        table[ord(letter), 0] = 0.0
    table[ord(" "), 0] = 10.0
    return table


if __name__ == "__main__":
    try:
        main()
    except FileExistsError as problem:
        sys.exit(f"error: {problem}")
