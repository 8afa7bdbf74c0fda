"""docs/pods.md: what `make pods` found, as a Markdown page."""

from collections.abc import Iterator
from typing import Any

from jaxvlm.plan import matrix
from jaxvlm.plan.topology import GIB

# What `jaxvlm plan --json` wrote, with `name`, `flags` and `wall_s`;
# or `error` in place of a result.
Entry = dict[str, Any]
# Field of an entry: whether it is of an older program, or read by older rules.
OLD = "old"


def lines(entries: list[Entry]) -> Iterator[str]:
  """Yields the lines of docs/pods.md.

  Args:
    entries: of the cells compiled so far.
  """
  table = [e for e in entries if e["name"] in matrix.CELLS]
  fits = [e for e in table if e.get("fits")]
  yield "# Which step fits which slice"
  yield ""
  yield (
    f"{len(table)} cells, {len(fits)} fit. Made by `make pods`: the actual"
    " train step or rollout, compiled ahead of time by the TPU compiler"
    " (libtpu) on a machine without a TPU. Nothing here was run on a TPU:"
    " memory is the compiler's, FLOPs are counted in the traced program,"
    " times are lower bounds. Sizes per chip, GiB = 2³⁰ bytes."
  )
  marked = sum(e.get(OLD, False) for e in table)
  if marked:
    yield ""
    yield (
      f"{marked} rows, marked °, are of an older program or were read by older"
      " rules; `make pods` makes them anew."
    )
  yield ""
  yield (
    "| cell | chips | weights | optimizer | frozen | temporary | peak | of HBM"
    " | model PFLOP | executed | HBM GB | sent GB | bound | ms ≥ | MFU ≤"
    " | s | CPU s | checks |"
  )
  yield "|---|" + "---:|" * 11 + "---|---:|---:|---:|---:|---|"
  for entry in table:
    mark = "°" if entry.get(OLD) else ""
    yield _row({**entry, "name": entry["name"] + mark})
  yield ""
  yield from _legend()
  yield from _ratio(entries)
  yield "## Flags"
  yield ""
  yield "`jaxvlm plan` with these flags prints a cell in full."
  yield ""
  yield from (f"* {e['name']}: `{e['flags']}`" for e in table)


def _row(e: Entry) -> str:
  return "| " + " | ".join(map(str, _cells(e))) + " |"


def _cells(e: Entry) -> list[Any]:
  if "error" in e:
    return [e["name"], *[""] * 16, e["error"]]
  r = e["result"]
  if not e["fits"]:
    share = r["needed"] / r["available"]
    advice = "does not fit; " + " · ".join(r["advice"][:2])
    peak = f"{r['needed'] / GIB:.1f}", f"{share:.0%}"
    return [e["name"], r["devices"], *[""] * 4, *peak, *[""] * 9, advice]
  m, b = r["memory"], r["bounds"]
  sizes = ("parameters", "optimizer", "frozen", "temporaries", "peak")
  return [
    e["name"],
    r["devices"],
    *(f"{m[name] / GIB:.2f}" for name in sizes),
    f"{m['share']:.0%}",
    f"{r['flops']['model'] / 1e15:.2f}",
    f"{r['flops']['executed'] / 1e15:.2f}",
    f"{r['hbm_bytes'] / 1e9:.0f}",
    f"{sum(c['bytes'] for c in r['communication']) / 1e9:.1f}",
    b["bound"],
    f"{1e3 * b['seconds']:.0f}",
    f"{b['mfu']:.0%}",
    f"{e['wall_s']:.0f}",
    f"{r['cpu_seconds']:.0f}",
    "; ".join(r["faults"]) or "passed",
  ]


def _legend() -> Iterator[str]:
  yield (
    "*weights*: trainable; *frozen*: base, teacher, reference, or all weights"
    " of a rollout; *temporary*: activations, gradients and collected layers at"
    " their largest. *model PFLOP*: what a step needs (causal attention as a"
    " triangle, no recomputation), *executed*: what the traced program does,"
    " both over the whole slice. *ms ≥*: the largest of compute, memory and"
    " network time, each at the data sheet's peak. *s*: of the whole command,"
    " on two cores that other work shared; *CPU s*: tracing and compiling."
    " *checks*: no all-gather of a parameter of all layers, none of float32"
    " logits, the state updated in place."
  )
  yield ""
  yield (
    "What `sent` is made of: weights are collected a layer at a time, twice"
    " (forward, and again backward); gradients go back in pieces. Where `fsdp`"
    " spans all of a slice of 64 chips, this compiler sums them with an"
    " all-reduce instead, also when it is asked for a reduce-scatter by name;"
    " `--mesh.data` above 1 avoids that, and a part of the network's time, for"
    " memory (compare the two rows of `7b sft v5e:8x8`)."
  )
  yield ""


def _ratio(entries: list[Entry]) -> Iterator[str]:
  """Yields what scanning the layers saves in compile time."""
  cpu = {
    e["name"]: e["result"]["cpu_seconds"]
    for e in entries
    if e["name"] in ("scanned", "unrolled") and e.get("fits")
  }
  if len(cpu) == 2:
    yield "## Scanned and unrolled layers"
    yield ""
    yield (
      f"`{matrix.SCANNED}`: {cpu['scanned']:.0f} s of CPU to trace and compile"
      f" scanned, {cpu['unrolled']:.0f} s unrolled:"
      f" **{cpu['unrolled'] / cpu['scanned']:.1f}×**."
    )
    yield ""


def verdict(e: Entry) -> str:
  """Returns a cell's outcome in one line."""
  if "error" in e:
    return e["error"]
  r = e["result"]
  if not e["fits"]:
    return f"does not fit: {r['needed'] / GIB:.2f} GiB"
  m = r["memory"]
  return (
    f"peak {m['peak'] / GIB:.2f} GiB ({m['share']:.0%}),"
    f" {r['cpu_seconds']:.0f} s of CPU, {e['wall_s']:.0f} s;"
    f" {'; '.join(r['faults']) or 'checks passed'}"
  )
