"""Journal: what is written is read back, whatever a kill leaves behind."""

import json
import math
import subprocess
import sys

import pytest
from tensorboardX.proto import event_pb2

from jaxvlm import journal, lock


def _write(workdir, steps, **kwargs):
  with journal.Journal(
    workdir, total_steps=10, progress=False, **kwargs
  ) as log:
    for step in steps:
      log.write(step, {"loss/total": step / 8, "policy/entropy": 1.5})
  return workdir / "metrics.jsonl"


def _steps(path):
  return [record["step"] for record in journal.read(path)]


def test_one_sorted_object_per_step(tmp_path):
  with journal.Journal(
    tmp_path / "new" / "run", total_steps=3, progress=False
  ) as log:
    log.write(1, {"time/b": 2, "loss/a": 0.25})
    # Flushed: a reader sees the line while the run goes on.
    lines = (tmp_path / "new/run/metrics.jsonl").read_text().splitlines()
  assert lines == ['{"step": 1, "loss/a": 0.25, "time/b": 2.0}']


def test_non_finite_values_are_valid_json_and_come_back(tmp_path):
  values = {"a": math.nan, "b": math.inf, "c": -math.inf}
  with journal.Journal(tmp_path, total_steps=1, progress=False) as log:
    log.write(1, values)

  def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")

  path = tmp_path / "metrics.jsonl"
  record = json.loads(path.read_text(), parse_constant=refuse)
  assert record == {"step": 1, "a": "nan", "b": "inf", "c": "-inf"}
  (record,) = journal.read(path)
  assert math.isnan(record["a"])
  assert (record["b"], record["c"]) == (math.inf, -math.inf)


def test_any_torn_last_line_is_left_out(tmp_path):
  path = _write(tmp_path, [1, 2, 3])
  whole = path.read_bytes()
  second_end = whole.index(b"\n", whole.index(b"\n") + 1) + 1
  for cut in range(second_end, len(whole) - 1):
    path.write_bytes(whole[:cut])
    assert _steps(path) == [1, 2], cut
  # Complete but for its newline, the record counts.
  path.write_bytes(whole[:-1])
  assert _steps(path) == [1, 2, 3]
  path.write_bytes(whole + b"\x00\x00\xff")
  assert _steps(path) == [1, 2, 3]


def test_damage_before_the_last_line_is_an_error(tmp_path):
  path = _write(tmp_path, [1, 2])
  path.write_bytes(b'{"step": 0, "lo\n' + path.read_bytes())
  with pytest.raises(ValueError, match=r"metrics\.jsonl, line 1"):
    journal.read(path)


def test_truncate_cuts_later_records_and_the_torn_line(tmp_path):
  path = _write(tmp_path, [1, 2, 3, 4])
  lines = path.read_bytes().splitlines(keepends=True)
  path.write_bytes(b"".join(lines) + b'{"step": 5, "loss/to')
  journal.truncate(path, 2)
  assert path.read_bytes() == b"".join(lines[:2])
  assert [p.name for p in tmp_path.iterdir() if p.name != "tb"] == [path.name]
  journal.truncate(path, 0)
  assert path.read_bytes() == b""
  journal.truncate(tmp_path / "absent.jsonl", 3)
  assert not (tmp_path / "absent.jsonl").exists()


