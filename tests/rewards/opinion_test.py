"""The second opinion: a worker that hangs, dies, grows, or is not there."""

import sys
import time

import pytest

from jaxvlm.data.rows import Row
from jaxvlm.rewards.opinion import SecondOpinion
from jaxvlm.tasks import final

# Says the verdict that it is asked for; "hang", "die" and "grow" do so.
WORKER = """
import json, resource, sys
size = int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (size, size))
print("ready", flush=True)
for line in sys.stdin:
  said, _ = json.loads(line)
  if said == "hang":
    while True:
      pass
  if said == "die":
    sys.exit(1)
  if said == "grow":
    x = bytearray(4 * size)
  print(said, flush=True)
"""


def opinion(program=WORKER, **options):
  return SecondOpinion(command=(sys.executable, "-c", program), **options)


def test_what_does_not_come_is_no_verdict():
  with opinion(timeout=0.3) as asked:
    assert asked.ask("true", "x") is True
    for trouble in ("die", "grow", "hang"):
      begin = time.monotonic()
      assert asked.ask(trouble, "x") is None
      assert time.monotonic() - begin < 60  # it is killed, not waited for
      assert asked.ask("false", "x") is False  # a new worker
    assert asked.ask("null", "x") is None
    assert asked.ask("x" * 3000, "x") is None
  asked.close()  # twice is as good as once


def test_a_worker_that_does_not_begin():
  with pytest.raises(ModuleNotFoundError, match=r"install jaxvlm\[verify\]"):
    opinion('print("absent")')
  with pytest.raises(RuntimeError, match="expected 'ready'"):
    opinion("raise SystemExit")


def test_disagreements_are_kept_and_told_with_their_rows(caplog):
  row = Row("a/7", "Find x.", "true")
  responses = ["\\boxed{true}", "\\boxed{false}", "\\boxed{null}", "\\boxed{"]
  with opinion() as asked:
    found = final.Checked(asked)(responses, [row] * 4)
  assert found["accuracy"] == found["reward"] == [1, 0, 0, 0]
  assert found["disagreement"] == [0, 0, -1, 0]
  with opinion() as asked:
    found = final.Checked(asked)(["\\boxed{true}"], [Row("b", "?", "yes")])
  assert found["reward"] == [0] and found["disagreement"] == [1]
  assert "row 'b': 'true' is wrong by final 1 and right by" in caplog.text
  assert final.answer("\\boxed{3}") == "3" and final.answer("a\nb") == ""


def test_math_verify_itself():
  pytest.importorskip("math_verify")
  with SecondOpinion() as asked:
    assert asked.ask(r"\sqrt{12}", r"2\sqrt{3}") is True
    assert asked.ask("61", "60") is False
    begin = time.monotonic()
    assert asked.ask("9^{9^{9^{9^{9}}}}", "9^{9^{9^{9}}}") in (None, False)
    assert time.monotonic() - begin < 30
    assert asked.ask("0.5", r"\frac{1}{2}") is True
