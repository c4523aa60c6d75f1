"""Text tables as programs write them, and such as are wrong: text, layout, and names or message."""

ROWS = [(0.5, 0.781344), (1.0, 0.610498), (1.5, 0.477009)]
POINTS = "0.500000,0.781344\n1.000000,0.610498\n1.500000,0.477009\n"
COMMAS = POINTS.replace(",", ";").replace(".", ",")

WAYS = {
    "comma": ("time,head\n" + POINTS, {}, ["time", "head"]),
    "no header": (POINTS, {}, []),
    "semicolon, decimal comma": ("time;head\n" + COMMAS, {}, ["time", "head"]),
    "semicolon, decimal comma, no header": (COMMAS, {}, []),
    "tab, decimal comma": (COMMAS.replace(";", "\t"), {}, []),
    "blanks, decimal comma": (COMMAS.replace(";", "  "), {}, []),
    "quoted decimal commas": (
        "a,b\n" + "".join(f'"{x:f}","{y:f}"\n'.replace(".", ",") for x, y in ROWS),
        {"decimal": ","},
        ["a", "b"],
    ),
    "tab": ("time\thead\n" + POINTS.replace(",", "\t"), {}, ["time", "head"]),
    "blanks": ("time head\n" + POINTS.replace(",", "   "), {}, ["time", "head"]),
    "bar": ("time|head\n" + POINTS.replace(",", " | "), {}, ["time", "head"]),
    "header in a %-comment": (
        "% time head\n" + POINTS.replace(",", " "),
        {},
        ["time", "head"],
    ),
    "header in a #-comment": (
        "# made by hand\n# time (min), head (m)\n" + POINTS.replace(",", " "),
        {},
        ["time (min)", "head (m)"],
    ),
    "header in a //-comment": ("// time,head\n" + POINTS, {}, ["time", "head"]),
    "comment that is no header": ("# written by a logger\n" + POINTS, {}, []),
    "units": ("time,head\n[d],[m]\n" + POINTS, {}, ["time", "head"]),
    "two rows of units": (
        "time,head\nd,m\n(days),(metres)\n" + POINTS,
        {},
        ["time", "head"],
    ),
    "skipped": (
        "A LOGGER, 2020-01-01\nserial 12\ntime,head\n" + POINTS,
        {"skip": 2},
        ["time", "head"],
    ),
    "names given": (POINTS, {"header": ["t", "u"]}, ["t", "u"]),
    "header that is given": ("1,2\n" + POINTS, {"header": True}, ["1", "2"]),
    "empty rows and words at the end": (
        "time,head,,\n" + POINTS.replace("\n", ",,\n") + ",,,\n\n",
        {},
        ["time", "head"],
    ),
    "quoted": (
        '"time","head"\n' + "".join(f'"{x:f}","{y:f}"\n' for x, y in ROWS),
        {},
        ["time", "head"],
    ),
    "header of one word a column that needs quotes": (
        '"time, d","head, m"\n' + POINTS,
        {},
        ["time, d", "head, m"],
    ),
    "semicolon, points": (POINTS.replace(",", ";"), {}, []),
    "spreadsheet": ("sep=,\ntime,head\n" + POINTS, {}, ["time", "head"]),
    "line ends": (("time,head\n" + POINTS).replace("\n", "\r\n"), {}, ["time", "head"]),
    "comma and blank": (
        "time, head\n" + POINTS.replace(",", ", "),
        {},
        ["time", "head"],
    ),
    "comma and tab": (POINTS.replace(",", ",\t"), {}, []),
    "blank and comma": (POINTS.replace(",", " ,"), {}, []),
    "typographic minus and Fortran exponents": (
        "t,h\n" + POINTS.replace("0.500000", "5D-1"),
        {},
        ["t", "h"],
    ),
}


