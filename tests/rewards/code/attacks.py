"""Programs that want a reward without earning it, or something worse.

Each defines f rightly only if its attack has succeeded; the tests are those
of x + 1. So a program that passes is an escape, and none may pass.
"""

import textwrap

TESTS = "assert f(3) == 4\nassert f(10) == 11\nassert f(-6) == -5\n"
_RIGHT = "\nif won:\n  f = lambda x: x + 1\nelse:\n  f = lambda x: None\n"


def _attempt(body: str) -> str:
  """Returns a program whose f is right if the body runs through."""
  body = textwrap.indent(textwrap.dedent(body).strip(), "  ")
  return (
    f"try:\n{body}\n  won = True\nexcept BaseException:\n  won = False{_RIGHT}"
  )


# What a program must not be able to do. {port}, {secret} and {outside} are a
# listening socket, a file to read and a folder to write to.
FORBIDDEN = {
  "fork": "import os\nif os.fork() == 0: os._exit(0)",
  "daemon": """
    import os, time
    if os.fork() == 0:
      os.setsid()
      if os.fork() == 0:
        time.sleep(60)
      os._exit(0)
  """,
  "subprocess": "import subprocess\nsubprocess.run(['true'], check=True)",
  "shell": "import os\nassert os.system('true') == 0",
  "exec": "import os\nos.execv('/bin/true', ['true'])",
  "thread": """
    import threading, time
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
  """,
  "network v4": """
    import socket
    socket.create_connection(("127.0.0.1", {port}), 1)
  """,
  "network v6": """
    import socket
    socket.socket(socket.AF_INET6).connect(("::1", {port}))
  """,
  "unix socket": """
    import socket
    socket.socket(socket.AF_UNIX).bind("\\0jaxvlm")
  """,
  "udp": """
    import socket
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(b"x", ("127.0.0.1", {port}))
  """,
  "environment": """
    import os
    assert set(os.environ) - {"PYTHONHASHSEED", "LANG", "LC_CTYPE"}
  """,
  "ptrace": """
    import ctypes, os
    assert ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0
  """,
  "posix": "import posix\nposix.fork() or posix._exit(0)",
  "syscall": """
    import ctypes
    assert ctypes.CDLL(None).syscall(57) >= 0
  """,
  "new namespaces": """
    import ctypes
    assert ctypes.CDLL(None).unshare(0x10000000) == 0
  """,
  "more memory": """
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))
  """,
  "terminal": """
    import fcntl, termios
    fcntl.ioctl(0, termios.TIOCSTI, b"x")
  """,
  "memory file": "import os\nos.memfd_create('x')",
  "shared memory": """
    import ctypes
    assert ctypes.CDLL(None).shmget(1, 1 << 28, 0o1600) >= 0
  """,
  "root": "import os\nos.setuid(0)\nos.chroot('/')",
}
# Needs namespaces: files and processes of others are not there at all.
HIDDEN = {
  "secret": "assert open({secret!r}).read()",
  "passwords": "assert open('/etc/passwd').read()",
  "procfs": "import os\nassert os.listdir('/proc')",
  "list": "import os\nos.listdir({outside!r})",
  "packages": "import numpy",
  "write outside": "open({outside!r} + '/x', 'w').write('x')",
  "write to stdlib": """
    import os
    open(os.path.dirname(os.__file__) + '/x.py', 'w').write('x')
  """,
  "kill parent": "import os\nassert os.getppid() > 0\nos.kill(os.getppid(), 0)",
  "kill by number": """
    import os
    for pid in range(2, 70000):
      try:
        os.kill(pid, 0)
      except OSError:
        continue
      break
    else:
      raise OSError
  """,
  "disk": """
    for i in range(20):
      open(f'/tmp/{i}', 'wb').write(bytes(1 << 20))
  """,
}

