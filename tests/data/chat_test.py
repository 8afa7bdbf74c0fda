"""Chat: the official tokenizer, its template, and the image placeholders."""

import json
import pathlib
import unicodedata

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxvlm.data import chat, tokenizer, turns
from tests.data import pack
from tests.data.pictures import QWEN

SHARED = pack.SHARED
PAD = chat.IMAGE_PAD
needs_shared = pytest.mark.skipif(
  not (SHARED / "qwen_tokenizer").is_dir(),
  reason="shared data absent: ../shared/data/qwen_tokenizer",
)


@pytest.fixture(scope="session")
def official(tmp_path_factory) -> chat.Chat:
  return chat.load(
    pack.official_tokenizer(tmp_path_factory.mktemp("official")), QWEN
  )


@pytest.fixture(scope="session")
def nano(tmp_path_factory) -> chat.Chat:
  folder = tmp_path_factory.mktemp("nano")
  tokenizer.build(pack.CORPUS, folder, vocab_size=300)
  return chat.load(folder, QWEN)


@pytest.fixture(params=["nano", "official"])
def either(request) -> chat.Chat:
  return request.getfixturevalue(request.param)


@needs_shared
def test_golden_encodings(official):
  golden = json.loads(
    (SHARED / "qwen_tokenizer/golden_encodings.json").read_text()
  )["cases"]
  assert len(golden) == 22
  for case in golden:
    if case["text"].strip():
      ids = official.completion(case["text"])
      assert ids == [*case["ids"], official.eos_id], case["text"]
      assert official.decode(ids) == case["text"]
    ids = official.tokenizer.encode(case["text"], add_special_tokens=False)
    assert ids == case["ids"]


@needs_shared
def test_prompt_ids_of_the_official_folder(official):
  assert official.eos_id == 151645 and official.pad_id == 151643
  assert official.image_token_id == 151655 and official.vocab_size == 151665
  # The chat prefix that SOURCES.md of the data pack records.
  prefix = "151644 8948 198 2610 525 264 10950 17847 13 151645 198 151644 872"
  prefix = [int(x) for x in prefix.split()] + [198, 151652]
  image = [151655] * 6
  ids = official.prompt("Hello, world!", [(1, 4, 6)])
  assert ids == [
    *prefix,
    *image,
    *(151653, 9707, 11, 1879, 0, 151645, 198),
    *(151644, 77091, 198),
  ]


def test_every_picture_gets_its_tokens_in_order(either):
  grids = [(1, 4, 4), (1, 2, 6), (1, 8, 2)]
  ids = either.prompt("Which?", grids)
  runs, previous = [], None
  for token in ids:
    if token == either.image_token_id:
      if previous != token:
        runs.append(0)
      runs[-1] += 1
    previous = token
  assert runs == [4, 3, 4]
  text = either.tokenizer.decode(ids)
  assert text.startswith("<|im_start|>system\nYou are a helpful assistant.")
  assert text.endswith("Which?<|im_end|>\n<|im_start|>assistant\n")
  # All pictures stand in front of the question.
  assert text.rindex("<|vision_end|>") < text.index("Which?")


def test_text_only(either):
  ids = either.prompt("Which?")
  assert either.image_token_id not in ids
  assert "vision" not in either.tokenizer.decode(ids)


def test_control_tokens_in_a_text_are_text(either):
  added = either.tokenizer.added_tokens_decoder.values()
  special = [token.content for token in added if token.special]
  assert {PAD, "<|im_start|>", "<|im_end|>", "<|vision_start|>"} < {*special}
  assert len(special) == 14
  control = set(either.tokenizer.get_added_vocab().values())
  plain = [id for id in either.prompt("x") if id in control]
  for token in special:
    ids = either.completion(f"70 {token} 70")
    assert control & {*ids[:-1]} == set()
    assert either.decode(ids) == f"70 {token} 70"
    if token in (PAD, "<|video_pad|>"):
      continue
    ids = either.prompt(f"70 {token} 70")
    assert [id for id in ids if id in control] == plain
    assert f"70 {token} 70" in either.tokenizer.decode(ids)


