"""Keeping the slots full: continuous batching inside one jitted program.

Rows of slots serve prompts. A rollout runs in segments of a few steps; between
segments, a slot whose completion has ended takes the next completion of its
row's prompt, and a row that has none left takes the next prompt (or helps with
one that still has). No shape changes, nothing goes to the host.

Within a segment the running cache is written at one column for all slots; at
its end it is copied behind each completion's own past. Segments start at
multiples of their length in every completion, whenever and wherever it runs:
so a completion is the same to the bit in any slot and beside any neighbor.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxvlm.models import cache as caches
from jaxvlm.models.cache import Prefix
from jaxvlm.rollout.generate import make_rules, need
from jaxvlm.rollout.policy import Policy, make_policy
from jaxvlm.sampling import (
  Decoding,
  Draw,
  Lanes,
  Samples,
  begin,
  completion_keys,
  follow,
  reached,
  run_segment,
)
from jaxvlm.typing import Model, Params, Prompts

# (params, prompts, key, prompt ids[, earlier samples]) -> Samples
Refill = Callable[..., Samples]


@dataclasses.dataclass(frozen=True)
class Slots:
  """How many completions run at once, and how long between refills.

  Attributes:
    rows: prompts that are served at once.
    width: completions of one prompt that run at once.
    segment: steps between refills. A slot idles half a segment per
      completion; a refill costs about as much as a step.
  """

  rows: int
  width: int
  segment: int = 16

  def __post_init__(self):
    for field in dataclasses.fields(self):
      need(
        getattr(self, field.name) >= 1, field.name, getattr(self, field.name)
      )


class Assignment(NamedTuple):
  """Which slot works on what.

  Attributes:
    prompt: i32[R] the prompt that a row serves; -1 before the first.
    turn: i32[R, W] number of a slot's completion among those handed out.
    fresh: bool[R, W] slots that begin a completion now.
    started: i32[N] completions of every prompt that have been handed out.
    waiting: i32[] the next prompt that no row has served.
  """

  prompt: Array
  turn: Array
  fresh: Array
  started: Array
  waiting: Array


def assign(before: Assignment, done: Array, wanted: Array) -> Assignment:
  """Hands completions to free slots.

  Two rows of two slots, three prompts, two completions of each. At first all
  slots are free: row 0 takes prompt 0, row 1 prompt 1, and each begins both
  completions. When both of row 0 have ended, prompt 0 has none left to hand
  out, so row 0 takes prompt 2 and begins both of its. When row 1 has ended,
  no prompt waits: it helps the one with most completions left, if any has.

  Args:
    before: the last assignment.
    done: bool[R, W] slots whose completion has ended, or that have none.
    wanted: i32[N] completions of every prompt that are to be handed out.
  """
  n = before.started.shape[0]
  left = wanted - before.started
  rest = jnp.where(before.prompt < 0, 0, left[before.prompt])
  idle = done.all(axis=1) & (rest <= 0)
  # Idle rows take waiting prompts in order; when none waits, those with most
  # completions left, so that the last prompts are served by several rows.
  idle_rank = jnp.cumsum(idle) - 1
  next_prompt = before.waiting + idle_rank
  overflow = idle_rank - jnp.maximum(n - before.waiting, 0)
  by_need = jnp.argsort(-left, stable=True)[jnp.clip(overflow, 0, n - 1)]
  taken = jnp.where(next_prompt < n, next_prompt, by_need)
  prompt = jnp.where(idle, taken, before.prompt)
  waiting = jnp.minimum(before.waiting + idle.sum(), n)
  # Free slots of one prompt are numbered over all rows that serve it.
  same = prompt[:, None] == prompt[None, :]
  free_in_rows_before = jnp.tril(same, -1) @ done.sum(axis=1)
  number = free_in_rows_before[:, None] + jnp.cumsum(done, axis=1) - 1
  turn = before.started[prompt][:, None] + number
  fresh = done & (turn < wanted[prompt][:, None])
  return Assignment(
    prompt=prompt,
    turn=jnp.where(fresh, turn, before.turn),
    fresh=fresh,
    started=before.started.at[prompt].add(fresh.sum(axis=1)),
    waiting=waiting,
  )


class _State(NamedTuple):
  lanes: Lanes
  assignment: Assignment
  own: Any
  own_length: Array | None
  out: Samples


def make_refill(
  model: Model,
  slots: Slots,
  *,
  group: int,
  enough: int | None = None,
  **options: Any,
) -> Refill:
  """Returns what `make_generate` returns, computed by slots that refill.

  The completions are those of `make_generate` with the same keys (up to
  rounding: the programs differ). The function takes earlier samples of the
  same prompts as a fifth argument, and goes on where they were cut off: what
  they hold is kept, statistics included, and read again by the new parameters.

  Args:
    model: functions of the policy.
    slots: how many run at once.
    group: G completions per prompt.
    enough: stop once so many prompts have all their completions, and leave
      the others unfinished; by default all are finished.
    **options: as `make_rules`.
  """
  rules = make_rules(**options)
  need(group >= 1, "group", group)
  need(enough is None or enough >= 1, "enough", enough)

  def generate(
    params: Params,
    prompts: Prompts,
    key: Array,
    prompt_ids: Array,
    earlier: Samples | None = None,
  ) -> Samples:
    shape = (len(prompt_ids), group, rules.max_new_tokens)
    if earlier is not None and earlier.tokens.shape != shape:
      raise ValueError(
        f"refill: earlier samples are {earlier.tokens.shape}, expected {shape}:"
        " the prompts, group and max_new_tokens of this call"
      )
    policy = make_policy(model, params, rules.vocab_size)
    last, pool = policy.prefill(prompts)
    keys = completion_keys(key, prompt_ids, group)
    out = earlier or empty_samples(shape[:2], rules.max_new_tokens)
    job = _Job(policy, last, pool, keys, slots, rules, earlier is not None)
    out = out._replace(
      tokens=jnp.where(out.mask, out.tokens, rules.pad_id),
      slot_steps=jnp.zeros((), jnp.int32),
    )
    return job.run(out, enough)

  return jax.jit(generate)


def empty_samples(shape: tuple[int, int], length: int) -> Samples:
  """Returns samples [N, G, length] of completions that have not begun."""
  numbers = jnp.zeros((*shape, length))
  return Samples(
    tokens=jnp.zeros(numbers.shape, jnp.int32),
    mask=jnp.zeros(numbers.shape, bool),
    finished=jnp.zeros(shape, bool),
    logprobs=numbers,
    entropies=numbers,
    top1=numbers,
    sampling_logprobs=numbers,
    slot_steps=jnp.zeros((), jnp.int32),
  )


def complete(samples: Samples) -> Array:
  """Returns bool[N, G]: the completion has ended or is full."""
  return samples.finished | samples.mask[..., -1]


class _Job(NamedTuple):
  """One rollout: what does not change while it runs."""

  policy: Policy
  last: Array
  pool: Prefix
  keys: Array
  slots: Slots
  rules: Decoding
  resumes: bool

  def run(self, out: Samples, enough: int | None) -> Samples:
    """Completes the samples, or as many prompts as are enough."""
    ready = complete(out)
    # Those still to be drawn are handed out in order, the others skipped.
    order = jnp.argsort(ready, axis=1, stable=True)
    wanted = (~ready).sum(axis=1)

    def running(s: _State) -> Array:
      work = ~s.lanes.done.all() | (s.assignment.started < wanted).any()
      if enough is None:
        return work
      return work & (complete(s.out).all(axis=1).sum() < enough)

    def body(s: _State) -> _State:
      at = assign(s.assignment, s.lanes.done, wanted)
      who = (at.prompt[:, None], order[at.prompt[:, None], at.turn])
      lanes, prefix, out = self.fill(s, at, who)
      segment = run_segment(
        self.policy.decoder(prefix),
        lanes,
        self.policy.model.init_cache(
          prefix, self.slots.width, self.slots.segment
        ),
        self.rules,
        steps=self.slots.segment,
      )
      prefix = caches.append(prefix, segment.cache, segment.mask.sum(-1))
      out = _write(out, who, lanes.lengths, segment.columns, segment.mask)
      # A slot that stayed empty still shows the end of its last completion.
      ended = reached(segment.lanes.states, self.rules)
      ended &= at.fresh | ~s.lanes.done
      computed = at.fresh.sum() + at.fresh.size * segment.count
      out = out._replace(
        finished=out.finished.at[who].max(ended),
        slot_steps=out.slot_steps + computed,
      )
      return _State(segment.lanes, at, prefix.own, prefix.own_length, out)

    return jax.lax.while_loop(running, body, self.start(out)).out

  def start(self, out: Samples) -> _State:
    """Returns the state in which every slot is empty."""
    shape = (self.slots.rows, self.slots.width)
    zero = jnp.zeros(shape, jnp.int32)
    nobody = zero > 0
    rows = caches.take_prompts(self.pool, zero[:, 0]).prompt
    columns = max(self.rules.max_new_tokens - 1, 1)
    return _State(
      lanes=Lanes(self.keys[zero, zero], zero, zero, zero, ~nobody),
      assignment=Assignment(
        prompt=zero[:, 0] - 1,
        turn=zero,
        fresh=nobody,
        started=jnp.zeros(self.keys.shape[:1], jnp.int32),
        waiting=jnp.zeros((), jnp.int32),
      ),
      own=caches.empty(rows, self.slots.width, columns),
      own_length=zero,
      out=out,
    )

  def fill(
    self, s: _State, at: Assignment, who: tuple[Array, Array]
  ) -> tuple[Lanes, Prefix, Samples]:
    """Puts fresh completions into their slots; draws their first token."""
    prefix = caches.take_prompts(self.pool, at.prompt)
    logits = self.policy.logits(self.last[at.prompt])[:, None]
    keys = self.keys[who]
    shape = (*at.fresh.shape, logits.shape[-1])
    new, first = begin(keys, jnp.broadcast_to(logits, shape), self.rules)
    own, past, begun = s.own, jnp.zeros_like(s.own_length), at.fresh
    if self.resumes:
      old, lengths = s.out.tokens[who], s.out.mask[who].sum(-1)
      known = lengths > 0
      new = self.resume(keys, old, lengths).where(known, new)
      past = jnp.maximum(lengths - 1, 0)  # the last token is not read yet
      begun, again = at.fresh & ~known, at.fresh & known
      own = jax.lax.cond(
        again.any(), lambda: self.reread(prefix, own, old, again), lambda: own
      )

    prefix = prefix._replace(
      own=own, own_length=jnp.where(at.fresh, past, s.own_length)
    )
    lanes = new.where(at.fresh, s.lanes)
    zero = jnp.zeros_like(at.turn)
    return lanes, prefix, _write(s.out, who, zero, first, begun[..., None])

  def resume(self, keys: Array, tokens: Array, lengths: Array) -> Lanes:
    """Returns lanes that go on behind the tokens they hold."""

    def read(states, column):
      token, position = column
      return follow(states, token, position < lengths, self.rules), None

    columns = (jnp.moveaxis(tokens, -1, 0), jnp.arange(tokens.shape[-1]))
    states, _ = jax.lax.scan(read, jnp.zeros_like(lengths), columns)
    last = jnp.maximum(lengths - 1, 0)[..., None]
    pending = jnp.take_along_axis(tokens, last, axis=-1)[..., 0]
    return Lanes(keys, pending, lengths, states, jnp.zeros(lengths.shape, bool))

  def reread(
    self, prefix: Prefix, own: Any, tokens: Array, which: Array
  ) -> Any:
    """Returns `own` with the keys and values of earlier tokens, all at once."""
    width, columns = tokens.shape[1], jax.tree.leaves(own)[0].shape[2]
    blank = self.policy.model.init_cache(prefix, width, columns)
    _, new = self.policy.read(prefix, blank, tokens[..., :columns], 0)
    where = which[..., None, None, None]
    return jax.tree.map(lambda a, b: jnp.where(where, a, b), new, own)


def _write(
  out: Samples,
  who: tuple[Array, Array],
  first: Array,
  columns: Draw,
  mask: Array,
) -> Samples:
  """Returns the samples with new columns behind what each one has.

  Args:
    out: [N, G, T].
    who: (prompt i32[R, 1], sample i32[R, W]) whose columns they are.
    first: i32[R, W] position of the first column.
    columns: [R, W] or [R, W, U].
    mask: bool[R, W, U] columns that hold a token; others are dropped.
  """
  length = out.tokens.shape[-1]
  position = first[..., None] + jnp.arange(mask.shape[-1])
  prompt, sample = who
  index = (
    prompt[..., None],
    sample[..., None],
    jnp.where(mask, position, length),
  )

  def put(x, new):
    return x.at[index].set(new.reshape(mask.shape), mode="drop")

  new = columns._asdict()
  return out._replace(
    mask=put(out.mask, mask),
    **{name: put(getattr(out, name), new[name]) for name in new},
  )
