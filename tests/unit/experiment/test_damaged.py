"""damaged.txt: the files that a run leaves out."""

from simclr_jax.experiment import damaged


def test_one_line_for_each_file(tmp_path, capsys):
    files = {"/photos/a b.jpg": "cut", "/photos/a\tb\nc.jpg": "empty"}
    damaged.write(tmp_path, files)
    assert (tmp_path / "damaged.txt").read_text().split("\n") == [
        "/photos/a b.jpg\tcut",
        "/photos/a\\tb\\nc.jpg\tempty",
        "",
    ]
    assert damaged.count(tmp_path) == 2
    assert capsys.readouterr().err == (
        f"  all 2 damaged files are named in {tmp_path / 'damaged.txt'}\n"
    )


def test_it_holds_the_newest_scan(tmp_path, capsys):
    damaged.write(tmp_path, {"/photos/a.jpg": "cut", "/photos/b.jpg": "cut"})
    damaged.write(tmp_path, {"/photos/b.jpg": "cut"})
    assert (tmp_path / "damaged.txt").read_text() == "/photos/b.jpg\tcut\n"
    capsys.readouterr()
    damaged.write(tmp_path, {})
    assert list(tmp_path.iterdir()) == []
    assert damaged.count(tmp_path) == 0
    assert capsys.readouterr().err == ""


def test_a_name_in_another_encoding(tmp_path):
    damaged.write(tmp_path, {"/photos/\udce9.jpg": "cut"})
    assert (tmp_path / "damaged.txt").read_text() == "/photos/\\udce9.jpg\tcut\n"


def test_only_process_0_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("simclr_jax.processes.agreement.first", lambda: False)
    damaged.write(tmp_path, {"/photos/a.jpg": "cut"})
    assert list(tmp_path.iterdir()) == []
