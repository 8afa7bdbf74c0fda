"""Qwen3-VL against transformers: tower, states, gradients, tokens.

What Qwen2.5-VL proves in detail of decoder and shared prefix is not proved
again: here stand the corners that only this family has.
"""

from typing import Any

import numpy as np
import pytest

from jaxvlm.models.qwen3_vl import Config, VisionConfig
from tests.reference import hf, parity
from tests.reference.parity import Case


def tiny_config(vision: dict[str, Any] | None = None, **fields: Any) -> Config:
  """Returns a Config of a few thousand parameters; `fields` override it."""
  defaults = dict(
    vocab_size=hf.VOCAB,
    hidden_size=32,
    intermediate_size=40,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,  # wider together than the stream
    mrope_section=(2, 3, 3),
    tie_word_embeddings=True,
    image_token_id=hf.IMAGE,
    video_token_id=hf.VIDEO,
    vision_start_token_id=hf.START,
    vision_end_token_id=hf.END,
    bos_token_id=None,
    eos_token_id=None,
  )
  tower = dict(
    depth=4,
    hidden_size=16,
    intermediate_size=20,
    num_heads=2,
    patch_size=4,
    num_position_embeddings=25,
    deepstack_visual_indexes=(0, 2),
  )
  fields = defaults | fields
  tower |= {"out_hidden_size": fields["hidden_size"]} | (vision or {})
  return Config(**fields, vision=VisionConfig(**tower))


# name -> (configuration, rows, side)
_CASES = {
  # Wider and narrower than the table of 5 × 5; one row without a picture.
  "stretched": (tiny_config(), ((3, (1, 6, 10), 4), (5,)), "left"),
  # Three pictures of different size in a row, a table larger than most of
  # them, one layer of features, one kv head.
  "three_pictures": (
    tiny_config(
      {"num_position_embeddings": 49, "deepstack_visual_indexes": (2,)},
      num_key_value_heads=1,
      tie_word_embeddings=False,
    ),
    (((1, 8, 4), 2, (1, 2, 2), 1, (1, 4, 14), 3), (4, (1, 6, 6), 1), (2, 5)),
    "right",
  ),
  # Features of all layers of the tower to all layers of the decoder.
  "every_layer": (
    tiny_config(
      {"depth": 3, "deepstack_visual_indexes": (0, 1, 2), "hidden_size": 24},
      hidden_size=48,
      num_key_value_heads=4,
      mrope_section=(4, 2, 2),
      rope_theta=1e4,
      tie_word_embeddings=False,
    ),
    ((2, (1, 10, 6), 3), ((1, 4, 4), 6), (7, (1, 2, 12), 2, (1, 8, 8), 1)),
    "left",
  ),
  # The table as large as the picture: nothing is interpolated. Sections of
  # unlike length, so that height ends before width.
  "table_fits": (
    tiny_config(
      {"num_position_embeddings": 36, "deepstack_visual_indexes": (1, 3)},
      mrope_section=(4, 1, 3),
      rms_norm_eps=1e-5,
      num_hidden_layers=2,
    ),
    (((1, 6, 6), 4), (1, (1, 2, 6), 2)),
    "right",
  ),
  # One row that needs no padding; a table of one entry, larger patches.
  "single_row": (
    tiny_config(
      {
        "patch_size": 6,
        "depth": 1,
        "num_position_embeddings": 1,
        "deepstack_visual_indexes": (0,),
      },
      num_attention_heads=2,
      num_key_value_heads=1,
    ),
    ((1, (1, 10, 12), 2, (1, 4, 2), 1, (1, 2, 4), 5),),
    "left",
  ),
  "text_right": (
    tiny_config(tie_word_embeddings=False),
    ((9,), (4,), (1,)),
    "right",
  ),
  "text_left": (tiny_config(), ((3,), (8,)), "left"),
}
CASES = {
  name: Case(*_CASES[name], seed)
  for seed, name in enumerate(sorted(_CASES), start=50)
}
# Compiling a case costs some ten seconds of CPU.
_FAST = ("stretched",)
_SEEING = [name for name in CASES if not name.startswith("text")]


def cases(names, fast=_FAST):
  """Returns the parameters of a test: those that are not fast are slow."""
  return pytest.mark.parametrize(
    "case",
    [
      pytest.param(
        CASES[name], id=name, marks=() if name in fast else pytest.mark.slow
      )
      for name in names
    ],
  )


@cases(CASES, fast=CASES)
def test_mrope_ids_are_those_of_the_reference(case):
  parity.check_mrope_ids(case)


@cases(CASES)
def test_no_parameter_is_left_at_zero_or_one(case):
  parity.check_no_parameter_is_left_at_zero_or_one(case)


@cases(_SEEING)
def test_vision_tower(case):
  parity.check_vision_tower(case)


@cases(CASES)
def test_every_hidden_state_and_the_logits(case):
  parity.check_every_hidden_state_and_the_logits(case)


@cases(CASES)
def test_gradients_of_every_tensor(case):
  parity.check_gradients_of_every_tensor(case)


@cases(CASES, fast=())
def test_greedy_tokens_are_those_of_generate(case):
  parity.check_greedy_tokens_are_those_of_generate(case)


@cases(CASES, fast=())
def test_forward_equals_separate_full_sequences(case):
  parity.check_forward_equals_separate_full_sequences(case)


@cases(CASES, fast=())
def test_decode_with_a_cache_equals_forward(case):
  parity.check_decode_with_a_cache_equals_forward(case)


@cases(["stretched", "every_layer"], fast=())
def test_gradients_of_a_shared_prefix_equal_those_of_copies(case):
  parity.check_gradients_of_a_shared_prefix(case)


@pytest.mark.slow
def test_greedy_tokens_vary_enough_to_tell_positions_apart():
  distinct = [
    len(np.unique(row))
    for case in CASES.values()
    for row in parity.decoded(case)[0][:, 0]
  ]
  assert np.median(distinct) > 3, distinct
