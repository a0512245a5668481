r"""`rsca report format=latex`: it would compile, names are plain text, digits are those that an interval supports."""

from __future__ import annotations

import json
import re

import pytest

from rsca_torch.cli.main import main
from rsca_torch.evaluation.result import upper_limit
from rsca_torch.report.latex import escaped, measured

NASTY = r"A_b & 5% $x$ #1 {c} ~d ^e \f <g> \"h\""
LEARNERS = {
    "rsca": ({"Größe 7": 0.0123, NASTY: 0.0}, [0.004, 0.011]),
    "my_net": ({"Größe 7": 0.25, NASTY: 0.031}, [0.08, 0.21]),
    "raw": ({"Größe 7": 0.0, NASTY: 0.0}, [0.0, 0.0005]),
}
PAIRS = {"Größe 7": 2700, NASTY: 30}


def run(folder, seed=0, shift=0.0, learners=LEARNERS):
    """A finished run, as far as it is read."""
    results = []
    for name, (rates, interval) in learners.items():
        clusters = [
            {
                "cluster": cluster,
                "members": 4,
                "pairs": PAIRS[cluster],
                "doppelganger_rate": rate and rate + shift,
                "stars": [f"{cluster}-{star}" for star in range(4)],
            }
            for cluster, rate in rates.items()
        ]
        mean = sum(one["doppelganger_rate"] for one in clusters) / 2
        entry = {"representation": "abundance_subset", "compressor": None, "learner": name, "held_out": True}
        results.append(entry | {"doppelganger_rate": mean, "interval": interval, "seconds": 1.0, "clusters": clusters})
    config = {"learner": {"top": 3}, "baselines": {name: {} for name in learners}, "abundances": {}}
    content = {"schema": 1, "seed": seed, "store": {"checksum": "0" * 64}, "config": config, "results": results}
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(content))


def tables(text):
    """Of each table what it says and its rows of cells; an error where LaTeX would find one."""
    plain = re.sub(r"(?<!\\)%.*", "", text)
    bare = re.sub(r"\\[&%$#_{}]", "", plain)
    depth = 0
    for each in bare:
        depth += {"{": 1, "}": -1}.get(each, 0)
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    outside = re.sub(r"\$[^$]*\$", "", bare)
    assert not re.search(r"[#^_~<>]", re.sub(r"\\label\{[^}]*\}", "", outside))
    assert not set(re.findall(r"\\([A-Za-z]+)", plain)) - {
        *"begin end centering caption label toprule midrule bottomrule".split(),
        *"textbackslash textasciitilde textasciicircum textless textgreater textquotedbl".split(),
    }
    environments = re.findall(r"\\(begin|end)\{(\w+)\}", plain)
    assert environments == [("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table")] * (
        len(environments) // 4
    )
    found = []
    for table in plain.split(r"\begin{table}")[1:]:
        columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", table)[1]
        lines = [line.strip() for line in table.splitlines() if r" \\" in line]
        rows = [re.split(r" (?<!\\)& ", line.removesuffix(r" \\")) for line in lines]
        assert {len(row) for row in rows} == {len(columns)}
        label = re.search(r"\\label\{([\w:-]+)\}", table)[1]
        assert r"\caption{" in table
        found.append((label, rows))
    return found


