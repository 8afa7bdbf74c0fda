"""Chat: folders of tokenizers and templates, and what is missing in them."""

import json
import subprocess
import sys

import pytest
import tokenizers

from jaxvlm.data import chat, tokenizer
from tests.data import pack
from tests.data.pictures import QWEN


def test_a_template_that_drops_text_is_refused(tmp_path):
  tokenizer.build(pack.CORPUS, tmp_path, vocab_size=300)
  first = "{{ messages[0].content[0].text }}<|image_pad|>"
  (tmp_path / "chat_template.jinja").write_text(first)
  with pytest.raises(ValueError, match="wrote 1 of 2 text"):
    chat.load(tmp_path, QWEN).prompt("See <image> there", [(1, 2, 2)])


def test_folders_without_tokenizer_or_template_are_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"tokenizer\.json nor vocab"):
    chat.load(tmp_path, QWEN)
  with pytest.raises(FileNotFoundError, match="nowhere"):
    chat.load(tmp_path / "nowhere", QWEN)
  tokenizer.build(pack.CORPUS, tmp_path, vocab_size=300)
  (tmp_path / "chat_template.jinja").unlink()
  with pytest.raises(ValueError, match="no chat template"):
    chat.load(tmp_path, QWEN)


def test_a_template_that_drops_pictures_is_refused(tmp_path):
  tokenizer.build(pack.CORPUS, tmp_path, vocab_size=300)
  template = "{% for m in messages %}{{ m.content[-1].text }}{% endfor %}"
  (tmp_path / "chat_template.jinja").write_text(template)
  text_only = chat.load(tmp_path, QWEN)
  assert text_only.prompt("x") == text_only.completion("x")[:-1]
  with pytest.raises(ValueError, match=r"0 image placeholders for 2 picture"):
    text_only.prompt("x", [(1, 4, 4)] * 2)


def test_a_tokenizer_of_another_family_is_refused(tmp_path):
  plain = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, []))
  plain.save(str(tmp_path / "tokenizer.json"))
  config = {"tokenizer_class": "PreTrainedTokenizerFast"}
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
  (tmp_path / "chat_template.jinja").write_text("x")
  other = chat.load(tmp_path, QWEN)
  for name in ("eos_id", "eos_ids", "pad_id"):
    with pytest.raises(ValueError, match="no token ends an answer.*eos_token"):
      getattr(other, name)
  with pytest.raises(ValueError, match="a model that reads pictures"):
    other.image_token_id  # noqa: B018


def test_chat_needs_neither_torch_nor_jax(tmp_path):
  tokenizer.build(pack.CORPUS, tmp_path, vocab_size=300)
  program = f"""
import sys
for name in ("torch", "torchvision", "jax", "flax", "grain"):
  sys.modules[name] = None  # importing it raises ImportError
from jaxvlm.data import chat, layout
loaded = chat.load({str(tmp_path)!r}, layout.VisionLayout())
ids = loaded.prompt("Find x.", [(1, 4, 4)])
assert ids.count(loaded.image_token_id) == 4
assert loaded.decode(loaded.completion("70")) == "70"
print("done")
"""
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True
  )
  assert done.stdout.strip() == "done", done.stderr


@pytest.mark.parametrize(
  "name, content, message",
  [
    ("tokenizer.json", "", r"tokenizer\.json is empty"),
    ("tokenizer.json", "{}", "tokenizer of .* cannot be loaded"),
    ("tokenizer_config.json", '{"a": ', r"tokenizer_config\.json is not JSON"),
    ("tokenizer_config.json", "[]", r"tokenizer_config\.json holds a list"),
    ("added_tokens.json", "null", r"added_tokens\.json holds a NoneType"),
    ("chat_template.json", "{", r"chat_template\.json is not JSON"),
    ("chat_template.json", "{}", "has no chat template"),
  ],
)
def test_a_broken_file_is_named(tmp_path, name, content, message):
  tokenizer.build(pack.CORPUS, tmp_path, vocab_size=300)
  (tmp_path / name).write_text(content)
  with pytest.raises(ValueError, match=message):
    chat.load(tmp_path, QWEN)


TURNS = {
  # As Qwen2.5's, and as DeepSeek-Coder's, which breaks the line before the end.
  "{{ m.role + '\\n' + m.content + '<|im_end|>\\n' }}": "",
  "{{ m.role + ':\\n' + m.content + '\\n<|im_end|>\\n' }}": "\n",
}


@pytest.mark.parametrize("turn, between", TURNS.items())
def test_a_template_of_text_alone(tmp_path, turn, between):
  tokenizer.build(pack.CORPUS, tmp_path, vocab_size=300)
  template = "{% for m in messages %}" + turn + "{% endfor %}"
  (tmp_path / "chat_template.jinja").write_text(template)
  text = chat.load(tmp_path, None)
  turn_end = text.tokenizer.convert_tokens_to_ids("<|im_end|>")
  ids = text.completion("x = 70")
  assert ids[-1] == text.eos_id == turn_end
  assert text.tokenizer.decode(ids[:-1]) == "x = 70" + between
  user = text.tokenizer.apply_chat_template(
    [{"role": "user", "content": "Find x."}], tokenize=True
  )["input_ids"]
  assert text.prompt("Find x.") == user
  assert text.image_token_id is None
  with pytest.raises(ValueError, match=r"2 picture\(s\).*reads text only"):
    text.prompt("x", [(1, 4, 4)] * 2)


def test_an_end_that_no_template_writes_is_the_folders(tmp_path):
  tokenizer.build(pack.CORPUS, tmp_path, vocab_size=300)
  template = "{% for m in messages %}{{ m.content }}{% endfor %}"
  (tmp_path / "chat_template.jinja").write_text(template)
  file = tmp_path / "tokenizer_config.json"
  fields = json.loads(file.read_text()) | {"pad_token": None}
  file.write_text(json.dumps(fields))
  loaded = chat.load(tmp_path, None)
  own = loaded.tokenizer.eos_token_id
  assert loaded.eos_ids == (own,) and loaded.pad_id == own
  file.write_text(json.dumps(fields | {"eos_token": None}))
  listed = {"eos_token_id": [290, 291]}
  (tmp_path / "generation_config.json").write_text(json.dumps(listed))
  assert chat.load(tmp_path, None).eos_ids == (290, 291)


def test_a_prompt_does_not_change_from_day_to_day(tmp_path):
  tokenizer.build(pack.CORPUS, tmp_path, vocab_size=300)
  template = (
    "{% if not date_string is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ date_string }}{% for m in messages %}{{ m.content }}{% endfor %}"
  )
  (tmp_path / "chat_template.jinja").write_text(template)
  loaded = chat.load(tmp_path, None)
  said = loaded.tokenizer.decode(loaded.prompt("Find x."))
  assert said == "26 Jul 2024Find x."
