"""A random model laid out officially, and Geometry3K, as the study's flags."""

import dataclasses

import jax
import numpy as np

from jaxvlm.data import chat
from jaxvlm.models import qwen2_5_vl
from tests import tiny
from tests.data import pack


def official(folder, source):
  """Writes a random model with a tokenizer laid out officially."""
  folder.mkdir()
  pack.official_tokenizer(folder, source)
  chats = chat.load(folder, tiny.CONFIG.layout)
  special = {
    name: chats.tokenizer.convert_tokens_to_ids(
      f"<|{name.removesuffix('_token_id')}|>"
    )
    for name in ("vision_start_token_id", "vision_end_token_id")
  }
  config = dataclasses.replace(
    tiny.CONFIG,
    # No matrix of the decoder is too small for the scales' adapters.
    hidden_size=64,
    intermediate_size=64,
    num_key_value_heads=4,
    mrope_section=(4, 2, 2),
    vision=dataclasses.replace(tiny.CONFIG.vision, out_hidden_size=64),
    # The official model has a few rows more than words.
    vocab_size=-(-chats.vocab_size // 128) * 128,
    tie_word_embeddings=True,
    eos_token_id=chats.eos_id,
    image_token_id=chats.image_token_id,
    video_token_id=chats.image_token_id + 1,
    **special,
  )
  params = jax.tree.map(np.asarray, tiny.params(config, scale=0.05))
  qwen2_5_vl.save_pretrained(folder, config, params)


def folders(where, source):
  """Returns the flags of such a model and of Geometry3K."""
  model = where / "official"
  official(model, source)
  return (
    f"--model_dir={model}",
    f"--teacher_dir={model}",
    "--dataset=geometry3k",
    f"--data_dir={pack.geometry3k(where / 'geometry3k', source)}",
    # The pack has no split `test`, which the paper measures.
    "--evaluation.split=val",
  )