def test_a_run_is_two_tables(tmp_path, capsys):
    run(tmp_path / "my_run 1%")
    assert main(["report", f"sweep={tmp_path}/my_run 1%", "format=latex"]) == 0
    text = capsys.readouterr().out
    assert text == (tmp_path / "my_run 1%" / "report" / "report.tex").read_text(encoding="utf-8")
    (label, groups), (of_clusters, clusters) = tables(text)
    assert (label, of_clusters) == ("tab:my-run-1", "tab:my-run-1-clusters")
    assert groups[0] == ["Representation", "Learner", r"Rate (\%)", r"Minus rsca (\%)"]
    assert [row[:2] for row in groups[1:]] == [["abundance subset", name] for name in ("rsca", r"my\_net", "raw")]
    limit = 100 * upper_limit(2730)
    assert groups[1][2:] == ["$0.61^{+0.61}_{-0.61}$", ""]  # of two clusters the bootstrap has the one or the other
    assert groups[2][2] == "$14^{+11}_{-11}$"
    assert groups[3][2] == f"$<{limit:.3f}$"
    assert groups[3][3].startswith("$-0.6")
    assert clusters[0] == ["Cluster", "Members", "Pairs", r"rsca (\%)", r"my\_net (\%)", r"raw (\%)"]
    assert clusters[1] == ["Größe 7", "4", "2,700", "$1.23$", "$25.00$", f"$<{100 * upper_limit(2700):.3f}$"]
    none = f"$<{100 * upper_limit(30):.1f}$"
    assert clusters[2] == [escaped(NASTY), "4", "30", none, "$3$", none]


def test_a_sweep_is_one_table_with_seeds(tmp_path, capsys):
    for seed in range(2):
        run(tmp_path / str(seed), seed, shift=seed / 100)
    assert main(["report", f"sweep={tmp_path}", "format=latex", "out=report"]) == 0
    ((_, rows),) = tables(capsys.readouterr().out)
    assert rows[0] == ["Representation", "Learner", "Seeds", r"Spread (\%)", r"Rate (\%)", r"Minus rsca (\%)"]
    assert [row[2] for row in rows[1:]] == ["2", "2", "2"]
    assert rows[2][3] == "0.71"  # 1 / sqrt(2)


def test_the_table_is_printed_and_the_tex_written_anyway(tmp_path, capsys):
    run(tmp_path / "run")
    assert main(["report", f"sweep={tmp_path}/run"]) == 0
    assert "tabular" not in capsys.readouterr().out
    assert tables((tmp_path / "run" / "report" / "report.tex").read_text(encoding="utf-8"))
    assert main(["report", f"sweep={tmp_path}/run", "format=html"]) == 2
    assert "format=html: one of table, latex expected" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_names_are_plain_text():
    assert escaped("NGC_188 & 5%\n$x$ #") == r"NGC\_188 \& 5\% \$x\$ \#"
    assert escaped(r"\a{~^") == r"\textbackslash{}a\{\textasciitilde{}\textasciicircum{}"


@pytest.mark.parametrize(
    ("numbers", "right"),
    [
        ((0.123456, 0.1, 0.15), "$12.3^{+2.7}_{-2.3}$"),
        ((0.123456, 0.1234, 0.1235), "$12.3456^{+0.0044}_{-0.0056}$"),
        ((0.5, 0.2, 0.9), "$50^{+40}_{-30}$"),
        ((0.0, 0.0, 0.059), "$<5.9$"),
        ((-0.01, -0.02, 0.01, "+"), "$-1.0^{+2.0}_{-1.0}$"),
        ((0.0, -0.01, 0.02, "+"), "$+0.0^{+2.0}_{-1.0}$"),
        ((0.01, 0.012, 0.02), "$1.00^{+1.00}_{-0.00}$"),  # an interval beside its value
        ((0.02, 0.02, 0.02), "$2.00^{+0.00}_{-0.00}$"),
    ],
    ids=[*"tenths four whole limit negative nothing beside none".split()],
)
def test_digits_are_those_that_the_interval_supports(numbers, right):
    assert measured(*numbers) == right


def test_what_is_looked_at_would_find_an_error():
    """The tests' own eyes."""
    right = r"\begin{table}\caption{x}\label{a}\begin{tabular}{lr}" + "\na & b \\\\\n" + r"\end{tabular}\end{table}"
    assert tables(right)
    for wrong in (("a & b", "a_c & b"), ("a & b", "a & b & c"), ("a & b", "$a & b"), ("a & b", "{a & b"), ("x", "#")):
        with pytest.raises(AssertionError):
            tables(right.replace(*wrong, 1))
