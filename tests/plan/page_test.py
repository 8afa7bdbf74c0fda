"""Tables: one cell on a screen, all cells on a page."""

import dataclasses
import json

from jaxvlm.models.qwen2_5_vl import presets
from jaxvlm.plan import cell, matrix, page, roofline, table, topology
from jaxvlm.plan.setting import Objective, Setting

GIB = topology.GIB
CHIP = topology.CHIPS["v5e"]
SETTING = Setting(presets.QWEN_7B, Objective.SFT, "v5e:8x8")
REPORT = cell.Report(
  devices=64,
  memory=cell.Memory(GIB, 2 * GIB, 0, 1000, 3 * GIB, 6 * GIB, CHIP.hbm),
  flops=cell.Flops(1e15, 4e15, 1e15, 0.0, 8e15),
  hbm_bytes=5e10,
  communication=(cell.Communication("all-gather", 56, 3e10, "bf16[1] × 28"),),
  bounds=roofline.roofline(
    CHIP,
    flops=8e15 / 64,
    model_flops=6e15 / 64,
    hbm_bytes=5e10,
    wire_bytes=3e10,
  ),
  faults=(),
  buffers=((1.5, "bf16[28, 1024]", "jit(step)/while"),),
  lower_seconds=3.0,
  compile_seconds=60.0,
  cpu_seconds=70.0,
)
MISFIT = cell.Misfit(
  8,
  20 * GIB,
  CHIP.hbm,
  "RESOURCE_EXHAUSTED: …",
  ("--lora_rank=64: …", "b", "c"),
)


def test_the_roofline_names_the_largest_bound():
  b = REPORT.bounds
  assert b.compute == 8e15 / 64 / CHIP.flops
  assert b.memory == 5e10 / CHIP.bandwidth
  assert b.network == 3e10 / CHIP.link
  assert b.bound == "compute" and b.seconds == b.compute
  # Three quarters of what is computed is asked for.
  assert abs(b.mfu - 0.75) < 1e-12


def test_a_cell_on_a_screen():
  text = table.describe(SETTING, REPORT)
  for part in (
    "sft on v5e:8x8 (64 chips)",
    "temporaries             3.00",
    "6.00   38% of 15.75",
    "model                 6000.0",
    "executed              8000.0",
    "all-gather             56    30.000",
    "all passed",
    "<- bound",
    "75% of the peak",
    "1.50 GiB  bf16[28, 1024]",
  ):
    assert part in text, part
  faulty = dataclasses.replace(REPORT, faults=("donation: …",))
  assert "all passed" not in table.describe(SETTING, faulty)


def test_a_misfit_on_a_screen_says_what_to_change():
  text = table.describe(SETTING, MISFIT)
  assert "DOES NOT FIT: needs 20.00 GiB per chip, 15.75 GiB" in text
  assert text.endswith("--lora_rank=64: …\n    b\n    c")


def test_json_holds_all_of_a_cell():
  found = json.loads(json.dumps(table.to_json(SETTING, REPORT)))
  assert found["fits"] is True
  assert found["setting"]["objective"] == "sft"
  assert found["setting"]["remat"] == "full"
  assert found["setting"]["model"]["vision"]["depth"] == 32
  assert found["result"]["memory"]["peak"] == 6 * GIB
  assert found["result"]["memory"]["share"] == REPORT.memory.share
  assert found["result"]["flops"]["model"] == 6e15
  assert found["result"]["bounds"]["bound"] == "compute"
  assert table.to_json(SETTING, MISFIT)["fits"] is False


def _entry(name, result=REPORT):
  flags = matrix.CELLS.get(name, "")
  done = table.to_json(SETTING, result)
  return {"name": name, "flags": flags, "wall_s": 1.0} | done


def test_a_page_has_a_row_per_cell_with_every_column():
  names = list(matrix.CELLS)[:3]
  entries = [
    _entry(names[0]),
    _entry(names[1], MISFIT),
    {"name": names[2], "flags": "", "error": "not compiled"},
  ]
  lines = list(page.lines(entries))
  rows = [line for line in lines if line.startswith("|")]
  assert len(rows) == 2 + 3
  assert len({row.count("|") for row in rows}) == 1
  assert "| 6.00 | 38% |" in rows[2] and rows[2].endswith("passed |")
  assert "does not fit" in rows[3] and "127%" in rows[3]
  assert rows[4].endswith("not compiled |")
  assert "3 cells, 1 fit" in lines[2]
  assert not any("marked" in line or "°" in line for line in lines)
  marked = list(page.lines([entries[0] | {page.OLD: True}, *entries[1:]]))
  assert any(line.startswith("1 rows, marked °") for line in marked)
  assert sum(line.startswith(f"| {names[0]}° |") for line in marked) == 1


def test_a_page_prints_the_ratio_of_compile_times():
  slow = dataclasses.replace(REPORT, cpu_seconds=210.0)
  entries = [_entry("scanned"), _entry("unrolled", slow)]
  assert any("**3.0×**" in line for line in page.lines(entries))
  assert not any("×**" in line for line in page.lines(entries[:1]))


def test_one_line_says_how_a_cell_went():
  assert "peak 6.00 GiB (38%)" in page.verdict(_entry("x"))
  assert page.verdict(_entry("x", MISFIT)) == "does not fit: 20.00 GiB"
  assert page.verdict({"error": "late"}) == "late"
