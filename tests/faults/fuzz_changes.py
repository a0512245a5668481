"""Changes of files that know how a file is built: bytes, FITS, NumPy, JSON, YAML, text, safetensors, zip."""

from __future__ import annotations

import copy
import io
import json
import zipfile

import numpy as np
import yaml

CARD, BLOCK = 80, 2880
ODD_VALUES = [
    None,
    True,
    -1,
    0,
    7.5,
    10**30,
    -(2**63),
    float("nan"),
    float("inf"),
    "",
    "x" * 5000,
    "\0",
    "../../../etc/passwd",
    "a$b_{$c",
    "[/red]",
    "<script>",
    "\x1b[31m",
    "\u202e",
    [],
    {},
    [[[[1]]]],
    {"_target_": "os.system", "command": "id"},
    "1e999",
    "${oc.env:HOME}",
    [1] * 200,
    "/tmp/x",
    "a/b",
    "n" * 300,
]
ODD_NUMBERS = [
    "-1",
    "0",
    "7",
    "1",
    "2147483648",
    "1000000000000",
    "9223372036854775808",
    "1E400",
    "NaN",
    "'text'",
    "T",
    "",
]
FORMS = ["A", "0A", "1QD", "1PE(999999999)", "-3E", "26X", "1e9E", "3Z", "", "99999999999E", "1C", "2147483647D", "1L"]


def generic(rng, content):
    """Bytes that are cut, flipped, set, moved, put in or repeated."""
    data, n = bytearray(content), len(content)
    kind = rng.integers(9)
    if kind == 0 or n < 4:
        return bytes(data[: rng.integers(0, n + 1)])
    if kind == 1:
        for place in rng.integers(0, n, rng.integers(1, 9)):
            data[place] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        start = int(rng.integers(n))
        data[start : start + int(rng.integers(1, 200))] = bytes([int(rng.choice([0, 32, 255]))]) * int(
            rng.integers(200)
        )
    elif kind == 3:
        first, length = int(rng.integers(n)), int(rng.integers(1, 400))
        data[first:first] = data[int(rng.integers(n)) :][:length]
    elif kind == 4:
        first = int(rng.integers(n))
        del data[first : first + int(rng.integers(1, 400))]
    elif kind == 5:
        data += rng.bytes(int(rng.integers(1, 4000)))
    elif kind == 6:
        return rng.bytes(int(rng.integers(0, 3000)))
    elif kind == 7:
        return [b"", b"<!DOCTYPE html><html>404</html>", b"\x1f\x8b\x08\0", b"[" * 50_000, b"\xff\xfe" * 99][
            rng.integers(5)
        ]
    else:
        places = rng.integers(0, n, rng.integers(1, 60))
        for place in places:
            data[place] = int(rng.integers(256))
    return bytes(data)