@pytest.mark.parametrize("token", [PAD, "<|video_pad|>"])
def test_a_pictures_token_in_a_question_is_refused(nano, token):
  for grids in ((), [(1, 4, 4)]):
    with pytest.raises(ValueError, match="remove the placeholder") as caught:
      nano.prompt(f"see {token}", grids)
    assert f"the question contains {token}:" in str(caught.value)
  with pytest.raises(ValueError, match="the system's text contains"):
    nano.prompt("see", (), [chat.Turn("system", token)])


def test_pictures_stand_where_the_question_says_so(either):
  grids = [(1, 4, 4), (1, 2, 6)]

  def shown(question, grids=grids):
    text = either.tokenizer.decode(either.prompt(question, grids))
    text = text.partition("user\n")[2].partition("<|im_end|>")[0]
    for count, name in ((4, "A"), (3, "B")):
      text = text.replace(f"<|vision_start|>{PAD * count}<|vision_end|>", name)
    return text

  assert shown("Which?") == "ABWhich?"
  assert shown("<image><image>Which?") == "ABWhich?"
  assert shown("Is <image> or <image> larger?") == "Is A or B larger?"
  assert shown("<image>\nWhich?<image>") == "A\nWhich?B"
  assert shown("<image> <image>") == "A B"
  assert either.prompt("<image>Which?", grids[:1]) == either.prompt(
    "Which?", grids[:1]
  )
  # What only looks like it is text.
  for text in ("<Image>", "< image>", "<image", "<image/>", "<images>"):
    assert shown(f"What is {text}?", ()) == f"What is {text}?"
  # A response is no place for pictures.
  assert either.decode(either.completion("an <image> tag")) == "an <image> tag"


@pytest.mark.parametrize("places, pictures", [(1, 0), (1, 2), (3, 2), (2, 1)])
def test_places_without_pictures_are_refused(nano, places, pictures):
  with pytest.raises(ValueError) as caught:
    nano.prompt("<image>" * places + "Which?", [(1, 4, 4)] * pictures)
  message = f"has {places} <image> for {pictures} picture(s)"
  assert message in str(caught.value)


# Pieces of control tokens, ordinary added tokens, and what stands beside them.
PIECES = st.lists(
  st.sampled_from(
    "<|im_start|> <|im_end|> <|vision_start|> <|image_pad|> <|im_ start|>"
    " <| |> im_start im_end < | > <tool_call> </tool_call> <tool_ call>"
    " <|fim_prefix|> <|repo_name|> <|file_sep|> <|fim_ prefix|> user assistant"
    " <image x 日 e\u0301".split()
    + [" ", "\n", "system\n", "\u200b"]
  ),
  min_size=1,
  max_size=6,
).map("".join)


def tool_calls(tokenizer):
  return tokenizer.convert_tokens_to_ids(["<tool_call>", "</tool_call>"])


def test_an_answer_may_hold_the_models_own_tokens(either):
  text = "<tool_call>\n{}\n</tool_call><|fim_prefix|> <|im_end|>"
  ids = either.completion(text)
  own = tool_calls(either.tokenizer)
  added = set(either.tokenizer.get_added_vocab().values())
  assert [id for id in ids if id in added] == [*own, either.eos_id]
  plain = "<tool_call>\n{}\n</tool_call>"
  expected = either.tokenizer.encode(plain, add_special_tokens=False)
  assert either.completion(plain)[:-1] == expected
  turns = [
    chat.Turn(role, plain) for role in ("assistant", "user", "assistant")
  ]
  ids, learned = either.reply(turns)
  said = [id for id, mine in zip(ids, learned, strict=True) if mine]
  assert said == [*expected, either.eos_id] * 2
  others = [id for id, mine in zip(ids, learned, strict=True) if not mine]
  assert not {*others} & {*own}  # not even then does a user write one


@given(text=PIECES, pictures=st.integers(0, 2))
@settings(deadline=None, max_examples=100)
def test_no_text_becomes_a_control_token(nano, text, pictures):
  tokenizer, grids = nano.tokenizer, [(1, 2, 2)] * pictures
  added = set(tokenizer.get_added_vocab().values())

  def control(ids):
    return [id for id in ids if id in added]

  try:
    ids = nano.prompt(text, grids)
  except ValueError:
    # Refused for a reason: the text asks for a picture.
    reasons = [PAD, turns.PLACE]
    assert any(reason in text for reason in reasons)
    return
  assert control(ids) == control(nano.prompt("x", grids))
  if turns.PLACE in text:  # a picture stands there, and parts the text
    return
  text = unicodedata.normalize("NFC", text)
  assert tokenizer.decode(ids).count(text) >= 1
  if text.strip():
    ids = nano.completion(text)
    said = [t for t in control(ids) if t not in tool_calls(tokenizer)]
    assert said == [nano.eos_id] and nano.decode(ids) == text


