"""The text of token ids, byte for byte.

A scan result is about the tokens that the cache holds, so it is their bytes that are read: not the
text that a client sent, which a chat request does not even have.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

_PROBES = (
    'Zoë\'s naïve x = {"a": [1, 22.5]};\n\tif y != 3:  return 4444 1111\r\n\r\n',
    "北京市海淀区，电话：１３８。Здравствуйте! こんにちは 🙂🧑‍🚀 ',.-+/@#",
)


def bytes_of_tokens(tokenizer: Any) -> list[bytes] | None:
    """Return each token id's bytes; None where this tokenizer's tokens have no bytes of their
    own, so that none of the known readings gives a text back."""
    size = len(tokenizer)
    special = {id_: token.content.encode() for id_, token in tokenizer.added_tokens_decoder.items()}
    for reading in (_byte_level, _sentence_pieces, _one_by_one):
        try:
            vocabulary = list(reading(tokenizer, range(size)))
        except Exception:  # noqa: BLE001 - tokenizers of models bring their own code
            continue
        for id_, content in special.items():
            if id_ < size:
                vocabulary[id_] = content
        if all(_gives_back(tokenizer, vocabulary, probe) for probe in _PROBES):
            return vocabulary
    return None


def _gives_back(tokenizer: Any, vocabulary: Sequence[bytes], probe: str) -> bool:
    ids = tokenizer.encode(probe, add_special_tokens=False)
    # SentencePiece puts a space before everything.
    return b"".join(vocabulary[i] for i in ids).strip() == probe.encode().strip()


def _byte_level(tokenizer: Any, ids: Iterable[int]) -> Iterator[bytes]:
    """Decode GPT-2's way: each byte is written as a printable character."""
    value_of = {character: value for value, character in _characters_of_bytes()}
    for token in tokenizer.convert_ids_to_tokens(list(ids)):
        if token is None:
            yield b"\xff"
        elif all(character in value_of for character in token):
            yield bytes(value_of[character] for character in token)
        else:
            yield token.encode()


def _characters_of_bytes() -> Iterator[tuple[int, str]]:
    moved = 0
    for value in range(256):
        if 33 <= value <= 126 or 161 <= value <= 172 or 174 <= value <= 255:
            yield value, chr(value)
        else:
            yield value, chr(256 + moved)
            moved += 1


def _sentence_pieces(tokenizer: Any, ids: Iterable[int]) -> Iterator[bytes]:
    """Decode a lower block as a space, and ``<0x0A>`` for a byte that is no character."""
    for token in tokenizer.convert_ids_to_tokens(list(ids)):
        if token is None:
            yield b"\xff"
        elif len(token) == 6 and token.startswith("<0x"):
            yield bytes([int(token[3:5], 16)])
        else:
            yield token.replace("\u2581", " ").encode()


def _one_by_one(tokenizer: Any, ids: Iterable[int]) -> Iterator[bytes]:
    decode: Callable[[list[int]], str] = tokenizer.decode
    for id_ in ids:
        yield decode([id_]).encode()


class TokenText:
    """Some token ids as text, and where in it each of them begins.

    Bytes that are no UTF-8 become lone surrogates, one each, so that every character has its
    bytes. Raises IndexError for an id that is not in the vocabulary (an image's placeholder).
    """

    def __init__(self, vocabulary: Sequence[bytes], ids: Sequence[int]):
        if len(ids) and min(ids) < 0:
            raise IndexError("a token id below zero")
        pieces = [vocabulary[id_] for id_ in ids]
        # The bytes before each token, and at last all of them.
        self._starts = [0, *accumulate(map(len, pieces))]
        self.text = b"".join(pieces).decode(errors="surrogateescape")

    def token_at(self, character: int) -> int:
        """Find the token in which ``text[character]`` begins; behind the last, their number."""
        if character >= len(self.text):
            return len(self._starts) - 1
        before = character
        if not self.text.isascii():
            before = len(self.text[:character].encode(errors="surrogateescape"))
        # Of tokens without bytes at the same place, the last is the one that has the character.
        return bisect_right(self._starts, before) - 1


def characters(piece: bytes) -> int:
    """Count the characters that begin in a token."""
    return len(piece) if piece.isascii() else sum(byte & 0xC0 != 0x80 for byte in piece)
