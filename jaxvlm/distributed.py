"""Several processes, one program: who speaks, what all must agree on.

The same command runs on every host of a slice. Arrays span the hosts by their
shardings; what is no array (which checkpoint, was there a preemption notice)
is settled here, and every wait has an end: a process that died must not leave
the others waiting.
"""

import contextlib
import dataclasses
import json
import logging
import os
import re
import socket
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

# The key-value store of the coordination service has no public name yet.
from jax._src import distributed as _service
from jax.experimental import multihost_utils

from jaxvlm import bars
from jaxvlm.typing import PyTree


def _help(text: str, default):
  return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class DistributedConfig:
  """How the processes of one run find each other.

  By default there is one. On a TPU slice and under SLURM `auto` is all that
  is needed; elsewhere the three addresses are given.
  """

  auto: bool = _help("take all of it from the TPU or SLURM environment", False)
  coordinator_address: str = _help("host:port of process 0, any free port", "")
  process_count: int = _help("number of processes, one a host", 1)
  process_id: int = _help("number of this process, from 0", 0)
  timeout_s: int = _help(
    "a process silent for so long is dead, and the others stop", 100
  )


class PeerError(RuntimeError):
  """The processes of a run do not agree, or one of them is gone."""


# EX_PROTOCOL of sysexits.h: nothing wrong here, the same command goes on.
PEER_LOST = 76
# What collectives and the coordination service say of a peer that is gone.
_LOST = re.compile(
  r"Gloo|NCCL|Connection (?:reset|closed)|heartbeat|UNAVAILABLE|DEADLINE",
  re.IGNORECASE,
)
# A process may be slow and alive: the first one digests all of a checkpoint,
# 90 GB of a 7B run, while the others wait. One that died ends every wait by the
# heartbeats that it misses.
_SLOW_S = 3600
_exchanges = 0  # every process makes the same ones in the same order


def check(config: DistributedConfig) -> None:
  """Raises ValueError for flags that contradict each other."""
  by_hand = DistributedConfig(timeout_s=config.timeout_s)
  if config.timeout_s < 1:
    raise ValueError(
      f"distributed.timeout_s is {config.timeout_s}, expected at least 1"
    )
  if config.auto:
    if dataclasses.replace(config, auto=False) != by_hand:
      raise ValueError(
        "distributed.auto takes addresses from the environment, and"
        f" coordinator_address {config.coordinator_address!r}, process_count"
        f" {config.process_count}, process_id {config.process_id} were given"
        " too; give one or the other"
      )
    return
  if not 0 <= config.process_id < config.process_count:
    raise ValueError(
      f"distributed.process_id is {config.process_id}, expected 0 …"
      f" {config.process_count - 1} for process_count {config.process_count}"
    )
  host, _, port = config.coordinator_address.rpartition(":")
  if config.process_count == 1 and config.coordinator_address:
    raise ValueError(
      "distributed.coordinator_address is"
      f" {config.coordinator_address!r} for one process, expected none; give"
      " the process_count too"
    )
  if config.process_count > 1 and not (host and port.isdecimal()):
    raise ValueError(
      "distributed.coordinator_address is"
      f" {config.coordinator_address!r}, expected host:port of process 0, the"
      " same on every host"
    )


@contextlib.contextmanager
def session(config: DistributedConfig) -> Iterator[None]:
  """Joins the other processes; leaves with them, or tells why not.

  An error ends this process at once, without waiting for the others at the
  door: they are inside a collective that cannot finish any more. They see it
  from the broken connection, at the latest `timeout_s` after the last sign of
  life, and stop as well: with exit code `PEER_LOST`, or ended by JAX (SIGABRT,
  134 in a shell) where it cannot raise.

  Args:
    config: where the others are; one process passes through.

  Raises:
    ValueError: flags that contradict each other.
    PeerError: the others did not come within `timeout_s`.
  """
  check(config)
  if not config.auto and config.process_count == 1:
    yield
    return
  _join(config)
  try:
    yield
  except Exception as error:
    sys.stdout.flush()
    traceback.print_exc()
    lost = isinstance(error, PeerError) or _LOST.search(str(error))
    reason = (
      "another process died or lost the network, see the logs of the others"
      if lost
      else f"of the {type(error).__name__} above"
    )
    print(
      f"process {jax.process_index()} of {jax.process_count()} stops because"
      f" {reason}. The rest follows within {config.timeout_s} s. Start the same"
      " command on every host to resume from the last whole checkpoint",
      file=sys.stderr,
      flush=True,
    )
    os._exit(PEER_LOST if lost else 1)
  finally:
    # Reached in step with the others: the end, or an agreed SystemExit.
    jax.distributed.shutdown()


