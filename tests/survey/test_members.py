from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from astropy.io import fits
from mini_archive import star_id, write_members, write_spectrum

from rsca_torch.errors import InputError
from rsca_torch.survey.cuts import Cut
from rsca_torch.survey.members import lone_members, read_memberships


def read_list(path, membership):
    return read_memberships(path, membership, "APOGEE_ID", 18)


PROBABLE = Cut("membership", "CG_PROB", above=0.8)


def test_the_real_catalogue(shared):
    """DATA-FORMATS, section 4: >= 0.8, or a round trip through float32, would give 1,599 stars."""
    members = read_list(shared / "data/occam_member-DR16.fits", PROBABLE)
    sizes = Counter(members.cluster.values())
    assert len(members.cluster) == 1444
    assert not members.ambiguous
    assert len(sizes) == 78
    assert sum(size >= 2 for size in sizes.values()) == 59
    assert sizes.most_common(4) == [("Melotte 22", 347), ("Melotte 20", 188), ("NGC 2682", 104), ("IC 348", 102)]
    assert members.cluster["2M19203303+3755558"] == "NGC 6791"
    assert "ASCC 16" in {name for names in read_list(*_all(shared)).ambiguous.values() for name in names}


def _all(shared):
    return shared / "data/occam_member-DR16.fits", None


def test_names_of_both_files_agree_once_normalised(shared):
    with fits.open(shared / "data/occam_cluster-DR16.fits") as hdus:
        listed = [str(name).strip() for name in hdus[1].data["NAME"]]
    members = read_list(*_all(shared))
    known = set(members.cluster.values()) | {name for names in members.ambiguous.values() for name in names}
    assert known == {name.replace("_", " ") for name in listed}
    assert not known & {name for name in listed if "_" in name}


def test_mini_members(tmp_path):
    write_members(tmp_path / "m.fits")
    members = read_list(tmp_path / "m.fits", PROBABLE)
    assert members.cluster == {star_id(n): "NGC 1111" for n in (0, 1, 2)} | {
        star_id(3): "NGC 2222",
        star_id(4): "NGC 2222",
        star_id(5): "Lone 1",
    }
    assert members.ambiguous == {star_id(20): ["NGC 1111", "NGC 2222"]}
    assert members.of(np.array([star_id(3), "nobody"])).tolist() == ["NGC 2222", ""]


@pytest.mark.parametrize("code", ["D", "E"])
def test_steps_of_a_tenth_in_either_precision(tmp_path, code):
    columns = [
        fits.Column("cluster", "4A", array=["a"] * 3),
        fits.Column("Apogee_ID", "18A", array=[star_id(n) for n in range(3)]),
        fits.Column("CG_Prob", code, array=[0.7, 0.8, 0.9]),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "m.fits")
    assert list(read_list(tmp_path / "m.fits", PROBABLE).cluster) == [star_id(2)]


def test_own_list(tmp_path):
    path = tmp_path / "mine.CSV"
    path.write_text(f"apogee_id, Cluster ,note\n{star_id(1)}9, M_67 ,x\n\n{star_id(2)},M 67,\n")
    members = read_list(path, PROBABLE)  # no column CG_PROB: every row is a member; 19 characters are cut to 18
    assert members.cluster == {star_id(1): "M 67", star_id(2): "M 67"}
    path.write_text(f"APOGEE_ID,CLUSTER,cg_prob\n{star_id(1)},M 67,0.8\n{star_id(2)},M 67,0.9\n{star_id(3)},M 67,\n")
    assert list(read_list(path, PROBABLE).cluster) == [star_id(2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("APOGEE_ID,GROUP\n2M1,a\n", "needs columns APOGEE_ID and CLUSTER, got APOGEE_ID, GROUP"),
        ("APOGEE_ID,CLUSTER\n2M1,a,b\n", "row 1 has 3 cells, the header 2"),
        ("APOGEE_ID,CLUSTER\n2M1\n2M2,b\n", "row 1 has 1 cells, the header 2"),
        ("APOGEE_ID,CLUSTER\n", "no row of .* is a cluster member"),
        ("", "expected a CSV list"),
        ("APOGEE_ID,CLUSTER,CG_PROB\n2M1,a,high\n", "cannot be made on CG_PROB"),
    ],
)
def test_unusable_own_list(tmp_path, text, message):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_list(path, PROBABLE)


def test_unusable_files(tmp_path):
    path = tmp_path / "m.fits"
    with pytest.raises(InputError, match=r"missing file; a relative path counts from survey.root"):
        read_list(path, PROBABLE)
    with pytest.raises(InputError, match=r"expected a CSV list .*No such file"):
        read_list(tmp_path / "m.csv", PROBABLE)
    path.write_text("<html>404</html>")
    with pytest.raises(InputError, match="web page saved as FITS"):
        read_list(path, PROBABLE)
    write_spectrum(path, np.zeros(8575), np.zeros(8575))
    with pytest.raises(InputError, match="HDU 1 is no table"):
        read_list(path, PROBABLE)
    write_members(path)
    with pytest.raises(InputError, match="no membership column RV_PROB, only CLUSTER, APOGEE_ID, CG_PROB"):
        read_list(path, Cut("membership", "RV_PROB", above=0.8))
    with pytest.raises(InputError, match=r"no row of .* is a cluster member"):
        read_list(path, Cut("membership", "CG_PROB", above=2))


def test_lone_members():
    assert lone_members(np.array(["", "b", "a", "b", "c", ""])) == ["a", "c"]
