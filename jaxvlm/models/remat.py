"""What a layer keeps for its backward pass, and what it computes again.

The price list for one layer of n tokens and width D, beside its input: NONE
keeps everything (about 30·n·D), SAVE_PROJECTIONS the outputs of the attention
projections (about 3·n·D), FULL and OFFLOAD nothing. Gradients are the same.
"""

import enum
from collections.abc import Callable
from typing import Any

import jax
from jax import checkpoint_policies as policies
from jax.ad_checkpoint import checkpoint_name

from jaxvlm import sharding

_INPUT = "layer_input"
# Linear layers name their outputs after themselves (`layers.Linear`).
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv", "proj")


class Remat(enum.Enum):
  """Which activations of a layer survive until its backward pass.

  Attributes:
    NONE: all of them.
    SAVE_PROJECTIONS: its input and the outputs of the attention's four
      projections; the MLP, the norms and the scores are computed again.
    FULL: its input; the layer is computed again.
    OFFLOAD: its input, in the host's memory; the layer is computed again.
  """

  NONE = enum.auto()
  SAVE_PROJECTIONS = enum.auto()
  FULL = enum.auto()
  OFFLOAD = enum.auto()


def rematerialize(
  body: Callable[..., Any],
  remat: Remat,
  *,
  static_argnums: tuple[int, ...] = (),
) -> Callable[..., Any]:
  """Returns `body(carry, …)` of one layer with its backward pass as told.

  Args:
    body: one layer; its first argument is what flows from layer to layer.
    remat: what to keep.
    static_argnums: arguments of `body` that are Python values.

  Raises:
    ValueError: `remat` is not a `Remat`.
  """
  if not isinstance(remat, Remat):
    raise ValueError(
      f"remat is {remat!r}, expected a member of jaxvlm.models.remat.Remat:"
      f" {', '.join(Remat.__members__)}"
    )
  if remat is Remat.NONE:
    return sharding.keeps_pieces(body, static_argnums=static_argnums)
  policy = {
    Remat.FULL: policies.nothing_saveable,
    Remat.SAVE_PROJECTIONS: policies.save_only_these_names(*_PROJECTIONS),
    Remat.OFFLOAD: policies.save_and_offload_only_these_names(
      names_which_can_be_saved=[],
      names_which_can_be_offloaded=[_INPUT],
      offload_src="device",
      offload_dst="pinned_host",
    ),
  }[remat]

  def named(carry, *rest):
    # An argument is always kept on the device; a named copy of it obeys.
    carry = jax.tree.map(lambda x: checkpoint_name(x, _INPUT), carry)
    return body(carry, *rest)

  return jax.checkpoint(named, policy=policy, static_argnums=static_argnums)