def _join(config: DistributedConfig) -> None:
  # Its handler of SIGTERM would replace ours (jaxvlm.train.preemption).
  jax.config.update("jax_enable_preemption_service", False)
  by_hand = {
    "coordinator_address": config.coordinator_address,
    "num_processes": config.process_count,
    "process_id": config.process_id,
    "cluster_detection_method": "deactivate",
  }
  if not config.auto and config.process_id > 0:
    _reach(config)
  # JAX does not raise when somebody is late: it ends the process (SIGABRT).
  logging.info("waiting up to %d s for all processes", config.timeout_s)
  try:
    jax.distributed.initialize(
      **({} if config.auto else by_hand),
      initialization_timeout=config.timeout_s,
      heartbeat_timeout_seconds=config.timeout_s,
      shutdown_timeout_seconds=config.timeout_s,
    )
  except (RuntimeError, ValueError) as error:
    raise PeerError(
      f"could not join the other processes: {error}; expected the same command"
      " on every host within"
      f" {config.timeout_s} s (distributed.timeout_s), and a"
      " distributed.coordinator_address that all can reach"
    ) from error
  logging.info("process %d of %d", jax.process_index(), jax.process_count())


def _reach(config: DistributedConfig) -> None:
  """Waits until process 0 listens; PeerError after `timeout_s`."""
  host, _, port = config.coordinator_address.rpartition(":")
  end = time.monotonic() + config.timeout_s
  while True:
    try:
      socket.create_connection((host.strip("[]"), int(port)), 1).close()
      return
    except OSError as error:
      if time.monotonic() > end:
        raise PeerError(
          f"distributed.coordinator_address {config.coordinator_address} does"
          f" not answer for {config.timeout_s} s: {error}; start process 0"
          " there, and see that the port is open and the address is the one"
          " that other hosts can reach"
        ) from error
    time.sleep(0.1)


def is_writer() -> bool:
  """Returns whether this process writes logs, reports and manifests."""
  return jax.process_index() == 0


def bar(items: Iterable, desc: str) -> Iterable:
  """Returns a bar over items that process 0 shows, where they take long."""
  return bars.bar(
    items, desc, show=is_writer(), delay=bars.PATIENCE, leave=False
  )


def any_process(flag: bool) -> bool:
  """Returns whether `flag` is set in any process; all call it together."""
  if jax.process_count() == 1:
    return flag
  return bool(multihost_utils.process_allgather(np.array(flag)).any())


def barrier(name: str) -> None:
  """Waits for every process.

  Args:
    name: what for, used once in a run.

  Raises:
    PeerError: one was silent for the session's `timeout_s`, or all are alive
      and did not come within an hour.
  """
  if jax.process_count() == 1:
    return
  try:
    _client().wait_at_barrier(f"jaxvlm/{name}", _SLOW_S * 1000)
  except jax.errors.JaxRuntimeError as error:
    raise PeerError(
      f"not all of {jax.process_count()} processes came to {name!r}: {error};"
      " see the logs of the others"
    ) from error


def from_writer(value: Any) -> Any:
  """Returns process 0's `value` (JSON) in every process; all call it."""
  if jax.process_count() == 1:
    return value
  return json.loads(_exchange(json.dumps(value))[0])


def agree(what: str, value: str) -> None:
  """Raises PeerError unless every process has the same `value`; all call it."""
  if jax.process_count() == 1:
    return
  values = _exchange(value)
  if len(set(values)) > 1:
    listed = "; ".join(f"process {i}: {v}" for i, v in enumerate(values))
    raise PeerError(
      f"{what} differs between processes: {listed}. Give every host the same"
      " command, code, data and shared folder"
    )


def gather(tree: PyTree) -> PyTree:
  """Returns NumPy arrays of the whole, also of arrays that span hosts."""

  def whole(x):
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
      return multihost_utils.process_allgather(x, tiled=True)
    return jax.device_get(x)

  return jax.tree.map(whole, tree)


def _client():
  return _service.global_state.client


def _exchange(value: str) -> list[str]:
  """Returns every process's value."""
  global _exchanges
  _exchanges += 1
  place = f"jaxvlm/exchange/{_exchanges}"
  # Numbered with leading zeros: the store sorts names.
  _client().key_value_set(f"{place}/{jax.process_index():06d}", value)
  barrier(f"exchange {_exchanges}")
  return [v for _, v in sorted(_client().key_value_dir_get(place))]
