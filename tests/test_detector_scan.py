"""Scan results in tokens: bytes, overlaps, and what is remembered."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from sglang.srt.tenancy.detect.finding import LONGEST, Finding
from sglang.srt.tenancy.detect.rules import Rules, find
from sglang.srt.tenancy.detect.scan import MOST_HINTS, TAIL, Scanner
from sglang.srt.tenancy.detect.scan_cache import CHUNK, ScanCache
from sglang.srt.tenancy.detect.vocabulary import TokenText, bytes_of_tokens

BYTES = [bytes([value]) for value in range(256)]
CARD = "4012 8888 8888 1881"


def tokens(text: str) -> list[int]:
    """One token for each byte."""
    return list(text.encode())


class Counted:
    """The rules, counting what they read."""

    def __init__(self) -> None:
        self.read = 0

    def find_all(self, texts: Sequence[tuple[str, int]]) -> list[list[Finding]]:
        self.read += sum(len(text) for text, _ in texts)
        return Rules().find_all(texts)


def test_harmless_up_to_its_end() -> None:
    (result,) = Scanner(BYTES, [Rules()]).scan([tokens("words " * 100)])
    assert result.sensitive is None
    assert result.harmless == 600 - TAIL


@pytest.mark.parametrize("before", ["", "words ", "words " * 100, "字" * 50, "🙂" * 30])
def test_sensitive_begins_at_its_first_byte(before: str) -> None:
    (result,) = Scanner(BYTES, [Rules()]).scan([tokens(f"{before}{CARD} {'words ' * 50}")])
    assert result.sensitive == result.harmless == len(before.encode())
    assert "card" in result.kinds


def test_a_token_that_begins_before_the_item_is_sensitive() -> None:
    vocabulary = [*BYTES, b"is 4012 ", b"8888 8888 1881 and"]
    ids = [*tokens("the card "), 256, 257, *tokens(" more words" * 20)]
    (result,) = Scanner(vocabulary, [Rules()]).scan([ids])
    assert result.sensitive == result.harmless == len("the card ")


def test_an_end_that_may_go_on_is_left_open() -> None:
    text = "words " * 50 + "card 4012 8888 8888"
    (result,) = Scanner(BYTES, [Rules()]).scan([tokens(text)])
    assert result.sensitive is None
    assert result.harmless < text.index("4012")


def test_short_prompts_have_no_harmless_part() -> None:
    for text in ("", "hi"):
        (result,) = Scanner(BYTES, [Rules()]).scan([tokens(text)])
        assert (result.harmless, result.sensitive) == (0, None)


@pytest.mark.parametrize("ids", [[1, 2, 300], [-1, 5], [1 << 40]])
def test_ids_without_text_have_no_result(ids: list[int]) -> None:
    known, unknown = Scanner(BYTES, [Rules()]).scan([tokens("words " * 40), ids])
    assert known.known
    assert not unknown.known
    assert (unknown.harmless, unknown.sensitive) == (0, None)


def test_hints_end_the_harmless_part_and_have_excerpts() -> None:
    text = "words " * 50 + "She was diagnosed with cancer. " + "words " * 100
    (result,) = Scanner(BYTES, [Rules()], excerpts=True).scan([tokens(text)])
    at = text.index("She")
    assert result.sensitive is None
    assert result.harmless == at
    assert result.possible == len(text) - TAIL
    assert [hint.start for hint in result.hints] == [at]
    assert "She was diagnosed with cancer." in result.hints[0].excerpt


def test_more_hints_than_a_judge_is_asked() -> None:
    text = "She was diagnosed with cancer. " * 10
    (result,) = Scanner(BYTES, [Rules()], excerpts=True).scan([tokens(text)])
    assert len(result.hints) == MOST_HINTS
    assert result.possible == text.index("She") + MOST_HINTS * len(text) // 10


def test_a_prompt_is_read_once() -> None:
    counted = Counted()
    scanner = Scanner(BYTES, [counted])
    system = "You answer in short sentences. " * 200
    scanner.scan([tokens(system)])
    assert counted.read == len(system)
    counted.read = 0
    text = system + "What is new? " * 10
    (result,) = scanner.scan([tokens(text)])
    assert counted.read <= len(text) - len(system) + 2 * LONGEST + CHUNK
    assert result.harmless == len(text) - TAIL


def test_what_follows_something_sensitive_is_not_read_again() -> None:
    counted = Counted()
    scanner = Scanner(BYTES, [counted])
    text = CARD + " words" * 300
    first = scanner.scan([tokens(text)])
    counted.read = 0
    second = scanner.scan([tokens(text + " more" * 300)])
    assert counted.read == 0
    assert second[0].sensitive == first[0].sensitive == 0


def test_the_scan_cache_is_bounded_and_keeps_what_is_used() -> None:
    cache = ScanCache(capacity=3)
    names = [bytes([number]) * 16 for number in range(5)]
    for name in names[:3]:
        cache.keep(name, ())
    assert cache.longest(names[:1]) == (1, ())
    cache.keep(names[3], ())
    assert len(cache) == 3
    assert cache.longest(names[1:2]) == (0, ())
    assert cache.longest(names[:1]) == (1, ())


def test_remembered_is_what_reading_again_would_find() -> None:
    """However prompts share their beginnings, and wherever tokens are cut."""
    chance = random.Random(3)
    pieces = [b"Dear Mr. Smith, ", b" 4012 8888", b" 8888 1881", "中国".encode(), "🙂".encode()[:2]]
    vocabulary = [*BYTES, *pieces]
    parts = [
        *["hello world ", "lorem ipsum dolor " * 5, "x" * 30 + " "] * 4,
        *["Dear Mr. Smith, ", f"{CARD} ", "我叫王小明，", "She has cancer. ", "a@acme.io "],
    ]

    def written(count: int) -> list[int]:
        ids = tokens("".join(chance.choices(parts, k=count)))
        for _ in range(chance.randint(0, 4)):
            ids.insert(chance.randint(0, len(ids)), chance.randrange(256, len(vocabulary)))
        return ids

    for _ in range(60):
        shared, base = Scanner(vocabulary, [Rules()]), written(chance.randint(1, 30))
        for cut in sorted(chance.choices(range(len(base) + 1), k=4)):
            ids = base[:cut] + written(5)
            (remembered,) = shared.scan([ids])
            (fresh,) = Scanner(vocabulary, [Rules()]).scan([ids])
            assert remembered[:2] == fresh[:2]
            assert remembered.possible == fresh.possible


def test_offsets_of_tokens() -> None:
    text = TokenText(
        [b"a", "é".encode(), "🙂".encode()[:2], "🙂".encode()[2:], b""], [0, 1, 4, 2, 3]
    )
    assert text.text == "aé🙂"
    assert [text.token_at(at) for at in range(4)] == [0, 1, 3, 5]


def test_bytes_that_are_no_text() -> None:
    text = TokenText(BYTES, [0xFF, 0xE4, 0xB8, ord("a"), ord("@")])
    assert text.token_at(text.text.index("a")) == 3


def test_the_vocabulary_of_a_byte_level_tokenizer(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    vocabulary = bytes_of_tokens(tokenizer)
    assert vocabulary is not None
    text = "Zoë: 北京 🙂\n\t x"
    ids = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=True)
    ids = ids if isinstance(ids, list) else ids["input_ids"]
    read = TokenText(vocabulary, ids).text
    assert text in read
    assert find(TokenText(vocabulary, tokenizer.encode(CARD)).text)


def test_the_vocabulary_of_sentence_pieces() -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    pieces = [(f"<0x{value:02X}>", 0.0) for value in range(256)]
    pieces = [("<unk>", 0.0), *pieces, ("▁", -1.0), ("is", -1.0), ("▁x", -1.0)]
    inner = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    vocabulary = bytes_of_tokens(tokenizer)
    assert vocabulary is not None
    text = "this is x 北京"
    assert TokenText(vocabulary, tokenizer.encode(text)).text.strip() == text


def test_a_tokenizer_that_loses_text_gets_no_results() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"[UNK]": 0, "hello": 1}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")
    assert bytes_of_tokens(tokenizer) is None