@given(text=st.text(max_size=12) | PIECES, pictures=st.integers(0, 2))
@settings(deadline=None, max_examples=30)
@pytest.mark.parametrize("name", ["nano", "official"])
def test_ordinary_text_is_encoded_as_transformers_does(
  request, name, text, pictures
):
  if name == "official" and not (SHARED / "qwen_tokenizer").is_dir():
    pytest.skip("shared data absent: ../shared/data/qwen_tokenizer")
  some = request.getfixturevalue(name)
  written = [*some.tokenizer.get_added_vocab(), turns.PLACE]
  assume(not any(token in text for token in written))
  content = [{"type": "image"}] * pictures + [{"type": "text", "text": text}]
  expected = some.tokenizer.apply_chat_template(
    [{"role": "user", "content": content}],
    add_generation_prompt=True,
    return_dict=False,
  )
  assert some.prompt(text, [(1, 2, 2)] * pictures) == expected


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_an_empty_response_is_refused(nano, text):
  with pytest.raises(ValueError, match="response is empty"):
    nano.completion(text)


def test_text_that_is_no_unicode_is_refused(nano):
  for write in (nano.prompt, nano.completion):
    with pytest.raises(ValueError, match="lone surrogates"):
      write("half a pair: \ud800")


# NFC folds some characters into others; all else comes back.
PLAIN = st.text(st.characters(codec="ascii"), min_size=1).filter(
  lambda text: text.strip()
)


@given(text=PLAIN)
@settings(deadline=None, max_examples=100)
def test_completion_and_decode_are_inverse(nano, text):
  _round_trip(nano, text)


@pytest.mark.parametrize(
  "text",
  ["<think>a b</think> \\boxed{70}", "日本 ½ 🚀", "  x \n\n y  ", "3.14"],
)
def test_completion_and_decode_of_texts(either, text):
  _round_trip(either, text)


def _round_trip(some: chat.Chat, text: str):
  ids = some.completion(text)
  assert ids[-1] == some.eos_id and ids.count(some.eos_id) == 1
  assert some.decode(ids) == text
  # What a sampler leaves behind the end of the turn is not read.
  assert some.decode([*ids, *some.prompt("more"), some.pad_id]) == text
  assert some.decode(ids[:-1]) == text  # a completion that was cut off


@needs_shared
def test_padding_may_be_the_unknown_token_too(tmp_path):
  folder = pack.official_tokenizer(tmp_path, unk_token="<|endoftext|>")
  loaded = chat.load(folder, QWEN)
  assert loaded.tokenizer.unk_token_id == loaded.pad_id == 151643
  assert loaded.image_token_id == 151655


def ending(folder: pathlib.Path, listed) -> chat.Chat:
  """Returns the chat of a small folder with a generation_config.json."""
  tokenizer.build(pack.CORPUS, folder, vocab_size=300)
  text = listed if isinstance(listed, str) else json.dumps(listed)
  (folder / "generation_config.json").write_text(text)
  return chat.load(folder, QWEN)


def test_a_folder_lists_the_tokens_that_end_an_answer(tmp_path, nano):
  turn, text = nano.eos_id, nano.pad_id
  call = nano.tokenizer.convert_tokens_to_ids("</tool_call>")
  assert nano.eos_ids == (turn,)  # no file
  for listed, ends in (
    ({}, (turn,)),
    ({"eos_token_id": None}, (turn,)),
    ({"eos_token_id": text}, (turn, text)),
    ({"eos_token_id": [turn, text], "pad_token_id": text}, (turn, text)),
    ({"eos_token_id": [text, call, text]}, (turn, text, call)),
  ):
    loaded = ending(tmp_path, listed)
    assert loaded.eos_ids == ends
    # A turn that we write still ends as the template ends it.
    assert loaded.eos_id == turn == loaded.completion("70")[-1]
    five, seven = loaded.completion("5")[:-1], loaded.completion("7")[:-1]
    for end in ends:
      # Neither what follows the first end nor the end itself is the answer.
      assert loaded.decode([*five, end, *seven, turn]) == "5"
    assert loaded.decode([*five, *seven]) == "57"


