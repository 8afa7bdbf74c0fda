"""`jaxvlm sandbox`: what is promised is tried; one program with its tests."""

import pytest
from absl import flags
from absl.testing import flagsaver

from jaxvlm.rewards.code import Level, Sandbox, Unavailable, namespaces
from jaxvlm.rewards.code.probes import probe

COMMAND = "sandbox"


def said(command, capsys, *words):
  with flagsaver.flagsaver():
    flags.FLAGS(["sandbox", *words])
    command.main()
  return capsys.readouterr().out


def test_every_promise_holds_in_namespaces():
  try:
    with Sandbox(timeout_s=2) as made:
      found = probe(made)
  except Unavailable as error:
    pytest.skip(f"this machine has no namespaces: {error}")
  assert len(found) == 14
  assert not [promise.text for promise in found if not promise.held]


def test_what_is_weaker_without_them_is_said(command, capsys, monkeypatch):
  def refused(pid):
    raise PermissionError(1, "Operation not permitted", "/proc/1/uid_map")

  monkeypatch.setattr(namespaces, "write_map", refused)
  with pytest.raises(Unavailable, match="choose --sandbox=rlimits by hand"):
    Sandbox(workers=1)
  text = said(command, capsys, "--check", "--timeout_s=1")
  assert "namespaces: not available. this machine allows no sandbox" in text
  assert "NOT HELD  no file of others is read" in text
  assert "  held      no verdict is forged" in text
  assert "  held      no connection" in text


def test_one_program_with_its_tests(command, capsys, tmp_path):
  (tmp_path / "p.py").write_text("def f(x): return x\n")
  (tmp_path / "t.py").write_text("def check(f):\n  assert f(1) == 1\n")
  words = (
    f"--program={tmp_path}/p.py",
    f"--tests={tmp_path}/t.py",
    f"--sandbox={Level.RLIMITS.value}",
  )
  assert said(command, capsys, *words, "--entry_point=f") == "passed\n"
  with pytest.raises(ValueError, match="without an entry_point"):
    said(command, capsys, *words)
  with pytest.raises(ValueError, match="expected --check, or --program"):
    said(command, capsys)
