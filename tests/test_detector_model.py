"""The second tier, with a tiny classifier whose weights say what it finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.detector import Delivered, running, until
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

from sglang.srt.tenancy.detect.model import OVERLAP, WINDOW, Model, check_folder
from sglang.srt.tenancy.detect.rules import Rules
from sglang.srt.tenancy.detect.scan import Finder, Scanner

BYTES = [bytes([value]) for value in range(256)]
WORDS = ["[PAD]", "[UNK]", "secret", "maybe", "words"]


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one random layer that calls ``secret`` an entity, and ``maybe`` perhaps one."""
    folder = tmp_path_factory.mktemp("classifier")
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=WINDOW,
        id2label={0: "O", 1: "SECRET"},
        label2id={"O": 0, "SECRET": 1},
    )
    model = BertForTokenClassification(config)
    with torch.no_grad():
        # The layer adds nothing, so that what a word is decides alone.
        for name, weight in model.bert.named_parameters():
            weight.zero_()
            if name.endswith("LayerNorm.weight"):
                weight.fill_(1)
        words = model.bert.embeddings.word_embeddings.weight
        words[:, 1] = 1
        words[2] = torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0])
        words[3] = torch.tensor([0.0, 0, 1, 0, 0, 0, 0, 0])
        model.classifier.weight.zero_()
        model.classifier.bias.zero_()
        model.classifier.weight[1, 0], model.classifier.weight[0, 1] = 2.0, 2.0
    model.save_pretrained(folder)
    return folder


def test_what_it_finds(classifier: Path) -> None:
    text = "words secret words maybe words"
    (found,) = Model(str(classifier)).find_all([(text, 0)])
    assert [(text[one.start : one.end], one.sure) for one in found] == [
        ("secret", True),
        ("maybe", False),
    ]
    assert found[0].kind == "model: SECRET"


def test_texts_longer_than_its_window(classifier: Path) -> None:
    far = "words " * (3 * WINDOW)
    texts = [(f"{far}secret", 0), ("words", 0), ("secret " * (WINDOW + OVERLAP), 0), ("secret", 1)]
    found = Model(str(classifier)).find_all(texts)
    assert [one.start for one in found[0]] == [len(far)]
    assert [len(findings) for findings in found[1:]] == [0, WINDOW + OVERLAP, 0]


def test_with_the_rules(classifier: Path) -> None:
    text = "words " * 40 + "secret words 4012 8888 8888 1881 " + "words " * 40
    finders: list[Finder] = [Rules(), Model(str(classifier))]
    (result,) = Scanner(BYTES, finders).scan([list(text.encode())])
    assert result.sensitive == text.index("secret")
    assert result.kinds == ("card", "model: SECRET")


@pytest.mark.slow
async def test_in_the_detectors_process(classifier: Path) -> None:
    text = "words " * 40 + "secret " + "words " * 40
    async with running(model=str(classifier)) as pipeline:
        delivered = Delivered()
        pipeline.offer(delivered.prompt(text))
        await until(lambda: delivered.results)
    assert delivered.results[text] == (text.index("secret"),) * 2


def test_folders_that_are_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tenant-detector-model"):
        check_folder(str(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "LABEL_0"}}))
    with pytest.raises(ValueError, match="'O'"):
        check_folder(str(tmp_path))
