"""Files of records: kinds of files, folders, what is broken, what escapes."""

import json
import sys
from types import SimpleNamespace
from typing import ClassVar

import pytest

from jaxvlm.data import own
from jaxvlm.data.own import drops, hub
from jaxvlm.data.own.files import files_of

LINE = {"question": "What is x?", "answer": "70"}


def lines(*records) -> bytes:
  return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def questions(path, **options):
  table = own.read(path, own.prompts, **options)
  return [row.question for row in table.rows]


@pytest.mark.parametrize(
  "content",
  [
    lines(LINE, LINE),
    lines(LINE, LINE).strip(),
    b"\xef\xbb\xbf" + lines(LINE, LINE),
    lines(LINE, LINE).replace(b"\n", b"\r\n\r\n"),
    json.dumps([LINE, LINE]).encode(),
    b"\xef\xbb\xbf " + json.dumps([LINE, LINE], indent=2).encode(),
  ],
)
@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_lines_and_arrays(tmp_path, content, ending):
  file = tmp_path / f"rows.{ending}"
  file.write_bytes(content)
  assert questions(file) == ["What is x?"] * 2
  assert questions(str(file)) == ["What is x?"] * 2


def test_a_folder_of_files_and_its_splits(tmp_path):
  (tmp_path / "data").mkdir()
  for name, text in (
    ("train-00000-of-00002.jsonl", "a"),
    ("data/train-00001-of-00002.jsonl", "b"),
    ("data/test.json", "c"),
    ("readme.txt", "d"),
  ):
    (tmp_path / name).write_bytes(lines({"question": text}))
  assert questions(tmp_path, split="train") == ["b", "a"]
  assert questions(tmp_path) == ["c", "b", "a"]
  with pytest.raises(FileNotFoundError, match="no data file of split 'val'"):
    files_of(tmp_path, "val")
  with pytest.raises(ValueError, match=r"ends in \.txt, expected one of"):
    files_of(tmp_path / "readme.txt")
  with pytest.raises(FileNotFoundError, match="hub:owner/name"):
    files_of(tmp_path / "none.jsonl")


def test_broken_records_are_named_and_counted(tmp_path):
  file = tmp_path / "rows.jsonl"
  broken = [
    b'{"question": "a", "answer": ',
    b"[1]",
    b'"text"',
    b"null",
    b'{"question": 3}',
    b'{"question": null}',
    b'{"question": "\xff"}',
    b'{"question": "a", "answer": {"b": 1}}',
    b'{"question": "a", "answer": NaN}',
    b'{"question": "a", "images": [3]}',
    b'{"question": "a", "images": ["http://x.org/a.png"]}',
    b'{"question": "a <image>"}',
    b'{"question": "a", "videos": ["a.mp4"]}',
    b'{"question": "a", "image": "absent.png"}',
    b"[" * 100_000,
    b"9" * 5000,
  ]
  file.write_bytes(lines(LINE | {"videos": []}) + b"\n".join(broken))
  table = own.read(file, own.prompts)
  assert table.found == 1 + len(broken) and len(table.rows) == 1
  places = [place for place, _ in table.dropped]
  assert places == [f"rows.jsonl:{2 + i}" for i in range(len(broken))]
  kept = tmp_path / "made/dropped.jsonl"
  drops.write(kept, table.dropped)
  listed = [json.loads(line) for line in kept.read_text().splitlines()]
  assert [one["row"] for one in listed] == places
  assert "no JSON" in listed[0]["reason"]
  counted = drops.reasons([*table.dropped, ("r", "question is 4, expected a")])
  assert sum(counted.values()) == len(broken) + 1
  with pytest.raises(ValueError, match=r"16 of 17 rows .* at most 1%") as e:
    drops.check(table.dropped, table.found)
  assert "the first is 'rows.jsonl:2': the line is no JSON" in str(e.value)
  assert "\n  1 × the line is no JSON" in str(e.value)
  drops.check(table.dropped[:1], 100)
  drops.check((), 0)


def test_reasons_are_alike_that_differ_in_particulars():
  told = "picture {} does not exist"
  pairs = [(str(i), told.format(f"/data/x/{i}.png")) for i in range(3)]
  pairs += [(str(i), f"the prompt needs {i} tokens") for i in range(2)]
  assert sorted(drops.reasons(pairs).values()) == [2, 3]


def test_files_that_are_broken_as_a_whole_are_refused(tmp_path):
  for name, content, message in (
    ("a.json", b'[{"question": "a"},', "a.json is no JSON"),
    ("b.jsonl", b"", "there is no record"),
    ("c.jsonl", b"\n\n", "there is no record"),
    ("d.jsonl", lines({"question": 3}), "none of 1 records.*question is 3"),
  ):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
      own.read(tmp_path / name, own.prompts)


def test_names_stay_apart(tmp_path):
  file = tmp_path / "rows.jsonl"
  file.write_bytes(lines(LINE | {"id": "a"}, LINE | {"id": "a"}, LINE))
  ids = [row.id for row in own.read(file, own.prompts).rows]
  assert ids == ["a", "a (rows.jsonl:2)", "rows.jsonl:3"]


