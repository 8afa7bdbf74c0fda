"""Published sizes of the dense models.

4B: a public port's copy of the official fields. 8B and 32B: public tests and
libraries that state them; end of context, rotary base and vocabulary of the 32B
as the others'. 2B: a public description that quotes its config.json. A
checkpoint's own config.json always decides.
"""

from jaxvlm.models.qwen3_vl.config import Config, VisionConfig


def _small_tower(width: int) -> VisionConfig:
  """Returns the tower of 2B and 4B; 8B and 32B have the larger one."""
  return VisionConfig(
    depth=24,
    hidden_size=1024,
    intermediate_size=4096,
    out_hidden_size=width,
    deepstack_visual_indexes=(5, 11, 17),
  )


QWEN3_2B = Config(
  hidden_size=2048,
  intermediate_size=6144,
  num_hidden_layers=28,
  num_attention_heads=16,
  tie_word_embeddings=True,
  vision=_small_tower(2048),
)
QWEN3_4B = Config(
  hidden_size=2560,
  intermediate_size=9728,
  tie_word_embeddings=True,
  vision=_small_tower(2560),
)
QWEN3_8B = Config()
QWEN3_32B = Config(
  hidden_size=5120,
  intermediate_size=25600,
  num_hidden_layers=64,
  num_attention_heads=64,
  vision=VisionConfig(out_hidden_size=5120),
)

PRESETS = {
  "qwen3-vl-2b": QWEN3_2B,
  "qwen3-vl-4b": QWEN3_4B,
  "qwen3-vl-8b": QWEN3_8B,
  "qwen3-vl-32b": QWEN3_32B,
}