def of_fits(rng, content):
    """A card of some header, or the data."""
    if rng.random() < 0.3 or len(content) < BLOCK:
        return generic(rng, content)
    data = bytearray(content)
    starts = [at for at in range(0, len(data), BLOCK) if data[at : at + 8] in (b"SIMPLE  ", b"XTENSION")]
    if not starts:
        return generic(rng, content)
    start = int(rng.choice(starts))
    cards = []
    for at in range(start, min(start + 20 * BLOCK, len(data) - CARD + 1), CARD):
        cards.append(at)
        if data[at : at + 8] == b"END     ":
            break
    of_name = {}
    for at in cards:
        of_name.setdefault(bytes(data[at : at + 8]).decode("latin-1").strip(), at)

    def card(name, value):
        return f"{name:8}= {value:>20}".encode("latin-1", "replace")[:CARD].ljust(CARD)

    def put(name, value):
        at = of_name.get(name, cards[min(len(cards) - 1, int(rng.integers(len(cards))))])
        data[at : at + CARD] = card(name, value)

    number, kind = str(rng.choice(ODD_NUMBERS)), rng.integers(12)
    column = int(rng.integers(1, 12))
    if kind == 0:
        data[cards[-1] : cards[-1] + CARD] = [b"ENX".ljust(CARD), b" " * CARD, card("END", "1"), b"\0" * CARD][
            rng.integers(4)
        ]
    elif kind == 1:
        data[cards[0] : cards[0] + CARD] = [
            b"END".ljust(CARD),
            card("XTENSION", "'JUNK    '"),
            b"\0" * CARD,
            card("XTENSION", "'BINTABLE'"),
            card("XTENSION", "'IMAGE   '"),
        ][rng.integers(5)]
    elif kind == 2:
        put(str(rng.choice(["NAXIS", "NAXIS1", "NAXIS2", "NAXIS3"])), number)
    elif kind == 3:
        put("BITPIX", str(rng.choice(["7", "0", "-128", "64", "8", "16", "-32", "-64", "x"])))
    elif kind == 4:
        put(f"TFORM{column}", f"'{rng.choice(FORMS)}'")
    elif kind == 5:
        put(str(rng.choice(["TFIELDS", "PCOUNT", "GCOUNT", "THEAP"])), number)
    elif kind == 6:
        put(
            str(rng.choice([f"TDIM{column}", f"TNULL{column}", f"TSCAL{column}", f"TZERO{column}", "BSCALE", "BZERO"])),
            str(rng.choice([*ODD_NUMBERS, "'(5,26,9999999)'", "'(0)'"])),
        )
    elif kind == 7:
        put(
            str(rng.choice(["ZIMAGE", "ZTABLE", "EXTEND", "GROUPS", "SIMPLE", "INHERIT", "BLANK"])),
            str(rng.choice(["T", "F", "0"])),
        )
    elif kind == 8:
        at = int(rng.choice(cards))
        del data[at : at + CARD]
        if rng.random() < 0.5:
            end = start + -(-(cards[-1] + CARD - start) // BLOCK) * BLOCK
            data[end - CARD : end - CARD] = b" " * CARD
    elif kind == 9:
        at = int(rng.choice(cards))
        data[at + int(rng.integers(CARD))] = int(rng.integers(256))
    elif kind == 10:
        at, other = int(rng.choice(cards)), int(rng.choice(cards))
        data[at : at + CARD], data[other : other + CARD] = data[other : other + CARD], data[at : at + CARD]
    else:
        first = int(rng.integers(len(data) // 4)) * 4
        data[first : first + 4 * int(rng.integers(1, 3000))] = b"\x7f\xc0\0\0" * int(rng.integers(1, 3000))
    return bytes(data)


def of_npy(rng, content):
    """The header of a NumPy file."""
    if rng.random() < 0.4 or content[:6] != b"\x93NUMPY":
        return generic(rng, content)
    size = int.from_bytes(content[8:10], "little")
    header, data = content[10 : 10 + size].decode("latin-1"), content[10 + size :]
    shape = header[header.index("(") : header.index(")") + 1]
    new = str(
        rng.choice(
            [
                "(-1,)",
                "(10**9,)",
                "(1000000000000,)",
                "()",
                "(0, 3)",
                "(3, 9999999)",
                "(2,)",
                "('x',)",
                "(99999999999999999999,)",
            ]
        )
    )
    change = rng.integers(5)
    if change == 0:
        header = header.replace(shape, new)
    elif change == 1:
        header = header.replace("<f4", str(rng.choice(["|O", "<f8", "<i4", "|S9", "<c8", "<M8[s]", "|V4"])))
        header = header.replace("<f8", str(rng.choice(["|O", "<f4", "<i8", "|S9"])))
    elif change == 2:
        header = header.replace("False", "True")
    elif change == 3:
        header = header.replace("descr", "__import__('os')")
    else:
        data = data[: int(rng.integers(len(data) + 1))]
    text = header.encode("latin-1")
    return content[:8] + len(text).to_bytes(2, "little") + text + data


def of_value(rng, value):
    """A value of JSON or YAML with one part of it another, gone, twice or under another name."""
    value = copy.deepcopy(value)
    places = []

    def walk(node):
        entries = (
            list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
        )
        for key, inner in entries[:60]:
            places.append((node, key))
            walk(inner)

    walk(value)
    odd = ODD_VALUES[rng.integers(len(ODD_VALUES))]
    if not places or rng.random() < 0.03:
        return odd
    for node, key in (places[int(place)] for place in rng.integers(0, len(places), rng.integers(1, 3))):
        change = rng.integers(5)
        try:
            if change == 0:
                del node[key]
            elif change == 1 and isinstance(node, dict):
                node[f"{key}x"] = node.pop(key)
            elif change == 2 and isinstance(node[key], int | float) and not isinstance(node[key], bool):
                node[key] = [-node[key] - 1, node[key] * 10**6, str(node[key]), float("nan")][rng.integers(4)]
            else:
                node[key] = odd
        except (KeyError, IndexError):
            continue
    return value


def of_json(rng, content, sealed=None):
    """A JSON file; sometimes with the checksum that belongs to what it is now."""
    if rng.random() < 0.3:
        return generic(rng, content)
    value = json.loads(content)
    if sealed is None:
        return json.dumps(of_value(rng, value)).encode()
    again = isinstance(value, dict) and rng.random() < 0.6
    bare = {key: each for key, each in value.items() if key != "sha256"}
    changed = of_value(rng, bare if again else value)
    if again and isinstance(changed, dict):
        changed = sealed(json.loads(json.dumps(changed)))
    return json.dumps(changed).encode()


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = [
    BOMB,
    "!!python/object/apply:os.system ['id']",
    "a: !!python/name:os.system",
    "[" * 5000,
    "{" * 300,
    "a: b: c",
    "\t",
    "- 1\n- 2",
    "&a [*a]",
    "a: !!binary x",
    "? [1]\n: 2",
    "a: ${a}",
    "x: ${oc.env:HOME}",
]


def of_yaml(rng, content):
    """A YAML file, or another."""
    if rng.random() < 0.25 or b"&" in content:  # aliases would make this very program slow
        return generic(rng, content)
    if rng.random() < 0.2:
        return YAML[rng.integers(len(YAML))].encode() + (content if rng.random() < 0.3 else b"")
    return yaml.safe_dump(of_value(rng, yaml.safe_load(content))).encode()


CELLS = [
    "",
    "\0",
    '"',
    "x" * 200_000,
    "1e999",
    "nan",
    "-1",
    "9" * 40,
    "\x1b[31mred",
    "=cmd()",
    "a,b",
    "\u202eabc",
    "'",
    "#",
]


def of_text(rng, content):
    """A table of text: cells, rows, separators, quotes, headers."""
    if rng.random() < 0.25:
        return generic(rng, content)
    lines = content.decode("utf-8", "replace").splitlines()
    separator = next((each for each in "\t,; " if lines and each in lines[-1]), ",")
    row = int(rng.integers(len(lines))) if lines else 0
    cells = lines[row].split(separator) if lines else [""]
    cell, change = int(rng.integers(len(cells))), rng.integers(8)
    odd = CELLS[rng.integers(len(CELLS))]
    if change < 3:
        cells[cell] = odd
        lines[row : row + 1] = [separator.join(cells)]
    elif change == 3:
        lines[row : row + 1] = [separator.join([*cells, *cells])]
    elif change == 4:
        lines[:1] = [separator.join([cells[0]] * len(cells))]
    elif change == 5:
        lines = [line.replace(separator, str(rng.choice(["|", ";", " ", ""]))) for line in lines]
    elif change == 6:
        del lines[row:]
    else:
        lines[row:row] = lines[:2]
    start = str(rng.choice(["", "", "\ufeff", "\n\n", "#"]))
    return (start + str(rng.choice(["\n", "\r\n", "\r"])).join(lines)).encode("utf-8", "replace")


def of_xml(rng, content):
    """A VOTable."""
    text = content.decode("utf-8", "replace")
    change = rng.integers(6)
    if change == 0:
        return generic(rng, content)
    if change == 1:
        entities = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
        text = text.replace("<VOTABLE", f'<!DOCTYPE v [<!ENTITY a "x">{entities}]><VOTABLE', 1).replace(
            "<TD>", "<TD>&i;", 1
        )
    elif change == 2:
        text = text.replace("<TABLEDATA>", '<BINARY><STREAM href="file:///etc/hostname"/></BINARY><TABLEDATA>', 1)
    elif change == 3:
        words = [
            "arraysize",
            "datatype",
            "name=",
            "char",
            "int",
            "double",
            "long",
            "<TD>",
            "</TR>",
            "FIELD",
            "RESOURCE",
            "xmlns",
        ]
        text = text.replace(
            str(rng.choice(words)),
            str(rng.choice(["", "x", "arraysize='9999999999'", "<", "&"])),
            int(rng.integers(1, 4)),
        )
    elif change == 4:
        return text.encode("utf-16")
    else:
        text = text.replace("<TD>", f"<TD>{CELLS[rng.integers(1, len(CELLS))]}", 1)
    return text.encode("utf-8", "replace")


def of_zip(rng, content):
    """A zip: as bytes, or with a member that is another."""
    if rng.random() < 0.5:
        return generic(rng, content)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as given, zipfile.ZipFile(made, "w") as new:
        names = given.namelist()
        chosen = str(rng.choice(names))
        for name in names:
            data = given.read(name)
            if name == chosen:
                change = rng.integers(4)
                if change == 0:
                    continue
                data = of_npy(rng, data) if change == 1 else generic(rng, data)
                name = str(rng.choice([name, name, name, "../x.npy", "/tmp/x.npy", "x"]))
            new.writestr(name, data)
    return made.getvalue()


def of_safetensors(rng, content, resealed=None):
    """The JSON before the tensors, or their bytes; sometimes with the checksum that belongs to what it is now."""
    if rng.random() < 0.35:
        return generic(rng, content)
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), bytearray(content[8 + size :])
    change = rng.integers(4)
    if change == 0:
        header = of_value(rng, header)
    elif change == 1 and data:
        first = int(rng.integers(len(data) // 8)) * 8
        odd = [float("nan"), float("inf"), -1.0, 7.5, 1e300][rng.integers(5)]
        data[first : first + 8] = np.array(odd).tobytes()
    elif change == 2:
        told = header["__metadata__"]
        name = next(iter(told))
        told[name] = json.dumps(of_value(rng, json.loads(told[name])))
    else:
        name = str(rng.choice([each for each in header if each != "__metadata__"]))
        header[name]["shape"] = [[0], [1, *header[name]["shape"]], header[name]["shape"][::-1], [10**12], [-1]][
            rng.integers(5)
        ]
    text = json.dumps(header).encode()
    made = len(text).to_bytes(8, "little") + text + bytes(data)
    return resealed(made) if resealed is not None and rng.random() < 0.6 else made