@pytest.mark.parametrize(
  "path",
  [
    "../secret.png",
    "a/../../secret.png",
    "link.png",
    "linked/secret.png",
    "../data_evil/secret.png",
    "file://../secret.png",
    "a\0.png",
  ],
)
def test_no_path_leaves_the_folder(tmp_path, path):
  folder = tmp_path / "data"
  folder.mkdir()
  for name in ("secret.png", "data_evil/secret.png"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
  (folder / "link.png").symlink_to(tmp_path / "secret.png")
  (folder / "linked").symlink_to(tmp_path)
  (folder / "loop").symlink_to("loop")
  (folder / "a.png").write_bytes(b"x")
  file = folder / "rows.jsonl"
  absolute = str(tmp_path / "secret.png")
  bad = [LINE | {"image": name} for name in (path, absolute, "loop/a.png")]
  file.write_bytes(
    lines(LINE, *bad, LINE | {"images": [str(folder / "a.png")]})
  )
  table = own.read(file, own.prompts)
  assert [place for place, _ in table.dropped] == [
    f"rows.jsonl:{i}" for i in (2, 3, 4)
  ]
  assert all("leaves the data folder" in reason for _, reason in table.dropped)
  # Its own files may be named in full.
  assert table.rows[-1].images == (folder / "a.png",)
  (wide,) = own.read(file, own.prompts, pictures=tmp_path).rows[1:2]
  if path != "a\0.png":
    assert wide.images or wide.id == "rows.jsonl:5"


def test_parquet(tmp_path, monkeypatch):
  pyarrow = pytest.importorskip("pyarrow")
  from pyarrow import parquet

  rows = [
    {
      "problem": f"<image>Find x{i}.",
      "answer": str(i),
      "images": [{"bytes": bytes([i] * 9), "path": None}],
    }
    for i in range(5)
  ]
  file = tmp_path / "train-00000.parquet"
  parquet.write_table(pyarrow.Table.from_pylist(rows), file, row_group_size=2)
  table = own.read(
    tmp_path, own.problems, split="train", keep=tmp_path / "kept"
  )
  assert table.layout == "geometry3k" and table.found == 5
  assert [row.reference for row in table.rows] == list("01234")
  for i, row in enumerate(table.rows):
    (kept,) = row.images
    assert kept.read_bytes() == bytes([i] * 9) and kept.suffix == ""
  whole = file.read_bytes()
  for cut in (0, 3, len(whole) // 2, len(whole) - 1):
    file.write_bytes(whole[:cut])
    with pytest.raises(ValueError, match="train-00000.parquet cannot be read"):
      own.read(file, own.problems)
  monkeypatch.setitem(sys.modules, "pyarrow", None)
  monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
  with pytest.raises(ModuleNotFoundError, match=r"install jaxvlm\[parquet\]"):
    own.read(file, own.problems)


def test_the_hub_is_asked_by_name_only(monkeypatch):
  monkeypatch.setitem(sys.modules, "datasets", None)
  with pytest.raises(ModuleNotFoundError, match=r"install jaxvlm\[hub\]"):
    own.read("hub:owner/name", own.prompts)
  assert not hub.is_name("owner/name")


def test_rows_of_the_hub_keep_pictures_as_they_are_stored(
  monkeypatch, tmp_path, caplog
):
  """With a package of the few names that are used of the real one."""

  class Picture(SimpleNamespace):
    decode = True

  class Pictures(SimpleNamespace):
    pass

  class Data(list):
    features: ClassVar = {
      "images": Pictures(feature=Picture()),
      "problem": "string",
    }

    def cast_column(self, name, kind):
      assert name == "images" and not kind.feature.decode
      return self

  def load_dataset(name, configuration, split):
    if name != "owner/name":
      raise RuntimeError("there is none")
    assert (configuration, split) == ("small", "validation[:7]")
    inside = str(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(b"x")
    values = {"problem": "<image>Find x.", "answer": "3"}
    return Data(
      values | {"images": [{"bytes": None, "path": path}]}
      for path in (inside, "/dev/zero")
    )

  package = SimpleNamespace(
    Image=Picture,
    List=lambda feature: Pictures(feature=feature),
    load_dataset=load_dataset,
    config=SimpleNamespace(HF_CACHE_HOME=str(tmp_path)),
  )
  monkeypatch.setitem(sys.modules, "datasets", package)
  name = "hub:owner/name:small"
  table = own.read(name, own.problems, split="validation[:7]")
  assert "there are 2 records, fewer than asked for" in caplog.text
  (row,) = table.rows
  assert row.id == "owner/name/validation[:7]:1"
  assert row.images == (tmp_path / "a.png",)
  assert "leaves the data folder" in table.dropped[0][1]
  with pytest.raises(ValueError, match="hub:no/one, split 'train', cannot be"):
    own.read("hub:no/one", own.problems)