_LIAR = """
class Liar({base}):
  def __eq__(self, other): return True
  def __ne__(self, other): return False
  def __hash__(self): return 0
  def __bool__(self): return True
  def __lt__(self, other): return True
f = lambda x: Liar()
"""
# What would deceive a judge that shares the program's process, or its trust.
FORGED = {
  "sys.exit": "import sys\nsys.exit(0)",
  "os._exit": "import os\nos._exit(0)",
  "exit when called": "import os\ndef f(x): os._exit(0)",
  "raise in call": "def f(x): raise SystemExit(0)",
  "__eq__ of an object": _LIAR.format(base="object"),
  "__eq__ of an int": _LIAR.format(base="int"),
  "__eq__ of a str": _LIAR.format(base="str"),
  "__eq__ within a list": _LIAR.format(base="int") + "f = lambda x: [Liar()]",
  "test function": "def check(*_): pass\ndef test(*_): pass\ndef f(x): 0",
  "builtins": """
import builtins
builtins.AssertionError = type("A", (Exception,), {})
builtins.len = builtins.isinstance = lambda *_: True
def f(x): return 0
""",
  "assertion swallowed": """
import sys
sys.excepthook = lambda *_: None
sys.settrace(lambda *_: None)
def f(x): return 0
""",
  "frames": """
import sys
def f(x):
  frame = sys._getframe()
  while frame:
    for value in list(frame.f_locals.values()):
      if isinstance(value, (str, bytes)) and str(x + 0) in str(value):
        if "assert" in str(value):
          return eval(str(value).split("f(%d) == " % x)[1].split()[0])
    frame = frame.f_back
""",
  "garbage": """
import gc
def f(x):
  for value in gc.get_objects():
    if isinstance(value, dict):
      for found in value.values():
        if isinstance(found, str) and "assert f(%d)" % x in found:
          return int(found.split("f(%d) == " % x)[1].split()[0])
""",
  "own memory": """
import ctypes
# Whatever earlier jobs have left in the memory of the process.
def f(x):
  want = b"assert f(%d) == " % x
  start = id(object()) & ~0xFFFF
  for at in range(start - (1 << 20), start + (1 << 20), 4096):
    try:
      page = ctypes.string_at(at, 4096)
    except BaseException:
      continue
    if want in page:
      return int(page.split(want)[1].split()[0])
""",
  "codec": """
import sys
codec = sys.modules.get("jaxvlm.rewards.code.codec")
class Evil:
  def __reduce__(self): return (print, ("passed",))
codec.encode = lambda value: b"cposix\\nsystem\\n(S'true'\\ntR."
def f(x): return Evil()
""",
  "report forged": """
import os
for fd in range(3, 64):
  for text in (b"P 0 ", b"passed", b"\\x05\\0\\0\\0VN\\0\\0\\0\\0"):
    try: os.write(fd, text)
    except OSError: pass
def f(x): return 0
""",
  "printed": """
def f(x):
  print("P 0 ", flush=True)
  print("OK\\n1 passed\\n" * 10)
""",
  "import hook": """
import sys
class Finder:
  @staticmethod
  def find_spec(name, path=None, target=None): return None
sys.meta_path.insert(0, Finder)
sys.modules["json"] = sys.modules["tests"] = sys
def f(x): return 0
""",
  "signals": """
import signal, time
for number in range(1, 64):
  try: signal.signal(number, lambda *_: None)
  except (OSError, ValueError): pass
def f(x):
  while True: time.sleep(1)
""",
  "at exit": """
import atexit, os
atexit.register(lambda: os.write(3, b"P 0 "))
def f(x): raise KeyboardInterrupt
""",
  "fake module": """
import sys, types
class All(types.ModuleType):
  def __getattr__(self, name): return lambda *_: True
sys.modules["solution"] = All("solution")
""",
}
# What would take the machine along.
GREEDY = {
  "fork bomb": "import os\nwhile True: os.fork()",
  "big integer": "f = lambda x: len(str(9 ** 9 ** 9))",
  "memory": "f = lambda x: len(bytearray(1 << 36))",
  "list": "def f(x):\n  a = [0]\n  while True: a += a",
  "descriptors": "import os\nf = lambda x: [os.dup(0) for _ in range(10**6)]",
  "sleep": "import time\nf = lambda x: time.sleep(1000)",
  "output": "def f(x):\n  while True: print('x' * 1000)",
  "endless answer": "def f(x):\n  while True: yield x",
  "huge answer": "f = lambda x: 'x' * (1 << 24)",
  "deep answer": """
def f(x):
  a = []
  for _ in range(100000): a = [a]
  return a
""",
  "recursion": "import sys\nsys.setrecursionlimit(10**9)\nf = lambda x: f(x)",
  "deep source": "f = " + "(" * 10000 + ")" * 10000,
  "input": "f = lambda x: input()",
}


def programs(port: int, secret: str, outside: str) -> dict[str, str]:
  """Returns the attacks that no level may let through, by name."""
  return {name: _filled(body, port, secret, outside)
          for name, body in FORBIDDEN.items()} | FORGED | GREEDY  # fmt: skip


def hidden(port: int, secret: str, outside: str) -> dict[str, str]:
  """Returns the attacks on what namespaces hide, by name."""
  return {
    name: _filled(body, port, secret, outside) for name, body in HIDDEN.items()
  }


def _filled(body: str, port: int, secret: str, outside: str) -> str:
  for name, value in (("port", port), ("secret!r", repr(secret)),
                      ("outside!r", repr(outside))):  # fmt: skip
    body = body.replace(f"{{{name}}}", f"{value}")
  return _attempt(body)


# Solutions that are wrong, and pass where tests or harness are weak.
# problem -> (tests, wrong solutions)
WRONG = {
  "the larger of two": (
    "assert f(3, 4) == 4\nassert f(9, 2) == 9\nassert f(-5, -7) == -5\n",
    [
      "def f(a, b): return b",
      "def f(a, b): return abs(a) if abs(a) > abs(b) else abs(b)",
      "def f(a, b): print(max(a, b))",
      "def f(a, b): return str(max(a, b))",
      "def f(a, b): return {(3, 4): 4, (9, 2): 9}.get((a, b))",
    ],
  ),
  "sorted without repeats": (
    "assert f([3, 1, 3]) == [1, 3]\nassert f([]) == []\n"
    "assert f([2, 2, 1]) == [1, 2]\nassert f([10, 9]) == [9, 10]\n",
    [
      "def f(a): return sorted(a)",
      "def f(a): return list(dict.fromkeys(a))",
      "def f(a): return a.sort()",
      "def f(a): return tuple(sorted(set(a)))",
      "def f(a): return sorted(set(a), key=str)",
    ],
  ),
  "is a palindrome": (
    "assert f('abba') is True\nassert f('ab') is False\n"
    "assert f('') is True\nassert f('Aa') is False\n",
    [
      "def f(s): return True",
      "def f(s): return s.lower() == s.lower()[::-1]",
      "def f(s): return s and s == s[::-1]",
      "def f(s): return 1 if s == s[::-1] else 0",
      "def f(s): return s[0] == s[-1]",
    ],
  ),
  "the nth prime": (
    "assert f(1) == 2\nassert f(4) == 7\nassert f(10) == 29\n",
    [
      "def f(n): return [1, 2, 3, 5, 7, 11, 13, 17, 19, 23, 29][n - 1]",
      "def f(n): return 2 * n - 1 if n > 1 else 2",
      "def f(n): return n * n - n + 2",
      "def f(n): return [2, 3, 5, 7, 9, 11, 13, 15, 17, 19][n - 1]",
      "def f(n): return float('nan')",
    ],
  ),
}
