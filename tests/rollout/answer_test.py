"""Streaming answers: the same tokens as a rollout, text that fits together.

A random model writes random bytes: broken characters in plenty.
"""

import dataclasses

import jax
import numpy as np
import pytest

from jaxvlm.data import chat as chats
from jaxvlm.data.chat import IMAGE_PAD
from jaxvlm.data.images import Colors, PixelBudget
from jaxvlm.data.processor import PictureSettings
from jaxvlm.models.qwen2_5_vl import bind, load_pretrained
from jaxvlm.rollout import make_generate
from jaxvlm.rollout.answer import Request, answer, prepare
from jaxvlm.rollout.stream import Piece
from jaxvlm.sampling import Draw, Sampling
from jaxvlm.tools import folder
from tests import tiny

LENGTH, N = 13, 2
RNG = np.random.default_rng(0)
PICTURES = tuple(
  RNG.integers(0, 255, size, dtype=np.uint8)
  for size in ((56, 56, 3), (56, 84, 3))
)
ASKED = Request("Which?", PICTURES, n=N, max_new_tokens=LENGTH, seed=5)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
  folder = tmp_path_factory.mktemp("tiny")
  tiny.write_folder(folder, ["what is x", "which one"])
  config, params = load_pretrained(folder)
  return config, params, chats.load(folder, config.layout)


def ready(loaded, request, max_positions=None):
  config, _, chat = loaded
  most = max_positions or config.max_position_embeddings
  return prepare(chat, request, max_positions=most)


def listen(loaded, request):
  """Returns the words of each answer, in the order of their arrival."""
  config, params, chat = loaded
  answers = [[] for _ in range(request.n)]
  for word in answer(bind(config), params, chat, ready(loaded, request)):
    answers[word.completion].append(word)
  return answers


@pytest.fixture(scope="module")
def said(loaded):
  return listen(loaded, ASKED)


def test_a_stream_is_the_rollout_of_the_same_seed(loaded, said):
  config, params, chat = loaded
  generate = make_generate(
    bind(config),
    group=N,
    sampling=Sampling(),
    max_new_tokens=LENGTH,
    eos_ids=chat.eos_ids,
    pad_id=chat.pad_id,
    vocab_size=chat.vocab_size,
  )
  samples = generate(
    params,
    ready(loaded, ASKED).prompts,
    jax.random.key(5),
    np.zeros(1, np.int32),
  )
  for i, words in enumerate(said):
    kept = np.asarray(samples.mask[0, i])
    expected = np.asarray(samples.tokens[0, i])[kept]
    np.testing.assert_array_equal([w.token for w in words], expected)
    np.testing.assert_allclose(
      [w.entropy for w in words],
      np.asarray(samples.entropies[0, i])[kept],
      atol=1e-4,
    )
  assert said[0] != said[1]


def test_texts_join_to_the_decoded_answer(loaded, said):
  chat = loaded[2]
  for words in said:
    assert [w.last for w in words] == [False] * (len(words) - 1) + [True]
    text = "".join(w.text for w in words)
    assert text == chat.decode([w.token for w in words])
  joined = "".join(w.text for words in said for w in words)
  assert "\ufffd" in joined  # broken characters were among them


def test_a_stop_string_ends_an_answer_with_its_token(loaded, said):
  """The stop is cut out of the first answer's own text."""
  chat = loaded[2]
  at, stop = next(
    (i, word.text)
    for i, word in enumerate(said[0][:-1])
    if word.text.isascii() and word.text.isprintable() and word.text
  )
  request = Request(
    "Which?", PICTURES, n=N, max_new_tokens=LENGTH, seed=5, stop=["zzz", stop]
  )
  first, second = listen(loaded, request)
  assert [w.token for w in first] == [w.token for w in said[0][: at + 1]]
  assert first[-1].last and first[-1].text.endswith(stop)
  whole = chat.decode([w.token for w in said[1]])
  heard = chat.decode([w.token for w in second])
  if stop not in whole:
    assert heard == whole
  else:
    assert heard.count(stop) == 1 and whole.startswith(heard)


@pytest.mark.parametrize("end", ["<|endoftext|>", "</tool_call>", "x"])
def test_every_end_token_of_the_folder_ends_an_answer(loaded, monkeypatch, end):
  """Of a model that says "what", the end, "which": special, added, a word."""
  config, params, chat = loaded
  (end,) = chat.tokenizer.encode(end)
  chat = dataclasses.replace(chat, listed_ends=(chat.pad_id, end))
  script = [*chat.tokenizer.encode("what"), end, *chat.tokenizer.encode("on")]

  def recite(*args, ends, eos_ids, **options):
    state = 0
    for token in script:
      state = ends[state, token]
      finished = np.full((1, 1), state == len(ends) - 1)
      assert finished[0, 0] == (token in eos_ids)
      columns = Draw(*[np.full((1, 1, 1), token)] * 5)
      yield Piece(columns, np.ones((1, 1, 1), bool), finished)
      if finished.all():
        return

  monkeypatch.setattr("jaxvlm.rollout.answer.stream", recite)
  (words,) = listen((config, params, chat), Request("x", max_new_tokens=99))
  assert [w.token for w in words] == script[: script.index(end) + 1]
  assert words[-1].last and not words[-1].text
  text = "".join(w.text for w in words)
  assert text == chat.decode([w.token for w in words]) == "what"