WRONG = {
    "undeclared beside declared": (
        "t,v\n1,ND\n2,-9999\n3,0.5\n",
        {"missing": ["ND"]},
        "line 3: got '-9999'",
    ),
    "-999999": ("t,v\n1,0.5\n2,-999999\n", {}, r"line 3: got '-999999'.*missing"),
    "-99": ("t,v\n1,0.5\n2,-99\n", {}, r"line 3: got '-99'.*missing"),
    "-32768": ("t,v\n1,0.5\n2,-32768\n", {}, r"line 3: got '-32768'.*missing"),
    "thousands between tabs": (
        "a\tb\n1,234\t5\n2,345\t6\n",
        {},
        r"decimal of .*a\.csv: got '1,234'",
    ),
    "numbers of columns": (
        ",0,1\n0,0.5,0.6\n1,0.7,0.8\n",
        {},
        "line 1: got 0 1 beside an empty word",
    ),
    "a codec that is none": (
        "t,v\n1,2.5\n",
        {"encoding": "undefined"},
        r"encoding of .*a\.csv",
    ),
    "an encoding with a null": (
        "t,v\n1,2.5\n",
        {"encoding": "a\0b"},
        r"encoding of .*a\.csv",
    ),
    "a very long word": (
        't,v\n1,0.5\n2,"' + "a" * 140_000 + '"\n',
        {},
        r"line 3: got 'a{60}'... \(140,000",
    ),
    "censored": ("t,v\n1,0.5\n2,<0.3\n", {}, r"a\.csv, line 3: got '<0.3'"),
    "not determined": ("t,v\n1,0.5\n2,n.d.\n", {}, r"line 3: got 'n\.d\.'"),
    "date": ("t,v\n1,0.5\n2,2020-01-01\n", {}, r"line 3: got '2020-01-01'"),
    "date in the first row": (
        "2020-01-01,0.5\n2020-01-02,0.6\n3,0.1\n",
        {},
        r"line 1: got '2020-01-01'",
    ),
    "censored first row": ("<0.3\n0.5\n0.6\n", {}, r"line 1: got '<0.3'"),
    "censored row below the header": (
        "t,v\nn.d.,<0.3\n1,0.5\n",
        {},
        r"line 2: got '(n\.d\.|<0\.3)'",
    ),
    "infinite": ("t,v\n1,inf\n2,0.5\n", {}, r"line 2: got 'inf'"),
    "too large": ("t,v\n1,1e400\n2,0.5\n", {}, r"line 2: got '1e400'"),
    "underscores": ("t,v\n1,1_000\n2,0.5\n", {}, r"line 2: got '1_000'"),
    "ragged": ("t,v\n1,0.5\n2,0.5,ok\n", {}, r"line 3: got 3 words.*allowed: 2"),
    "short row": ("t,v\n1,0.5\n2\n", {}, r"line 3: got 1 words.*allowed: 2"),
    "-9999 among heights": (
        "t,v\n1,1500\n2,-9999\n",
        {},
        r"line 3: got '-9999'.*missing",
    ),
    "-9999": ("t,v\n1,0.5\n2,-9999\n", {}, r"line 3: got '-9999'.*missing"),
    "-999.25": ("t,v\n1,0.5\n2,-999.25\n", {}, r"line 3: got '-999.25'.*missing"),
    "1e30": ("t,v\n1,0.5\n2,1e30\n", {}, r"line 3: got '1e30'.*missing"),
    "mixed decimals": (
        "t;v\n1,5;0.5\n2;0.5\n",
        {},
        r"line 2: got '1,5'.*decimal = ','",
    ),
    "commas of two meanings": ("0,5\n0,7\n", {}, r"delimiter of .*a\.csv"),
    "thousands": (
        'a,b\n"1,234",5\n"2,345",6\n',
        {},
        r"decimal of .*a\.csv: got '1,234'",
    ),
    "no rows": ("\n# t\n", {}, "no rows"),
    "header alone": ("time,head\n", {}, "without rows|no rows|'time'"),
    "binary": (b"\x00\x01\x02" * 30, {}, r"a\.csv: got bytes"),
    "wrong encoding": (
        "t,v\xb5\n1,2.5\n".encode("latin-1"),
        {"encoding": "utf-8"},
        r"encoding of .*a\.csv",
    ),
    "unknown encoding": (
        "t,v\n1,2.5\n",
        {"encoding": "utf-99"},
        r"encoding of .*a\.csv",
    ),
    "wrong delimiter": ("t,v\n1,2.5\n", {"delimiter": "x"}, "delimiter of"),
}
