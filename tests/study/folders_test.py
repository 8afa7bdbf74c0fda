"""Student and teacher read the same tokens; and the same pixels, if any."""

import dataclasses

import pytest

from jaxvlm.data import chat as chats
from jaxvlm.data import tokenizer
from jaxvlm.data.images import Colors
from jaxvlm.data.layout import VisionLayout
from jaxvlm.study.folders import check_same_tokens


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  where = tmp_path_factory.mktemp("tokenizer")
  tokenizer.build(["Find x."] * 8, where, vocab_size=300)
  return where


def test_families_may_differ_where_tokens_do_not(folder):
  text, sees = chats.load(folder, None), chats.load(folder, VisionLayout())
  check_same_tokens(text, text)
  check_same_tokens(sees, sees)
  check_same_tokens(text, sees)  # the teacher gets what the student reads
  with pytest.raises(ValueError, match="none, for it reads text only"):
    check_same_tokens(sees, text)


def test_other_pixels_are_named(folder):
  sees = chats.load(folder, VisionLayout())
  coarse = chats.load(folder, VisionLayout(window=56))
  with pytest.raises(ValueError, match="window=112.* window=56"):
    check_same_tokens(sees, coarse)
  gray = sees.pictures._replace(colors=Colors((0.5,) * 3, (0.5,) * 3))
  with pytest.raises(ValueError, match="normalize pictures by"):
    check_same_tokens(sees, dataclasses.replace(sees, pictures=gray))


def test_other_tokens_and_ends_are_named(folder, tmp_path):
  student = chats.load(folder, None)
  tokenizer.build(["Another corpus."] * 8, tmp_path, vocab_size=280)
  with pytest.raises(ValueError, match="different vocabularies"):
    check_same_tokens(student, chats.load(tmp_path, None))
  other = dataclasses.replace(student, listed_ends=(5,))
  with pytest.raises(ValueError, match="end their answers at different"):
    check_same_tokens(student, other)