def test_a_folders_sampler_knows_all_its_ends(loaded, monkeypatch):
  config, params, chat = loaded
  chat = dataclasses.replace(chat, listed_ends=(7, chat.pad_id))
  monkeypatch.setattr(folder, "make_generate", lambda model, **told: told)
  told = folder.Folder(config, params, chat).sampler(1, Sampling(), 4)
  assert told["eos_ids"] == (chat.eos_id, 7, chat.pad_id)


def test_text_alone_is_answered(loaded):
  request = Request("Which?", max_new_tokens=3, sampling=Sampling(0.0))
  (words,) = listen(loaded, request)
  assert 1 <= len(words) <= 3 and words[-1].last
  assert (ready(loaded, request).prompts.image_slots == -1).all()


def test_every_picture_has_its_tokens(loaded):
  slots = ready(loaded, ASKED).prompts.image_slots
  assert (slots >= 0).sum() == 4 + 6  # 28 × 28 pixels a token


def test_a_prompt_that_leaves_no_room_is_refused(loaded):
  length = ready(loaded, ASKED).prompts.tokens.shape[1]
  ready(loaded, ASKED, max_positions=length + LENGTH)  # just fits
  with pytest.raises(ValueError) as caught:
    ready(loaded, ASKED, max_positions=length + LENGTH - 1)
  message = str(caught.value)
  assert f"has {length} tokens, 10 of them of pictures" in message
  assert f"at most {length - 1}" in message and "max_pixels" in message


def test_what_is_too_long_is_named_with_what_would_fit(loaded):
  """No length below 1 is asked for: the prompt alone, the answer, or both."""
  length = ready(loaded, ASKED).prompts.tokens.shape[1]

  def asked(answer, most):
    request = dataclasses.replace(ASKED, max_new_tokens=answer)
    ready(loaded, request, max_positions=most)

  room = length + 5
  for most in (1, 16, length):  # the prompt alone
    with pytest.raises(ValueError, match=f"prompt has {length} tokens") as e:
      asked(1, most)
    assert f"fewer than the {most} " in str(e.value)
  for longest in (room, room + 1, 4096):  # the answer alone
    with pytest.raises(ValueError, match=f"max_new_tokens is {longest}") as e:
      asked(longest, room)
    assert f"expected at most {room - length}:" in str(e.value)
  asked(room - length, room)


def test_what_is_wrong_with_a_question_is_named(loaded):
  for request, message in (
    (Request(f"What is {IMAGE_PAD}?"), "remove the placeholder"),
    (Request("What is in <image>?"), "1 <image> for 0 picture"),
    (Request("x", stop=[""]), "is empty"),
    (Request("x", stop=["<|im_end|>"]), "cannot be produced"),
    (Request("x", [b"no picture"]), "cannot be identified"),
  ):
    with pytest.raises(ValueError, match=message):
      ready(loaded, request)
  with pytest.raises(FileNotFoundError, match=r"nowhere\.png does not exist"):
    ready(loaded, Request("x", ["nowhere.png"]))


def test_pictures_are_sized_and_colored_as_the_folder_says(loaded):
  _, _, chat = loaded
  small = PictureSettings(
    PixelBudget(28 * 28, 56 * 56), Colors((0,) * 3, (1,) * 3)
  )
  chat = dataclasses.replace(chat, pictures=small)

  def asked(**limits):
    request = Request("x?", ASKED.images[:1], **limits)
    return prepare(chat, request, max_positions=10**6).prompts

  plain = ready(loaded, Request("x?", ASKED.images[:1])).prompts
  got = asked()
  assert 0 < (got.image_slots >= 0).sum() <= 4
  assert got.patches.min() >= 0 > plain.patches.min()  # nothing subtracted
  assert (asked(min_pixels=28 * 28 * 9).image_slots >= 0).sum() >= 9
  assert (asked(max_pixels=28 * 28).image_slots >= 0).sum() == 1


@pytest.mark.parametrize(
  "field", ["n", "max_new_tokens", "min_pixels", "max_pixels"]
)
def test_sizes_that_are_too_small_are_refused(field):
  with pytest.raises(ValueError, match=f"{field} is 0, expected at least"):
    Request("x", **{field: 0})


@pytest.mark.parametrize(
  "picture", ["one.png", b"bytes", PICTURES[0]], ids=["path", "bytes", "array"]
)
def test_one_picture_is_no_sequence_of_them(picture):
  with pytest.raises(ValueError, match="images is one .*put it in brackets"):
    Request("Which?", picture)


@pytest.mark.parametrize("seed", [-1, 2**32, 2**40])
def test_a_seed_that_another_would_repeat_is_refused(seed):
  with pytest.raises(ValueError, match=f"seed is {seed}, expected 0 …"):
    Request("Which?", seed=seed)
  Request("Which?", seed=2**32 - 1)
