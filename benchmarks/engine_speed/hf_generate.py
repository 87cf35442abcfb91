"""Answer prompts by Hugging Face's `generate`, as lines of JSON.

    python hf_generate.py MODEL_DIR --threads N

Reads a job from each line of the standard input and writes to the standard output:
`{"prompts": [[...]], "output": n}` gives a line `{"ids": [...]}` for each step, with one token of
each prompt, and `{"done": true}`. `"keep": "name"` keeps the cache of one prompt's keys and values
under this name, and goes on with the one kept before, where the prompt begins with its tokens.
`{"margin": [...]}` gives how far the best token's logit is above the second best's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# First: it lets torchvision be imported, which transformers does, also without a GPU.
import sglang  # noqa: F401  isort: skip

import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.generation.streamers import BaseStreamer


class Lines(BaseStreamer):
    """Writes each step's tokens as soon as `generate` has them."""

    def __init__(self) -> None:
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        """Take the prompts, and then a token of each at every step."""
        if self._prompt_seen:
            say({"ids": value.tolist()})
        self._prompt_seen = True

    def end(self) -> None:
        """Do nothing: `done` is said by the job."""


class Generator:
    """A model, and the caches that jobs asked to be kept."""

    def __init__(self, folder: Path) -> None:
        load: Any = AutoModelForCausalLM.from_pretrained
        self._model = load(folder, dtype=torch.float32).eval()
        self._padding = self._model.generation_config.pad_token_id
        # As `ignore_eos` of the servers: an end marker is a token like any other.
        self._model.generation_config.eos_token_id = None
        self._kept: dict[str, tuple[list[int], DynamicCache]] = {}

    def generate(self, job: Mapping[str, Any]) -> None:
        """Stream `output` tokens of each prompt; several are padded on the left."""
        prompts: Sequence[list[int]] = job["prompts"]
        longest = max(map(len, prompts))
        gaps = [longest - len(prompt) for prompt in prompts]
        padded = [[self._padding] * n + p for n, p in zip(gaps, prompts, strict=True)]
        mask = [[0] * n + [1] * len(p) for n, p in zip(gaps, prompts, strict=True)]
        name: str | None = job.get("keep")
        cache = None if name is None else self._cache_for(name, prompts[0])
        ids = self._model.generate(
            torch.tensor(padded),
            attention_mask=torch.tensor(mask),
            max_new_tokens=job["output"],
            do_sample=False,
            streamer=Lines(),
            past_key_values=cache,
        )
        if name is not None and cache is not None:
            self._kept[name] = (ids[0].tolist()[: cache.get_seq_length()], cache)

    def _cache_for(self, name: str, prompt: Sequence[int]) -> DynamicCache:
        tokens, cache = self._kept.pop(name, ([], None))
        goes_on = len(tokens) < len(prompt) and prompt[: len(tokens)] == tokens
        return cache if cache is not None and goes_on else DynamicCache(config=self._model.config)

    def margin(self, tokens: Sequence[int]) -> float:
        with torch.inference_mode():
            logits = self._model(torch.tensor([tokens])).logits[0, -1]
        best, second = torch.topk(logits, 2).values.tolist()
        return float(best - second)

    def forget(self) -> None:
        self._kept.clear()


def say(message: Mapping[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def main() -> None:
    """Do the jobs of the standard input until it ends."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="MODEL_DIR")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = Generator(options.folder)
    say({"ready": True, "threads": torch.get_num_threads(), "version": transformers.__version__})
    for line in sys.stdin:
        job = json.loads(line)
        if "margin" in job:
            say({"margin": generator.margin(job["margin"])})
        elif "forget" in job:
            generator.forget()
            say({"done": True})
        else:
            generator.generate(job)
            say({"done": True})


if __name__ == "__main__":
    main()