def test_truncate_is_atomic(tmp_path, monkeypatch):
  path = _write(tmp_path, [1, 2, 3])
  before = path.read_bytes()

  def killed(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(journal.os, "replace", killed)
  with pytest.raises(KeyboardInterrupt):
    journal.truncate(path, 1)
  assert path.read_bytes() == before


def test_continuing_repairs_a_torn_line_and_resumes_equal(tmp_path):
  whole = _write(tmp_path / "whole", [1, 2, 3, 4]).read_bytes()
  path = _write(tmp_path / "killed", [1, 2, 3])
  path.write_bytes(path.read_bytes() + b'{"step": 4, "lo')
  journal.truncate(path, 2)
  _write(tmp_path / "killed", [3, 4])
  assert path.read_bytes() == whole
  path.write_bytes(whole[:-20])
  _write(tmp_path / "killed", [4])
  assert path.read_bytes() == whole


@pytest.mark.parametrize("step", [2, 3])
def test_a_recorded_step_is_refused(tmp_path, step):
  _write(tmp_path, [1, 3])
  with pytest.raises(ValueError, match=f"got {step}, expected more than 3"):
    _write(tmp_path, [step])


def test_reserved_key_and_remote_folder_are_refused(tmp_path):
  with journal.Journal(tmp_path, total_steps=1, progress=False) as log:
    with pytest.raises(ValueError, match='"step"'):
      log.write(1, {"step": 1.0})
  with pytest.raises(ValueError, match="gs://bucket"):
    journal.Journal("gs://bucket/run", total_steps=1)


def test_bar_starts_at_the_restored_step_and_shows_the_headline(
  tmp_path, capsys
):
  _write(tmp_path, [1, 2, 3, 4])
  with journal.Journal(tmp_path, total_steps=10, name="grpo") as log:
    log.write(
      6,
      {
        "loss/a": 9.0,
        "loss/total": 0.5,
        "reward/mean": 0.25,
        "policy/entropy": 1.75,
        "time/tokens_per_s": 1234.0,
        "grad/norm": 3.0,
      },
    )
  captured = capsys.readouterr()
  assert captured.out == ""
  assert "grpo:" in captured.err
  assert "4/10" in captured.err  # where it started
  last = captured.err.replace("\r", "\n").strip().splitlines()[-1]
  assert "6/10" in last
  assert "loss=0.5, reward=0.25, entropy=1.75, tokens/s=1234" in last
  assert "norm" not in last


def test_bar_falls_back_to_the_first_loss(tmp_path, capsys):
  with journal.Journal(tmp_path, total_steps=2) as log:
    log.write(2, {"loss/b": 2.0, "loss/a": 1.0})
  assert "loss=1" in capsys.readouterr().err


def test_no_bar_without_progress(tmp_path, capsys):
  _write(tmp_path, [1])
  assert capsys.readouterr().err == ""


def _events(folder):
  """Reads TFRecords: length u64, crc u32, payload, crc u32."""
  for path in sorted(folder.iterdir()):
    data = path.read_bytes()
    while data:
      size = int.from_bytes(data[:8], "little")
      yield event_pb2.Event.FromString(data[12 : 12 + size])
      data = data[16 + size :]


def test_a_second_journal_is_refused_and_the_first_keeps_its_file(tmp_path):
  with journal.Journal(tmp_path, total_steps=3, progress=False) as first:
    first.write(1, {"a": 0.5})
    second = journal.Journal(tmp_path, total_steps=3, progress=False)
    with pytest.raises(lock.HeldError, match=f"{tmp_path} is in use"), second:
      pass
    first.write(2, {"a": 0.25})
  with journal.Journal(tmp_path, total_steps=3, progress=False) as again:
    again.write(3, {"a": 0.125})
  assert _steps(tmp_path / "metrics.jsonl") == [1, 2, 3]


def test_a_journal_uses_the_lock_of_its_caller(tmp_path):
  with lock.hold(tmp_path) as held:
    with journal.Journal(
      tmp_path, total_steps=1, progress=False, lock=held
    ) as log:
      log.write(1, {"a": 0.5})
    # It is the caller's to give back.
    with pytest.raises(lock.HeldError), lock.hold(tmp_path):
      pass


def test_a_journal_that_cannot_open_gives_the_lock_back(tmp_path):
  (tmp_path / "metrics.jsonl").write_text("no record\nno record\n")
  with (
    pytest.raises(ValueError, match="line 1"),
    journal.Journal(tmp_path, total_steps=1, progress=False),
  ):
    pass
  with lock.hold(tmp_path):
    pass


def test_tensorboard_holds_scalars_text_and_the_purge(tmp_path):
  with journal.Journal(tmp_path, total_steps=3, progress=False) as log:
    log.write(1, {"loss/total": 0.5}, text={"sample": "so \\boxed{7}"})
  with journal.Journal(tmp_path, total_steps=3, progress=False) as log:
    log.write(2, {"loss/total": 0.25})
  events = list(_events(tmp_path / "tb"))
  scalars = {
    (event.step, value.tag, value.simple_value)
    for event in events
    for value in event.summary.value
    if value.HasField("simple_value")
  }
  assert scalars == {(1, "loss/total", 0.5), (2, "loss/total", 0.25)}
  texts = [
    value.tensor.string_val
    for event in events
    for value in event.summary.value
    if value.tag.startswith("sample")
  ]
  assert texts == [[b"so \\boxed{7}"]]
  assert [event.step for event in events if event.HasField("session_log")] == [
    2
  ]


def test_reading_a_journal_imports_no_heavy_package():
  code = (
    "import sys; from jaxvlm import journal;"
    "heavy = {'jax', 'torch', 'tensorboardX'} & set(sys.modules);"
    "assert not heavy, heavy"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
