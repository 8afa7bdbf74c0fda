"""Probes during training: a fixed probe set, read between the steps.

The reference is the policy that the stage begins with; its hidden states of
the probe set are computed once, so a probe is one forward pass of the policy.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
from jax import Array

from jaxvlm import distributed
from jaxvlm.diagnostics import probes
from jaxvlm.diagnostics.probes import Panel
from jaxvlm.tokenstats import token_stats
from jaxvlm.typing import Batch, Model, Params

# (step, trained part) -> metrics to log
Measure = Callable[[int, Params], Mapping[str, float]]


class Probes(NamedTuple):
  """What the loop asks besides evaluations.

  Attributes:
    every: steps between probes; also before the first and after the last.
    measure: reads the probe set.
    broken: what was measured -> why the run ends there, "" where it goes on.
  """

  every: int
  measure: Measure
  broken: Callable[[Mapping[str, float]], str] = lambda probed: ""

  def due(self, step: int, last: bool) -> bool:
    """Returns whether there is a probe after this step."""
    return bool(self.every) and (last or step % self.every == 0)


class Prober(NamedTuple):
  """Two jitted programs, shared by all stages of a model.

  Attributes:
    read: (params, batch) -> hidden states and head of a reference.
    panel: (params, batch, hidden, head) -> Panel of the policy against it.
  """

  read: Callable[[Params, Batch], tuple[Array, Array]]
  panel: Callable[[Params, Batch, Array, Array], Panel]

  def against(
    self, reference: Params, batch: Batch
  ) -> Callable[[Params], Panel]:
    """Returns what measures a policy against a reference, as NumPy arrays.

    Args:
      reference: whole parameters; free to change or go after this call.
      batch: N problems with K completions each.
    """
    hidden, head = self.read(reference, batch)

    def measure(params: Params) -> Panel:
      return distributed.gather(self.panel(params, batch, hidden, head))

    return measure


def make_prober(model: Model, *, vocab_size: int) -> Prober:
  """Returns the programs; nothing is compiled before their first call.

  Args:
    model: functions of policy and reference.
    vocab_size: the tokenizer's; heads may be padded beyond.
  """

  def read(params: Params, batch: Batch):
    return model.forward(params, batch), model.head(params)

  def panel(params: Params, batch: Batch, hidden: Array, head: Array):
    stats = token_stats(
      *read(params, batch),
      batch.tokens,
      batch.mask,
      vocab_size=vocab_size,
      teacher_hidden=hidden,
      teacher_head=head,
      jsd_beta=0.5,
      total_variation=True,
    )
    return probes.panel(stats, batch.mask)

  return Prober(jax.jit(read), jax.jit(panel))
