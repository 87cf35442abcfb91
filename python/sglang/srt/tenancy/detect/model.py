"""The second tier: any token classifier that transformers can load from a folder.

Its label ``O`` stands for a token of no entity, as in the data sets that such models are made
from; what it gives all other labels together is how sensitive a token is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sglang.srt.tenancy.detect.finding import Finding

if TYPE_CHECKING:
    import torch

NOTHING = "O"
SURE, OPEN = 0.7, 0.3  # of a token: from here on sensitive, from here on left open
WINDOW, OVERLAP = 256, 64  # the model's own tokens
BATCH = 16  # windows


def check_folder(folder: str) -> None:
    """Raises ValueError that says what is missing of a usable model."""
    config = Path(folder) / "config.json"
    try:
        labels = json.loads(config.read_text()).get("id2label", {})
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--tenant-detector-model: {config} cannot be read ({error}); give the folder of a "
            "token-classification checkpoint"
        ) from None
    if NOTHING not in labels.values():
        raise ValueError(
            f"--tenant-detector-model: none of the labels in {config} is {NOTHING!r}, for tokens "
            "of no entity; give a token-classification checkpoint that has one"
        )


class Model:
    """A finder (``scan.Finder``) with the model in ``folder``; nothing is downloaded."""

    def __init__(self, folder: str):
        import torch
        from transformers import AutoModelForTokenClassification, AutoTokenizer

        torch.set_num_threads(1)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model: Any = AutoModelForTokenClassification.from_pretrained(
            folder, local_files_only=True
        ).eval()
        self._labels: dict[int, str] = self._model.config.id2label
        (self._nothing,) = (i for i, label in self._labels.items() if label == NOTHING)

    def find_all(self, texts: Sequence[tuple[str, int]]) -> list[list[Finding]]:
        found: list[list[Finding]] = [[] for _ in texts]
        if not texts:
            return found
        clean = [text.encode(errors="replace").decode() for text, _ in texts]
        windows = self._tokenizer(
            clean,
            truncation=True,
            max_length=WINDOW,
            stride=OVERLAP,
            padding=True,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        offsets = windows.pop("offset_mapping").tolist()
        of_text = windows.pop("overflow_to_sample_mapping").tolist()
        for begin in range(0, len(offsets), BATCH):
            part = slice(begin, begin + BATCH)
            scores = self._scores({name: tensor[part] for name, tensor in windows.items()})
            for which, spans, score in zip(of_text[part], offsets[part], scores, strict=True):
                found[which] += self._findings(spans, score)
        starts = (start for _, start in texts)
        return [
            sorted({one for one in findings if one.start >= start}, key=lambda one: one.start)
            for findings, start in zip(found, starts, strict=True)
        ]

    def _scores(self, inputs: dict[str, torch.Tensor]) -> list[list[tuple[float, int]]]:
        """Score each window and token: how sensitive, and as which label most likely."""
        import torch

        with torch.inference_mode():
            chances = self._model(**inputs).logits.softmax(-1)
            sensitive = 1 - chances[..., self._nothing]
            chances[..., self._nothing] = 0
            labels = chances.argmax(-1)
        return [
            list(zip(row.tolist(), of_row.tolist(), strict=True))
            for row, of_row in zip(sensitive, labels, strict=True)
        ]

    def _findings(
        self, spans: Sequence[Sequence[int]], scores: Sequence[tuple[float, int]]
    ) -> list[Finding]:
        found = []
        for (start, end), (score, label) in zip(spans, scores, strict=True):
            if end > start and score >= OPEN:  # special tokens have no span
                found.append(Finding(f"model: {self._labels[label]}", start, end, score >= SURE))
        return found
