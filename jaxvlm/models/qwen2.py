"""Qwen2: Qwen2.5 and Qwen2.5-Coder, 0.5B to 72B.

Biases on queries, keys and values alone, plain rotary positions, tied or
untied embedding. Folders in which sliding windows or YaRN are switched on are
refused: no published one is trained with them.
"""

from typing import Any

from jaxvlm.models import rope, text
from jaxvlm.models.rope import Rope
from jaxvlm.models.text import Config, Dialect

DIALECT = Dialect(
  model_type="qwen2",
  architecture="Qwen2ForCausalLM",
  # Published files have no head_dim.
  left_out={"head_dim": None, "max_position_embeddings": 32768},
  inert=frozenset(
    "max_window_layers use_sliding_window sliding_window layer_types"
    " use_mrope".split()
  ),
  ropes=rope.settings(),
  biases=lambda raw: (True, False, False),
  own=lambda config: {"use_sliding_window": False},
)

# Dimensions as in the decoder of Qwen2.5-VL-3B, whose base it is; the length
# from the model's card.
QWEN2_5_CODER_3B = Config(
  model_type="qwen2",
  vocab_size=151936,
  hidden_size=2048,
  intermediate_size=11008,
  num_hidden_layers=36,
  num_attention_heads=16,
  num_key_value_heads=2,
  head_dim=128,
  rms_norm_eps=1e-6,
  rope=Rope(1e6),
  max_position_embeddings=32768,
  tie_word_embeddings=True,
  qkv_bias=True,
  bos_token_id=151643,
  eos_token_id=151643,
)


def nano(**sizes: Any) -> Config:
  """Returns a small model of this family; sizes as `text.small` takes them."""
  return text.small(
    DIALECT.model_type,
    num_key_value_heads=2,
    tie_word_embeddings=True,
    qkv_bias=True,
    **sizes,
  )


FAMILY = text.family(DIALECT, {"qwen2.5-coder-3b": QWEN2_5_CODER_3B})
