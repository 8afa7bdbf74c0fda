"""What a sandbox guarantees, found out by trying.

A promise is what a program may not do. Its probe is a program that does it and
answers True if it could; the promise is held if that is False.
"""

import os
import pathlib
import socket
import tempfile
import textwrap
from typing import NamedTuple

from jaxvlm.rewards.code.sandbox import Sandbox
from jaxvlm.rewards.code.verdict import Outcome

# {port}, {file}, {folder}, {pid} and {bytes} are of the process that asks.
_PROMISES = {
  "no connection": """
    import socket
    socket.create_connection(("127.0.0.1", {port}), 1).close()
    """,
  "no file of others is read": "open({file!r}).read()",
  "nothing is written outside of its folder": """
    open({folder!r} + "/written", "w").write("x")
    """,
  "no other process is seen": "import os; os.kill({pid}, 0)",
  "no child process": """
    import os
    if os.fork() == 0: os._exit(0)
    """,
  "no thread": """
    import threading
    threading.Thread(target=int).start()
    """,
  "no program is started": """
    import os
    os.execv("/bin/true", ["true"])
    """,
  "memory is limited": "bytearray(2 * {bytes})",
  "files are limited": """
    import os
    for _ in range(10000): os.dup(0)
    """,
  "no memory that no limit counts": """
    import os
    os.memfd_create("x")
    """,
  "no way to other rights": """
    import ctypes
    assert ctypes.CDLL(None).unshare(0x10000000) == 0
    """,
  "no variable of the environment": """
    import os
    assert set(os.environ) - {{"PYTHONHASHSEED", "LANG", "LC_CTYPE"}}
    """,
}
_FORGERY = """
class Liar(int):
  def __eq__(self, other): return True
  __hash__ = int.__hash__
def f(): return Liar()
"""


class Promise(NamedTuple):
  """What a sandbox promises, and whether it holds here."""

  text: str
  held: bool


def probe(sandbox: Sandbox) -> list[Promise]:
  """Returns the promises, each tried in a sandbox.

  Args:
    sandbox: an open one with a timeout of a few seconds: one probe sleeps.
  """
  with (
    tempfile.TemporaryDirectory(prefix="jaxvlm-probe-") as folder,
    socket.create_server(("127.0.0.1", 0)) as server,
  ):
    os.chmod(folder, 0o777)
    file = pathlib.Path(folder) / "secret"
    file.write_text("secret")
    places = {
      "port": server.getsockname()[1],
      "file": str(file),
      "folder": folder,
      "pid": os.getpid(),
      "bytes": sandbox.limits.memory_mb << 20,
    }
    jobs = [
      (_program(body.format(**places)), "assert f() is False")
      for body in _PROMISES.values()
    ]
    endless = "import time\ndef f(): time.sleep(3600)"
    jobs += [(endless, "f()\nassert True"), (_FORGERY, "assert f() == 3")]
    *found, ended, forged = sandbox.run(jobs)
  limit = sandbox.limits.timeout_s + 0.5
  in_time = ended.outcome is Outcome.TIMEOUT and ended.seconds <= limit
  return [
    *(
      Promise(text, verdict.passed)
      for text, verdict in zip(_PROMISES, found, strict=True)
    ),
    Promise("time is limited, within half a second", in_time),
    Promise("no verdict is forged by a value's own ==", not forged.passed),
  ]


def _program(body: str) -> str:
  body = textwrap.indent(textwrap.dedent(body).strip(), "    ")
  return (
    "def f():\n  try:\n"
    f"{body}\n  except BaseException:\n    return False\n  return True\n"
  )
