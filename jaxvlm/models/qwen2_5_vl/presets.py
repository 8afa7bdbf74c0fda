"""Published sizes, and the two small ones that this project trains itself."""

from jaxvlm.models.qwen2_5_vl.config import Config, VisionConfig

QWEN_3B = Config()
QWEN_7B = Config(
  vocab_size=152064,
  hidden_size=3584,
  intermediate_size=18944,
  num_hidden_layers=28,
  num_attention_heads=28,
  num_key_value_heads=4,
  tie_word_embeddings=False,
  vision=VisionConfig(out_hidden_size=3584),
)
QWEN_32B = Config(
  vocab_size=152064,
  hidden_size=5120,
  intermediate_size=27648,
  num_hidden_layers=64,
  num_attention_heads=40,
  num_key_value_heads=8,
  tie_word_embeddings=False,
  vision=VisionConfig(out_hidden_size=5120, intermediate_size=3456),
)
QWEN_72B = Config(
  vocab_size=152064,
  hidden_size=8192,
  intermediate_size=29568,
  num_hidden_layers=80,
  num_attention_heads=64,
  num_key_value_heads=8,
  tie_word_embeddings=False,
  # The tower's MLP width is taken from the 32B model, its contemporary; a
  # checkpoint's own config.json always decides.
  vision=VisionConfig(out_hidden_size=8192, intermediate_size=3456),
)


def nano(
  *,
  width: int,
  heads: int,
  layers: int,
  vision_width: int,
  vocab_size: int,
  special: dict[str, int],
) -> Config:
  """Returns a model small enough to train from nothing on a laptop.

  Every mechanism of the family is there: windows (4 × 4 patches), two full
  layers, 2-D and 3-section rotary positions, grouped queries, merger.

  Args:
    width: of the decoder.
    heads: query heads; kv heads are 2.
    layers: of the decoder.
    vision_width: of the tower.
    vocab_size: the tokenizer's, special tokens included.
    special: ids of the special tokens.
  """
  half = width // heads // 2
  side = half * 2 // 5
  return Config(
    vocab_size=vocab_size,
    hidden_size=width,
    intermediate_size=3 * width,
    num_hidden_layers=layers,
    num_attention_heads=heads,
    num_key_value_heads=2,
    # Pictures are 3 or 4 tokens wide. With a base of 1e4, the frequencies
    # left to the columns turn by 0.002 a token, and left is right.
    rope_theta=10.0,
    mrope_section=(half - 2 * side, side, side),
    max_position_embeddings=1024,
    initializer_range=0.05,
    image_token_id=special["<|image_pad|>"],
    video_token_id=special["<|video_pad|>"],
    vision_start_token_id=special["<|vision_start|>"],
    vision_end_token_id=special["<|vision_end|>"],
    bos_token_id=special["<|endoftext|>"],
    eos_token_id=special["<|im_end|>"],
    vision=VisionConfig(
      depth=4,
      hidden_size=vision_width,
      intermediate_size=3 * vision_width,
      num_heads=4,
      out_hidden_size=width,
      window_size=56,
      fullatt_block_indexes=(1, 3),
      initializer_range=0.05,
    ),
  )


PRESETS = {"3b": QWEN_3B, "7b": QWEN_7B, "32b": QWEN_32B, "72b": QWEN_72B}
