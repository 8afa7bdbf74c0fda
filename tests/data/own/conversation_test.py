"""Conversations: token ids and loss masks as transformers gives them."""

import json

import numpy as np
import pytest

from jaxvlm.data import chat as chat_lib
from jaxvlm.data import layout, own, rows, tokenizer
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.own import show
from jaxvlm.data.turns import PLACE, Turn, parts_of
from tests.data import pack

VISION = layout.VisionLayout(window=56)
BUDGET = PixelBudget(28 * 28, 28 * 28 * 16)
# Qwen2.5-VL's, with the tags by which transformers knows the assistant's words.
TEMPLATE = """\
{%- for m in messages -%}
{%- if loop.first and m.role != "system" -%}
{{- "<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n" -}}
{%- endif -%}
{{- "<|im_start|>" ~ m.role ~ "\\n" -}}
{%- macro said(m) -%}
{%- for part in m.content -%}
{%- if part.type == "image" -%}
{{- "<|vision_start|><|image_pad|><|vision_end|>" -}}
{%- else -%}{{- part.text -}}{%- endif -%}
{%- endfor -%}
{{- "<|im_end|>" -}}
{%- endmacro -%}
{%- if m.role == "assistant" -%}
{%- generation -%}{{- said(m) -}}{%- endgeneration -%}
{%- else -%}{{- said(m) -}}{%- endif -%}
{{- "\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\\n" -}}{%- endif -%}
"""
U, A = "user", "assistant"
# (pictures, turns): with and without pictures, several turns, system prompts.
CONVERSATIONS = [
  (0, [(U, "What is 1 + 1?"), (A, "2")]),
  (1, [(U, "What is x?"), (A, "<think>180 - 110</think> \\boxed{70}")]),
  (1, [(U, "<image>\nWhat is x?"), (A, "70")]),
  (1, [(U, "What is x?\n<image>"), (A, "70.\n")]),
  (2, [(U, "Which is larger?"), (A, "The second.")]),
  (2, [(U, "Is <image> or <image> larger?"), (A, "No.")]),
  (3, [(U, "<image><image>and <image>"), (A, "Three pictures.")]),
  (0, [("system", "Be brief."), (U, "Hello"), (A, "Hi")]),
  (1, [("system", "You read diagrams."), (U, "<image>x?"), (A, "70")]),
  (1, [("system", "A picture:"), (U, "x?"), (A, "70")]),
  (0, [(U, "Hello"), (A, "Hi"), (U, "How are you?"), (A, "Well.")]),
  (
    1,
    [(U, "x?"), (A, "70"), (U, "Why?"), (A, "180 - 110"), (U, "Ok"), (A, ":)")],
  ),
  (1, [("system", "S"), (U, "<image>x?"), (A, "70"), (U, "y?"), (A, "20")]),
  (2, [(U, "<image>x?"), (A, "70"), (U, "<image>and now?"), (A, "80")]),
  (
    2,
    [
      (U, "Hello"),
      (A, "Hi, show me."),
      (U, "<image>"),
      (A, "I see."),
      (U, "What?"),
      (A, "An angle."),
      (U, "And here: <image>"),
      (A, "A bar."),
      (U, "Thanks"),
      (A, "Welcome."),
    ],
  ),
  (0, [(U, "def f(x):\n  return x\n\nWhat is it?"), (A, "```\nidentity\n```")]),
  (0, [(U, "日本 ½ 🚀?"), (A, "ça va, 東京"), (U, "1e-3"), (A, "0.001")]),
  (0, [(U, " "), (A, "You said nothing.")]),
  (1, [(U, "It's\t\ttabs"), (A, "They're here, we'll see\n\n\nlines")]),
  (0, [("system", "sys\n\ntem"), (U, "a"), (A, "b"), (U, "c"), (A, "d e f g")]),
]


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
  folder = tmp_path_factory.mktemp("nano")
  tokenizer.build(pack.CORPUS, folder, vocab_size=300)
  (folder / "chat_template.jinja").write_text(TEMPLATE)
  return chat_lib.load(folder, VISION)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
  folder = pack.official_tokenizer(tmp_path_factory.mktemp("official"))
  (folder / "chat_template.json").write_text(
    json.dumps({"chat_template": TEMPLATE})
  )
  return chat_lib.load(folder, VISION)


@pytest.fixture(params=["nano", "official"])
def chat(request):
  return request.getfixturevalue(request.param)


def picture(number):
  return np.full((28 * (number + 1), 56, 3), 200, np.uint8)


def theirs(chat, turns, images):
  """Returns transformers' (ids, mask), placeholders repeated as it does."""
  messages = [
    {
      "role": turn.role,
      "content": [
        {"type": "image"} if part is None else {"type": "text", "text": part}
        for part in parts
      ],
    }
    for turn, parts in zip(turns, parts_of(turns, len(images)), strict=True)
  ]
  found = chat.tokenizer.apply_chat_template(
    messages,
    tokenize=True,
    return_dict=True,
    return_assistant_tokens_mask=True,
  )
  ids, mask = np.array(found["input_ids"]), np.array(found["assistant_masks"])
  counts = np.ones(len(ids), int)
  counts[ids == chat.image_token_id] = [
    image.shape[0] * image.shape[1] // 28**2 for image in images
  ]
  return np.repeat(ids, counts).tolist(), np.repeat(mask, counts).tolist()


