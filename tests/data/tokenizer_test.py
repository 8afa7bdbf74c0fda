"""Our small tokenizer behaves like the family's."""

import json
import pathlib
import unicodedata

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvlm.data import tokenizer
from tests.data import pack

SHARED = pathlib.Path(__file__).parents[3] / "shared/data/qwen_tokenizer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
  path = tmp_path_factory.mktemp("tokenizer") / "made"
  tokenizer.build(iter(pack.CORPUS), path, vocab_size=320)
  return path


@pytest.fixture(scope="module")
def loaded(folder):
  return transformers.AutoTokenizer.from_pretrained(folder)


def encode(loaded, text: str) -> list[int]:
  return loaded.encode(text, add_special_tokens=False)


@given(text=st.text())
@settings(deadline=None, max_examples=200)
def test_any_text_in_normal_form_comes_back(loaded, text):
  ids = encode(loaded, text)
  assert loaded.decode(ids) == unicodedata.normalize("NFC", text)


def test_every_digit_is_one_token(loaded):
  ids = encode(loaded, "1234567890")
  assert [loaded.decode([i]) for i in ids] == list("1234567890")
  digits = set("0123456789")
  for token in loaded.get_vocab():
    assert not digits & set(token) or len(token) == 1, token


def test_the_22_special_tokens_close_the_vocabulary_in_order(loaded):
  size = len(loaded)
  assert 256 + 22 < size <= 320  # the corpus yields a few merges
  ids = loaded.convert_tokens_to_ids(list(tokenizer.SPECIAL_TOKENS))
  assert ids == list(range(size - 22, size))
  for token, number in zip(tokenizer.SPECIAL_TOKENS, ids, strict=True):
    assert encode(loaded, f"a{token}b")[1:-1] == [number]


@pytest.mark.skipif(
  not SHARED.is_dir(),
  reason="shared data absent: ../shared/data/qwen_tokenizer",
)
def test_special_tokens_and_splitting_are_the_familys(folder, loaded):
  want = json.loads((SHARED / "special_tokens.json").read_text())
  names = tuple(token["content"] for token in want["added_tokens"])
  assert names == tokenizer.SPECIAL_TOKENS
  special = {t["content"] for t in want["added_tokens"] if t["special"]}
  for name in names:  # what is not special stays in decoded text
    ids = encode(loaded, name)
    shown = loaded.decode(ids, skip_special_tokens=True)
    assert shown == ("" if name in special else name)
  assert loaded.eos_token == want["eos_token"]
  assert loaded.pad_token == want["pad_token"]
  assert loaded.bos_token is want["bos_token"] is None
  made = json.loads((folder / "tokenizer.json").read_text())
  assert not any(token["normalized"] for token in made["added_tokens"])
  assert made["normalizer"]["type"] == want["normalizer"]
  split, _ = made["pre_tokenizer"]["pretokenizers"]
  assert split["pattern"]["Regex"] == want["pretokenizer_regex"]


def test_vocabulary_files_are_those_of_the_tokenizer(folder, loaded, tmp_path):
  # transformers falls back to them; both ways must agree.
  for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
    (tmp_path / name).write_bytes((folder / name).read_bytes())
  vocab = json.loads((folder / "vocab.json").read_text())
  assert len(vocab) == len(loaded) - 22
  again = transformers.AutoTokenizer.from_pretrained(tmp_path)
  for text in (*pack.CORPUS[:3], "日本 ½", "  two  spaces\n\n"):
    assert encode(again, text) == encode(loaded, text)


def test_building_again_gives_the_same_bytes(folder, tmp_path):
  tokenizer.build(pack.CORPUS, tmp_path, vocab_size=320)
  names = {file.name for file in folder.iterdir()}
  assert names == {file.name for file in tmp_path.iterdir()}
  for name in names:
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_vocabulary_too_small_for_bytes_is_refused(tmp_path):
  with pytest.raises(ValueError, match="277, expected at least 278"):
    tokenizer.build(pack.CORPUS, tmp_path, vocab_size=277)
  assert not list(tmp_path.iterdir())
  tokenizer.build(pack.CORPUS, tmp_path, vocab_size=278)
  assert len(transformers.AutoTokenizer.from_pretrained(tmp_path)) == 278
