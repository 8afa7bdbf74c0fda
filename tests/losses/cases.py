"""One table of all objectives, for tests that hold for each of them."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvlm import losses
from tests.reference import losses as oracle
from tests.reference import torch_losses

# (rows, tokens): each halved is the one before, so that little is compiled.
SHAPES = ((2, 2), (4, 4))


class Case(NamedTuple):
  """An objective with everything that is needed to test it.

  Attributes:
    inputs: (generator, rows, tokens) -> dict of arrays.
    loss: (dict, whole dict or None) -> (scalar, metrics). With a whole batch
      it is the share of a micro-batch.
    oracle: dict (and the dict of the point in stop-gradients) -> float.
    torch: dict of float64 tensors -> scalar.
    wrt: the arrays to differentiate.
    masks: array -> the mask that hides some of it.
  """

  inputs: Callable[..., dict]
  loss: Callable[..., Any]
  oracle: Callable[..., float]
  torch: Callable[..., Any]
  wrt: tuple[str, ...]
  masks: dict[str, str]


def random_mask(rng, rows, tokens):
  """At least one token counts; rows of any length, holes too."""
  mask = rng.random((rows, tokens)) < rng.choice([0.3, 0.8, 1.0])
  mask[rng.integers(rows), rng.integers(tokens)] = True
  return mask


def logprobs(rng, *shape):
  return -rng.gamma(1.0, 1.5, shape)


def near(rng, x, scale=0.3):
  return np.minimum(x + scale * rng.normal(size=x.shape), -1e-3)


def token_inputs(rng, rows, tokens):
  policy = logprobs(rng, rows, tokens)
  return {
    "logprobs": policy,
    "old_logprobs": near(rng, policy),
    "ref_logprobs": near(rng, policy),
    "teacher_logprobs": near(rng, policy, 1.0),
    "sampling_logprobs": near(rng, policy),
    "mean_vocab_logprobs": logprobs(rng, rows, tokens) - 2.0,
    "entropies": rng.gamma(1.0, 1.0, (rows, tokens)),
    "kl": rng.gamma(1.0, 0.2, (rows, tokens)),
    "advantages": rng.normal(size=rows),
    "mask": random_mask(rng, rows, tokens),
  }


def sft_c_inputs(rng, rows, tokens):
  return {
    "positive_logprobs": logprobs(rng, rows, tokens),
    "positive_mask": random_mask(rng, rows, tokens),
    "negative_logprobs": logprobs(rng, rows, tokens),
    "negative_mask": random_mask(rng, rows, tokens),
  }


PREFERENCE = (
  "chosen_logprobs",
  "rejected_logprobs",
  "ref_chosen_logprobs",
  "ref_rejected_logprobs",
)


def preference_inputs(rng, rows, tokens):
  chosen, rejected = (
    tokens * logprobs(rng, rows),
    tokens * logprobs(rng, rows),
  )
  return {
    "chosen_logprobs": chosen,
    "rejected_logprobs": rejected,
    "ref_chosen_logprobs": near(rng, chosen, 2.0),
    "ref_rejected_logprobs": near(rng, rejected, 2.0),
    "rejected_mean_logprobs": rejected / tokens,
    "mask": random_mask(rng, rows, 1)[:, 0],
  }


def _count(whole, name="mask"):
  return None if whole is None else whole[name].sum()


def _sequences(whole):
  return None if whole is None else whole["mask"].any(-1).sum()


def _sft(smoothing):
  extra = ("mean_vocab_logprobs",) if smoothing else ()

  def loss(x, whole=None):
    return losses.sft_loss(
      x["logprobs"],
      x["mask"],
      label_smoothing=smoothing,
      mean_vocab_logprobs=x["mean_vocab_logprobs"] if smoothing else None,
      normalizer=_count(whole),
    )

  def reference(x, at=None):
    return oracle.sft(
      x["logprobs"], x["mask"], smoothing, x["mean_vocab_logprobs"]
    )

  return Case(
    token_inputs,
    loss,
    reference,
    functools.partial(torch_losses.sft, label_smoothing=smoothing),
    ("logprobs", *extra),
    dict.fromkeys(("logprobs", *extra), "mask"),
  )


def _sft_c(floor, weight):
  def loss(x, whole=None):
    extra = {}
    if whole is not None:
      count = whole["negative_mask"].sum()
      total = (whole["negative_logprobs"] * whole["negative_mask"]).sum()
      extra = {
        "positive_normalizer": whole["positive_mask"].sum(),
        "negative_normalizer": count,
        "negative_mean": -total / count,
      }
    return losses.sft_c_loss(**x, floor=floor, weight=weight, **extra)

  def reference(x, at=None):
    return oracle.sft_c(**x, floor=floor, weight=weight)

  return Case(
    sft_c_inputs,
    loss,
    reference,
    functools.partial(torch_losses.sft_c, floor=floor, weight=weight),
    ("positive_logprobs", "negative_logprobs"),
    {
      "positive_logprobs": "positive_mask",
      "negative_logprobs": "negative_mask",
    },
  )


def _opd():
  return Case(
    token_inputs,
    lambda x, whole=None: losses.opd_loss(
      x["kl"], x["mask"], normalizer=_count(whole)
    ),
    lambda x, at=None: oracle.opd(x["kl"], x["mask"]),
    torch_losses.token_average("kl"),
    ("kl",),
    {"kl": "mask"},
  )


def _entropy_bonus():
  return Case(
    token_inputs,
    lambda x, whole=None: losses.entropy_bonus(
      x["entropies"], x["mask"], coef=0.7, normalizer=_count(whole)
    ),
    lambda x, at=None: oracle.entropy_bonus(x["entropies"], x["mask"], 0.7),
    torch_losses.token_average("entropies", -0.7),
    ("entropies",),
    {"entropies": "mask"},
  )


def _opd_policy_gradient(fixed_advantage=None, clip=None, max_advantage=None):
  names = ("logprobs", "old_logprobs", "teacher_logprobs")
  low, high = clip or (None, None)
  options = {
    "fixed_advantage": fixed_advantage,
    "clip_low": low,
    "clip_high": high,
    "max_advantage": max_advantage,
  }

  def loss(x, whole=None):
    return losses.opd_policy_gradient_loss(
      *(x[name] for name in names),
      x["mask"],
      **options,
      normalizer=_count(whole),
    )

  def reference(x, at=None):
    return oracle.opd_policy_gradient(
      *(x[name] for name in names),
      x["mask"],
      policy_logprobs=(at or x)["logprobs"],
      **options,
    )

  return Case(
    token_inputs,
    loss,
    reference,
    functools.partial(
      torch_losses.opd_policy_gradient,
      fixed_advantage=fixed_advantage,
      clip=clip,
      max_advantage=max_advantage,
    ),
    ("logprobs",),
    dict.fromkeys(names, "mask"),
  )


def _grpo(
  reduce="token",
  clip=(0.2, 0.2),
  dual_clip=None,
  kl_coef=0.0,
  sequence_ratio=False,
  max_importance_weight=None,
  entropy_coef=0.0,
):
  names = ["logprobs", "old_logprobs"]
  optional = []
  options = {
    "clip_low": clip[0],
    "clip_high": clip[1],
    "dual_clip": dual_clip,
    "sequence_ratio": sequence_ratio,
  }
  if kl_coef:
    options["kl_coef"] = kl_coef
    optional.append("ref_logprobs")
  if max_importance_weight:
    options["max_importance_weight"] = max_importance_weight
    optional.append("sampling_logprobs")
  if entropy_coef:
    options["entropy_coef"] = entropy_coef
    optional.append("entropies")

  def loss(x, whole=None):
    weighting = {}
    if reduce == "token":
      weighting["normalizer"] = _count(whole)
    elif reduce == "sequence":
      weighting["weights"] = losses.sequence_mean(
        x["mask"], normalizer=_sequences(whole)
      )
    else:
      weighting["weights"] = losses.constant_length(
        x["mask"], reduce, normalizer=_sequences(whole)
      )
    return losses.grpo_loss(
      x["logprobs"],
      x["old_logprobs"],
      x["advantages"],
      x["mask"],
      **options,
      **{name: x[name] for name in optional},
      **weighting,
    )

  def reference(x, at=None):
    if reduce == "token":
      weights = oracle.token_mean(x["mask"])
    elif reduce == "sequence":
      weights = oracle.sequence_mean(x["mask"])
    else:
      weights = oracle.constant_length(x["mask"], reduce)
    return oracle.grpo(
      x["logprobs"],
      x["old_logprobs"],
      x["advantages"],
      x["mask"],
      weights,
      **options,
      **{name: x[name] for name in optional},
    )

  return Case(
    token_inputs,
    loss,
    reference,
    functools.partial(
      torch_losses.grpo,
      reduce=reduce,
      clip=clip,
      dual_clip=dual_clip,
      kl_coef=kl_coef,
      sequence_ratio=sequence_ratio,
      max_importance_weight=max_importance_weight,
      entropy_coef=entropy_coef,
    ),
    ("logprobs", "entropies") if entropy_coef else ("logprobs",),
    dict.fromkeys((*names, *optional), "mask"),
  )


def _preference(cooled=False, differentiate_weight=False, gamma=None):
  beta, floor, tau = 0.3, -1.5, 0.8
  names = (*PREFERENCE, "rejected_mean_logprobs") if cooled else PREFERENCE

  def loss(x, whole=None):
    arrays = [x[name] for name in names]
    shared = {"beta": beta, "mask": x["mask"], "normalizer": _count(whole)}
    if cooled:
      return losses.cw_dpo_loss(
        *arrays,
        floor=floor,
        tau=tau,
        differentiate_weight=differentiate_weight,
        **shared,
      )
    if gamma is not None:
      return losses.focal_dpo_loss(*arrays, gamma=gamma, **shared)
    return losses.dpo_loss(*arrays, **shared)

  def reference(x, at=None):
    cooling = None
    if cooled:
      point = x if differentiate_weight else at or x
      cooling = oracle.cooling_weights(
        point["rejected_mean_logprobs"], floor, tau
      )
    return oracle.preference(
      *(x[name] for name in PREFERENCE), x["mask"], beta, cooling, gamma or 0.0
    )

  wrt = ("chosen_logprobs", "rejected_logprobs")
  return Case(
    preference_inputs,
    loss,
    reference,
    functools.partial(
      torch_losses.preference,
      beta=beta,
      floor=floor if cooled else None,
      tau=tau,
      differentiate_weight=differentiate_weight,
      gamma=gamma or 0.0,
    ),
    (*wrt, "rejected_mean_logprobs") if cooled else wrt,
    dict.fromkeys(names, "mask"),
  )


CASES = {
  "sft": _sft(0.0),
  "sft_smooth": _sft(0.1),
  "sft_c_open": _sft_c(floor=9.0, weight=0.5),
  "sft_c_closed": _sft_c(floor=0.01, weight=0.5),
  "entropy_bonus": _entropy_bonus(),
  "opd": _opd(),
  "opd_sampled": _opd_policy_gradient(),
  "opd_sampled_clipped": _opd_policy_gradient(
    clip=(0.2, 0.3), max_advantage=0.8
  ),
  "opd_fixed": _opd_policy_gradient(fixed_advantage=-0.5),
  "grpo": _grpo(),
  "grpo_sequence_mean": _grpo("sequence", kl_coef=0.04),
  "grpo_dapo": _grpo(clip=(0.2, 0.28)),
  "grpo_dr": _grpo(reduce=16),
  "grpo_dual_clip": _grpo(clip=(0.2, 0.3), dual_clip=1.2, kl_coef=0.01),
  "gspo": _grpo("sequence", clip=(0.05, 0.05), sequence_ratio=True),
  "grpo_off_policy": _grpo(max_importance_weight=1.2, entropy_coef=0.01),
  "dpo": _preference(),
  "cw_dpo": _preference(cooled=True),
  "cw_dpo_differentiated": _preference(cooled=True, differentiate_weight=True),
  "focal_dpo": _preference(gamma=2.0),
}


def draw(name, seed, shape):
  """Inputs of a case: float64 arrays that float32 holds exactly."""
  x = CASES[name].inputs(np.random.default_rng(seed), *shape)
  return {
    key: value
    if value.dtype == bool
    else value.astype(np.float32).astype(float)
    for key, value in x.items()
  }


def single(x):
  """The inputs as JAX's types."""
  return {
    key: value if value.dtype == bool else value.astype(np.float32)
    for key, value in x.items()
  }


def _value_and_gradient(name, x, whole):
  case = CASES[name]

  def loss(parts):
    return case.loss({**x, **parts}, whole)[0]

  return jax.value_and_grad(loss)({key: x[key] for key in case.wrt})


_jitted = jax.jit(_value_and_gradient, static_argnums=0)


def value_and_gradient(name, x, whole=None, jit=True):
  """(loss, {array: gradient}) in float32."""
  whole = None if whole is None else single(whole)
  function = _jitted if jit else _value_and_gradient
  return function(name, jax.tree.map(jax.numpy.asarray, single(x)), whole)
