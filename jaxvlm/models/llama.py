"""Llama: Llama 2 and 3, DeepSeek-Coder 1.3B to 33B.

No biases unless config.json asks for them, on all four products of attention
or on all three of the MLP; heads of any width; positions scaled linearly or by
Llama 3's rule.
"""

from typing import Any

from jaxvlm.models import rope, text
from jaxvlm.models.rope import Linear, Rope
from jaxvlm.models.text import Config, Dialect

DIALECT = Dialect(
  model_type="llama",
  architecture="LlamaForCausalLM",
  # As transformers' LlamaConfig fills them in; the files of Llama 2 lack most.
  left_out={
    "attention_bias": False,
    "head_dim": None,
    "max_position_embeddings": 2048,
    "mlp_bias": False,
    "num_key_value_heads": None,
    "rope_theta": 1e4,
    "tie_word_embeddings": False,
  },
  # `pretraining_tp` cut products into pieces that add up to the same.
  inert=frozenset(["pretraining_tp"]),
  ropes=rope.settings("linear", "llama3"),
  biases=lambda raw: (
    raw["attention_bias"],
    raw["attention_bias"],
    raw["mlp_bias"],
  ),
  own=lambda config: {
    "attention_bias": config.o_bias,
    "mlp_bias": config.mlp_bias,
  },
)

# Of a public list of its dimensions; the layout is that of the 1.3B model's
# published config.json.
DEEPSEEK_CODER_6_7B = Config(
  model_type="llama",
  vocab_size=32256,
  hidden_size=4096,
  intermediate_size=11008,
  num_hidden_layers=32,
  num_attention_heads=32,
  num_key_value_heads=32,
  head_dim=128,
  rms_norm_eps=1e-6,
  rope=Rope(1e5, Linear(4.0)),
  max_position_embeddings=16384,
  tie_word_embeddings=False,
  bos_token_id=32013,
  eos_token_id=32021,
)


def nano(*, heads: int, **sizes: Any) -> Config:
  """Returns a small model of this family; sizes as `text.small` takes them."""
  return text.small(
    DIALECT.model_type,
    heads=heads,
    num_key_value_heads=heads,
    tie_word_embeddings=False,
    **sizes,
  )


FAMILY = text.family(DIALECT, {"deepseek-coder-6.7b": DEEPSEEK_CODER_6_7B})