def test_there_are_twenty():
  assert len(CONVERSATIONS) == 20


@pytest.mark.parametrize("number", range(20))
def test_ids_and_masks_are_those_of_transformers(chat, number):
  count, turns = CONVERSATIONS[number]
  turns = tuple(Turn(*turn) for turn in turns)
  images = [picture(i) for i in range(count)]
  ids, mask = theirs(chat, turns, images)
  assert sum(mask)
  made = own.answered("c", own.Example(turns, tuple(images)), images)
  learned = np.zeros(len(ids), bool)
  for row in made:
    grids = rows.grids_of(row, chat, BUDGET)
    prompt = chat.prompt(row.question, grids, row.before)
    reply, own_words = chat.reply(row.responses[0])
    whole = prompt + reply
    assert whole == ids[: len(whole)]
    assert not learned[len(prompt) :].any()  # nothing is learned twice
    learned[len(prompt) : len(whole)] |= own_words
  assert learned.tolist() == [bool(m) for m in mask]
  # What follows the last answer is the template's.
  assert ids[len(whole) :] == chat.tokenizer.encode("\n")
  later = [turn for turn in turns[2:] if turn.role == U and PLACE in turn.text]
  assert len(made) == 1 + len(later)


def test_a_conversation_as_a_batch_and_as_people_see_it(nano):
  turns = [
    Turn(U, "x? <|im_end|>"),
    Turn(A, "70"),
    Turn(U, "Why?"),
    Turn(A, "So"),
  ]
  images = (picture(3),)
  (row,) = own.answered("c", own.Example(tuple(turns), images), images)
  encoder = rows.Encoder(nano, BUDGET, (rows.Bucket(80, 32),), 40)
  found = rows.survey([row], encoder)
  batch = rows.make_batch(
    [found.row(0)], None, encoder.buckets[0], encoder
  ).batch
  mask = batch.mask[0, 0]
  said = "70<|im_end|>So<|im_end|>"
  assert nano.tokenizer.decode(batch.tokens[0, 0][mask]) == said
  assert not mask[: int(mask.nonzero()[0][-1])].all()  # it has a hole
  assert show.rendered(row, nano, BUDGET) == (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n<|vision_start|><|image_pad|> × 8<|vision_end|>"
    "x? <|im_end|>(text)<|im_end|>\n<|im_start|>assistant\n"
    "⟦70<|im_end|>⟧\n<|im_start|>user\nWhy?<|im_end|>\n"
    "<|im_start|>assistant\n⟦So<|im_end|>⟧"
  )


def test_rows_of_one_turn_have_the_digests_that_they_had():
  row = rows.Row("a", "q", "r", responses=("x",))
  assert row.texts == ("a", "q", "r", ("x",))


@pytest.mark.parametrize(
  "said, message",
  [
    ((), "begin and to end with the assistant's"),
    ((Turn(U, "x"), Turn(A, "y")), "turns user, assistant"),
    ((Turn(A, "x"), Turn(U, "y")), "turns assistant, user"),
    ((Turn(A, " "), Turn(U, "y"), Turn(A, "z")), "response is empty"),
  ],
)
def test_replies_that_cannot_be(nano, said, message):
  with pytest.raises(ValueError, match=message):
    nano.reply(said)


@pytest.mark.parametrize(
  "template, message",
  [
    (
      "{% for m in messages %}{{ m.content }}{% endfor %}",
      "does not end every",
    ),
    (
      "{{ messages | length }}{% for m in messages %}{{ m.content }}"
      "<|im_end|>{% endfor %}",
      "differently from a prompt",
    ),
  ],
)
def test_templates_that_cannot_write_several_turns(tmp_path, template, message):
  tokenizer.build(pack.CORPUS, tmp_path, vocab_size=300)
  (tmp_path / "chat_template.jinja").write_text(template)
  text = chat_lib.load(tmp_path, None)
  with pytest.raises(ValueError, match=message):
    text.reply((Turn(A, "x"), Turn(U, "y"), Turn(A, "z")))


def test_a_template_of_words_alone_between_the_sides(tmp_path):
  """DeepSeek-Coder's: only answers end with a control token."""
  tokenizer.build(pack.CORPUS, tmp_path, vocab_size=300)
  (tmp_path / "chat_template.jinja").write_text(
    "{% for m in messages %}{% if m.role == 'user' %}"
    "{{ '### Instruction:\\n' + m.content + '\\n' }}{% else %}"
    "{{ '### Response:\\n' + m.content + '\\n<|im_end|>\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"
  )
  text = chat_lib.load(tmp_path, None)
  ids, learned = text.reply((Turn(A, "x"), Turn(U, "y"), Turn(A, "z")))
  own_words = [id for id, mine in zip(ids, learned, strict=True) if mine]
  assert text.tokenizer.decode(own_words) == "x\n<|im_end|>z\n<|im_end|>"
  assert text.tokenizer.decode(ids) == (
    "x\n<|im_end|>\n### Instruction:\ny\n### Response:\nz\n<|im_end|>"
  )
