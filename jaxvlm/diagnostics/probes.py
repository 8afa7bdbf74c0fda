"""Probes: what training does to completions that it never sees.

For each of N problems there are K completions, one of every class, from the
chosen answer to random tokens (after Ren & Sutherland, arXiv:2407.10490,
Section 5, and arXiv:2510.11978). One forward pass over them tells what the
steps since the start did: the numbers here, per class.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvlm.diagnostics.calibration import Bins, reliability
from jaxvlm.tokenstats import TokenStats

# Classes that can be written down, and two that cannot.
TEXTS = (
  "chosen",
  "paraphrase",
  "minimally_wrong",
  "easy_wrong",
  "other_picture",
  "shuffled",
)
ON_POLICY, RANDOM = "on_policy_wrong", "random"
CLASSES = (*TEXTS, ON_POLICY, RANDOM)
# float32 cannot tell a mass beside the argmax from 0 below this.
_SMALLEST = 2.0**-24
# Two logits that are one rounding apart are equal: both are the argmax.
_TIE = 1e-6


class Panel(NamedTuple):
  """Numbers of a probe, f32[N, K] each, in nats; 0 where nothing is written.

  All but `shift` are means over the tokens of a completion.

  Attributes:
    written: bool[N, K] completions that have a token.
    logprob: l̄, the mean log-probability of the completion's tokens.
    shift: change of its summed log-probability since the start.
    argmax_logprob: log p of the likeliest token.
    rest_logprob: log of the mass of all other tokens together.
    entropy: of the next token.
    top1: probability of the likeliest token.
    overconfidence: `top1` minus the share of tokens that it is right about.
    total_variation: distance to the reference, ½ Σ |p − q|.
    jensen_shannon: ½ KL(p‖m) + ½ KL(q‖m), m = (p + q)/2.
    bins: [K, B] each: the top-1 probability against the completion's token
      (`calibration`).
  """

  written: jax.Array
  logprob: jax.Array
  shift: jax.Array
  argmax_logprob: jax.Array
  rest_logprob: jax.Array
  entropy: jax.Array
  top1: jax.Array
  overconfidence: jax.Array
  total_variation: jax.Array
  jensen_shannon: jax.Array
  bins: Bins

  @property
  def numbers(self) -> dict[str, jax.Array]:
    """f32[N, K] by name."""
    fields = self._asdict()
    return {k: v for k, v in fields.items() if k not in ("written", "bins")}


def panel(stats: TokenStats, mask: jax.Array) -> Panel:
  """Returns what the statistics of a probe set say, completion by completion.

  Args:
    stats: f32[N, K, T] each, with the reference as teacher, `jsd_beta=0.5` and
      `total_variation=True`.
    mask: bool[N, K, T] tokens that count.

  Raises:
    ValueError: a divergence was not asked for.
  """
  if stats.jsd is None or stats.total_variation is None:
    raise ValueError(
      "the statistics have no jsd or no total_variation: ask token_stats for"
      " jsd_beta=0.5 and total_variation=True against the reference"
    )
  lengths = jnp.maximum(jnp.sum(mask, -1), 1)

  def total(x):
    return jnp.sum(jnp.where(mask, x, 0.0), -1)

  argmax = jnp.log(jnp.maximum(stats.top1, _SMALLEST))
  rest = jnp.log(jnp.maximum(1 - stats.top1, _SMALLEST))
  right = stats.logprobs >= argmax - _TIE
  means = {
    "logprob": stats.logprobs,
    "argmax_logprob": argmax,
    "rest_logprob": rest,
    "entropy": stats.entropies,
    "top1": stats.top1,
    "overconfidence": stats.top1 - right,
    "total_variation": stats.total_variation,
    "jensen_shannon": stats.jsd,
  }
  return Panel(
    written=jnp.any(mask, -1),
    shift=total(stats.logprobs) - total(stats.teacher_logprobs),
    bins=jax.vmap(reliability, in_axes=1)(stats.top1, right, mask),
    **{name: total(x) / lengths for name, x in means.items()},
  )


def record(found: Panel, classes: Sequence[str]) -> dict[str, float]:
  """Returns what a journal keeps: "probe/<quantity>/<class>".

  Means over the problems that have the class. The calibration error is against
  the tokens of the completion, so only that of the first class, the chosen one,
  means calibration: "probe/ece".

  Args:
    found: of N problems and K classes, as NumPy arrays.
    classes: their K names.
  """
  count = np.maximum(found.written.sum(0), 1)
  out = {
    f"probe/{quantity}/{name}": float(values[:, k].sum() / count[k])
    for quantity, values in found.numbers.items()
    for k, name in enumerate(classes)
  }
  chosen = Bins(*(x[0] for x in found.bins))
  return {**out, "probe/ece": float(chosen.error)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
  """Where probes end a run; infinite: they do not.

  Attributes:
    total_variation: from the reference, over the tokens of the chosen answers.
    chosen_drop: how far the summed log-probability of the chosen answer may
      fall below that at the start, nats.
  """

  total_variation: float = math.inf
  chosen_drop: float = math.inf

  def broken(self, probed: Mapping[str, float]) -> str:
    """Returns which limit a probe is beyond, in words; "" if none."""
    drift = probed["probe/total_variation/chosen"]
    if drift > self.total_variation:
      return (
        f"the total variation from the reference is {drift:.3f}, the limit"
        f" {self.total_variation:g}"
      )
    drop = -probed["probe/shift/chosen"]
    if drop > self.chosen_drop:
      return (
        f"the chosen answers lost {drop:.2f} nats, the limit is"
        f" {self.chosen_drop:g}"
      )
    return ""
