"""Vocabularies, windows, measures, and the formats of official files."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from featurewise.worlds.text import (
    END,
    UNKNOWN,
    Document,
    TextError,
    TextFileError,
    TextSource,
    Vocabulary,
    bits_per_character,
    byte_tokens,
    characters,
    evaluation_windows,
    formats,
    perplexity,
    read_enwik8,
    read_token_file,
    read_token_files,
    words,
)


def test_the_perplexity_of_a_diverged_network_is_infinite() -> None:
    assert perplexity(1e9, 10) == math.inf and perplexity(6_990.0, 10) < math.inf


def test_words_are_lower_case_and_marks_stand_alone() -> None:
    document = Document("x", ('"Don\'t," said Mr. Élise--in 1811!', "So."))
    assert list(words(document)) == [
        '"', "don't", ",", '"', "said", "mr", ".", "élise", "--", "in", "1811", "!", END,
        "so", ".", END,
    ]  # fmt: skip
    assert "".join(characters(document)) == '"Don\'t," said Mr. Élise--in 1811!\nSo.\n'


def test_a_vocabulary_has_the_most_frequent_tokens() -> None:
    found = Vocabulary.of(["b", "a", "c", "a", "b", "a", "d", "d"], largest=4)
    assert found.tokens == (UNKNOWN, "a", "b", "d")
    assert found.encode(["a", "c", "d", UNKNOWN]).tolist() == [1, 0, 3, 0]
    assert found.decode([1, 0, 3]) == ["a", UNKNOWN, "d"]
    assert Vocabulary.of(["b", "a", "c", "a", "b", "a", "d"], 9, least=2).tokens == (
        UNKNOWN,
        "a",
        "b",
    )
    assert len(found) == 4
    with pytest.raises(TextError, match="4 is no token of 4"):
        found.decode([4])
    with pytest.raises(TextError, match="at least one token"):
        Vocabulary.of(["a"], 5, least=2)
    with pytest.raises(TextError, match="first token must be <unk>"):
        Vocabulary(("a",))
    with pytest.raises(TextError, match="occurs twice"):
        Vocabulary((UNKNOWN, "a", "a"))


def test_a_batch_has_windows_and_the_tokens_that_follow() -> None:
    text = torch.arange(100)
    source = TextSource(text, seed=3, batch_size=200, window=7)
    batch = source.batch(5)
    assert batch.tokens.shape == batch.targets.shape == (200, 7)
    assert torch.equal(batch.targets, batch.tokens + 1)
    assert set(batch.tokens[:, 0].tolist()) <= set(range(93))
    assert {0, 92} <= {t for i in range(9) for t in source.batch(i).tokens[:, 0].tolist()}
    assert torch.equal(batch.tokens, TextSource(text, 3, 200, 7).batch(5).tokens)
    for other in (source.batch(6), TextSource(text, 4, 200, 7).batch(5)):
        assert not torch.equal(batch.tokens, other.tokens)
    for wrong in ((-1, 1, 1), (0, 0, 1), (0, 1, 0)):
        with pytest.raises(TextError, match="1 or more and seed 0 or more"):
            TextSource(text, *wrong)
    with pytest.raises(TextError, match="100 tokens has no window of 100"):
        TextSource(text, 0, 1, 100)


@pytest.mark.parametrize(("count", "window", "context"), [(100, 16, 5), (33, 16, 0), (17, 16, 15)])
def test_each_token_is_a_target_once(count: int, window: int, context: int) -> None:
    batch, counted = evaluation_windows(torch.arange(count), window, context)
    found = []
    for tokens, targets, last in zip(batch.tokens, batch.targets, counted.tolist(), strict=True):
        assert torch.equal(targets, tokens + 1)
        kept = targets[window - last :]
        if len(kept) and found:
            assert kept[0] - tokens[0] > context
        found += kept.tolist()
    assert found == list(range(1, count))
    for wrong in ((count, window, window), (count, window, -1), (window, window, 0)):
        with pytest.raises(TextError, match="context must be"):
            evaluation_windows(torch.arange(wrong[0]), *wrong[1:])


def test_measures_are_those_of_a_direct_computation() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(50, 9, dtype=torch.float64), torch.randint(9, (50,))
    nats = nn.functional.cross_entropy(logits, targets, reduction="sum").item()
    product, bits = 1.0, 0.0
    for row, target in zip(logits, targets.tolist(), strict=True):
        p = math.exp(row[target]) / sum(math.exp(each) for each in row)
        product *= p ** (-1 / 50)
        bits -= math.log2(p) / 50
    assert perplexity(nats, 50) == pytest.approx(product)
    assert bits_per_character(nats, 50) == pytest.approx(bits)
    assert perplexity(math.log(7) * 3, 3) == pytest.approx(7)
    assert bits_per_character(math.log(8), 1) == pytest.approx(3)
    for measure in (perplexity, bits_per_character):
        with pytest.raises(TextError, match="0 tokens has no mean"):
            measure(1.0, 0)


def test_token_files_are_read(tmp_path: Path) -> None:
    text = " \n = Title = \n \n the <unk> sat \n"
    for name in ("wiki.valid.tokens", "ptb.valid.txt"):
        (tmp_path / name).write_text(text)
    expected = [END, "=", "Title", "=", END, END, "the", UNKNOWN, "sat", END]
    assert read_token_files(tmp_path, "wikitext", "validation") == expected
    assert read_token_files(tmp_path, "ptb", "validation") == expected
    (tmp_path / "no_break").write_text("a b")
    assert read_token_file(tmp_path / "no_break") == ["a", "b", END]


def test_a_byte_order_mark_is_no_token(tmp_path: Path) -> None:
    path = tmp_path / "wiki.test.tokens"
    path.write_bytes(b"\xef\xbb\xbfthe cat\r\nsat\r\n")
    assert read_token_file(path) == ["the", "cat", END, "sat", END]
    path.write_bytes(b"\xef\xbb\xbf \n")
    with pytest.raises(TextFileError, match="the file has no tokens"):
        read_token_file(path)


def test_malformed_token_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    for content, message in [
        (b"a\nb <eos>\n", "x:2: contains <eos>"),
        (b" \n\n", "x: the file has no tokens"),
        (b"a\nb\xff\n", "x:2: not UTF-8: .*; expected a file of text in UTF-8"),
        ("a b".encode("utf-16"), "x:1: not UTF-8"),
        (b"a\nb\0\n", "x:2: contains a zero byte"),
    ]:
        path.write_bytes(content)
        with pytest.raises(TextFileError, match=message):
            read_token_file(path)
    with pytest.raises(TextFileError, match="none: cannot be read: No such file"):
        read_token_file(tmp_path / "none")
    with pytest.raises((TextError, TypeCheckError), match="form is one of|Type-check error"):
        read_token_files(tmp_path, "wmt", "test")  # type: ignore[arg-type]
    monkeypatch.setattr(formats, "MAX_FILE", 3)
    with pytest.raises(TextFileError, match="longer than 3 bytes"):
        read_token_file(path)


def test_enwik8_is_divided_as_usual(tmp_path: Path) -> None:
    path = tmp_path / "enwik8"
    path.write_bytes(bytes(range(200)))
    parts = [read_enwik8(path, part, size=200) for part in ("train", "validation", "test")]
    assert torch.equal(torch.cat(parts), torch.arange(200, dtype=torch.uint8))
    assert [len(each) for each in parts] == [180, 10, 10]
    assert byte_tokens(parts[2]).tolist() == list(range(190, 200))
    with pytest.raises(TextFileError, match="has 200 bytes; enwik8 has 100,000,000"):
        read_enwik8(path, "test")
    with pytest.raises((TextError, TypeCheckError), match="part must be one of|Type-check error"):
        read_enwik8(path, "valid", size=200)  # type: ignore[arg-type]
    with pytest.raises(TextFileError, match="cannot be read"):
        read_enwik8(tmp_path / "none", "test")
    path.write_bytes(b"")
    for size in (0, -3, 19):
        with pytest.raises(TextError, match=f"size must be 20 or more.*, got {size}"):
            read_enwik8(path, "test", size=size)
