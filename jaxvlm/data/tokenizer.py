"""A small tokenizer in Qwen2.5-VL's format, for models made from nothing.

Byte-level BPE, the family's pre-tokenization (every digit alone), the same 22
special tokens in the same order behind the vocabulary, and a chat template
that renders what the official one renders: nothing downstream can tell the
difference from an official folder but by size.
"""

import json
import pathlib
from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

SPECIAL_TOKENS = (
  "<|endoftext|>",
  "<|im_start|>",
  "<|im_end|>",
  "<|object_ref_start|>",
  "<|object_ref_end|>",
  "<|box_start|>",
  "<|box_end|>",
  "<|quad_start|>",
  "<|quad_end|>",
  "<|vision_start|>",
  "<|vision_end|>",
  "<|vision_pad|>",
  "<|image_pad|>",
  "<|video_pad|>",
  "<tool_call>",
  "</tool_call>",
  "<|fim_prefix|>",
  "<|fim_middle|>",
  "<|fim_suffix|>",
  "<|fim_pad|>",
  "<|repo_name|>",
  "<|file_sep|>",
)
# The last eight are ordinary added tokens in the family, not special ones.
_NOT_SPECIAL = frozenset(SPECIAL_TOKENS[14:])

# Contractions; a word with at most one leading symbol; one digit; symbols;
# line ends; space. As in every Qwen2 tokenizer.
_SPLIT = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
  r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = """\
{%- set seen = namespace(images=0, videos=0) -%}
{%- macro number(word, count) -%}
{%- if add_vision_id %}{{ word ~ " " ~ count ~ ": " }}{% endif -%}
{%- endmacro -%}
{%- for message in messages -%}
{%- if loop.first and message.role != "system" -%}
{{- "<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n" -}}
{%- endif -%}
{{- "<|im_start|>" ~ message.role ~ "\\n" -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == "image" or "image" in part or "image_url" in part -%}
{%- set seen.images = seen.images + 1 -%}
{{- number("Picture", seen.images) -}}
{{- "<|vision_start|><|image_pad|><|vision_end|>" -}}
{%- elif part.type == "video" or "video" in part -%}
{%- set seen.videos = seen.videos + 1 -%}
{{- number("Video", seen.videos) -}}
{{- "<|vision_start|><|video_pad|><|vision_end|>" -}}
{%- elif "text" in part -%}
{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- "<|im_end|>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\\n" -}}{%- endif -%}
"""


def build(
  texts: Iterable[str], folder: str | pathlib.Path, *, vocab_size: int
) -> None:
  """Trains a tokenizer on `texts` and writes it as a Hugging Face folder.

  Args:
    texts: the corpus; only its words matter, not their pictures.
    folder: written: tokenizer.json, tokenizer_config.json, vocab.json,
      merges.txt, chat_template.jinja.
    vocab_size: tokens in all, the 22 special ones included; fewer when the
      corpus is too small.

  Raises:
    ValueError: no room for the 256 bytes and the special tokens.
  """
  if isinstance(texts, str):
    raise ValueError("texts is one text, expected several; put it in brackets")
  least = 256 + len(SPECIAL_TOKENS)
  if vocab_size < least:
    raise ValueError(
      f"vocab_size is {vocab_size}, expected at least {least}: 256 bytes and"
      f" {len(SPECIAL_TOKENS)} special tokens"
    )
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  tokenizer = tokenizers.Tokenizer(models.BPE())
  tokenizer.normalizer = normalizers.NFC()
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(tokenizers.Regex(_SPLIT), behavior="isolated"),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  )
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.train_from_iterator(
    texts,
    trainers.BpeTrainer(
      vocab_size=vocab_size - len(SPECIAL_TOKENS),
      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
      show_progress=False,
    ),
  )
  tokenizer.model.save(str(folder))  # vocab.json and merges.txt
  for token in SPECIAL_TOKENS:
    added = tokenizers.AddedToken(token, normalized=False)
    if token in _NOT_SPECIAL:
      tokenizer.add_tokens([added])
    else:
      tokenizer.add_special_tokens([added])
  tokenizer.save(str(folder / "tokenizer.json"))
  config = {
    "tokenizer_class": "Qwen2Tokenizer",
    "add_prefix_space": False,
    "bos_token": None,
    "eos_token": "<|im_end|>",
    "pad_token": "<|endoftext|>",
    "unk_token": None,
    "errors": "replace",
    "model_max_length": 131072,
    "clean_up_tokenization_spaces": False,
    "additional_special_tokens": list(SPECIAL_TOKENS[1:14]),
  }
  (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
  (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