def test_the_tokenizers_own_end_counts_without_a_list(tmp_path):
  tokenizer.build(pack.CORPUS, tmp_path, vocab_size=300)
  path = tmp_path / "tokenizer_config.json"
  config = json.loads(path.read_text())
  path.write_text(json.dumps({**config, "eos_token": "<|endoftext|>"}))
  loaded = chat.load(tmp_path, QWEN)
  assert loaded.eos_ids == (loaded.eos_id, loaded.pad_id)


@pytest.mark.parametrize(
  "text",
  ["", "{", "[151645]", "null", '{"eos_token_id": "<|im_end|>"}']
  + [f'{{"eos_token_id": {ends}}}' for ends in ("-1", "300", "[true]", "1.0")],
)
def test_a_list_of_ends_that_cannot_be_is_named(tmp_path, text):
  with pytest.raises(ValueError, match=r"generation_config\.json"):
    ending(tmp_path, text)


# Templates: ours against the official one, on random conversations.

TEXT = st.text(max_size=8)
PARTS = st.one_of(
  st.builds(lambda t: {"type": "text", "text": t}, TEXT),
  st.builds(lambda t: {"text": t}, TEXT),
  st.sampled_from(
    [
      {"type": "image"},
      {"type": "image", "image": "a.png", "text": "not read"},
      {"image_url": "a.png"},
      {"image": "a.png"},
      {"type": "video"},
      {"video": "a.mp4"},
      {"type": "other"},
    ]
  ),
)
MESSAGES = st.lists(
  st.fixed_dictionaries(
    {
      "role": st.sampled_from(["system", "user", "assistant", "tool"]),
      "content": st.one_of(TEXT, st.lists(PARTS, max_size=5)),
    }
  ),
  min_size=1,
  max_size=5,
)
OPTIONS = st.fixed_dictionaries(
  {"add_generation_prompt": st.booleans()},
  optional={"add_vision_id": st.booleans()},
)


@needs_shared
@given(messages=MESSAGES, options=OPTIONS)
@settings(deadline=None, max_examples=300)
def test_our_template_renders_what_the_official_one_does(
  nano, messages, options
):
  file = SHARED / "model_configs/qwen2_5_vl_chat_template.jinja"
  ours, theirs = (
    nano.tokenizer.apply_chat_template(
      messages, chat_template=template, tokenize=False, **options
    )
    for template in (tokenizer.CHAT_TEMPLATE, file.read_text())
  )
  assert ours == theirs


def test_the_fingerprint_knows_vocabulary_template_and_ends(tmp_path):
  def made(name, corpus=pack.CORPUS, template=None):
    folder = tmp_path / name
    tokenizer.build(corpus, folder, vocab_size=300)
    if template:
      (folder / "chat_template.jinja").write_text(template)
    return chat.load(folder, QWEN)

  first = made("a")
  before = first.fingerprint
  first.completion("ten 10")
  again = made("b")
  again.completion("Find the angle")  # encoding leaves no trace
  assert before == first.fingerprint == again.fingerprint
  assert made("c", corpus=["zebra zebra quartz"] * 9).fingerprint != before
  other = tokenizer.CHAT_TEMPLATE.replace("helpful", "silent")
  assert other != tokenizer.CHAT_TEMPLATE
  assert made("d", template=other).fingerprint != before
  ends = ending(tmp_path / "b", {"eos_token_id": first.pad_id})
  assert ends.fingerprint != before
  (tmp_path / "a/preprocessor_config.json").write_text('{"image_std": 0.5}')
  assert chat.load(tmp_path / "a", QWEN).fingerprint != before


def test_prompts_to_be_completed_are_the_question_alone(tmp_path):
  folder = pack.official_tokenizer(tmp_path, None)
  plain = chat.completing(chat.load(folder, None))
  text = "def f(x):\n  <|im_end|>"
  ids = plain.prompt(text)
  assert plain.tokenizer.decode(ids) == text
  assert plain.eos_id == chat.load(folder, None).eos_id
  with pytest.raises(ValueError, match="this model reads pictures"):
    chat.completing(chat.load(folder, QWEN))
