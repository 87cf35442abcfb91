"""Any number of texts with their labels."""

from __future__ import annotations

from dataclasses import dataclass

from labelled_texts.harmless import EN_FILL, HARMLESS, ZH_FILL
from labelled_texts.sensitive import SENSITIVE
from labelled_texts.writer import Writer

FILL = {"en": EN_FILL, "zh": ZH_FILL}


@dataclass(frozen=True)
class Text:
    """``labels``: what is sensitive in it, nothing where it is harmless."""

    text: str
    labels: frozenset[str]
    language: str
    source: str


def labelled_texts(count: int, seed: int) -> list[Text]:
    """About half of them sensitive, spread evenly over kinds and languages."""
    writer = Writer(seed)
    sensitive, harmless = list(SENSITIVE.items()), list(HARMLESS.items())
    texts = []
    for number in range(count):
        group = sensitive if number % 2 else harmless
        kind, write = group[number // 2 % len(group)]
        text = _between_harmless(write(writer), kind.language, writer)
        texts.append(Text(text, kind.labels, kind.language, kind.name))
    writer.r.shuffle(texts)
    return texts


def _between_harmless(core: str, language: str, writer: Writer) -> str:
    """The core, often with harmless sentences around it."""
    fill = FILL.get(language)
    if not fill or writer.r.random() < 0.3:
        return core
    before, after = (writer.r.choices(fill, k=writer.r.randint(0, 3)) for _ in range(2))
    return (" " if language == "en" else "").join([*before, core, *after])
