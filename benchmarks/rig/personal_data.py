"""Made-up personal data and secrets in sentences, each with its label, and sentences whose numbers are none of either.

Every format is marked as seen or unseen. The scrubber's rules were written and mended with the seen ones; the unseen
ones were written when the rules were done, and no rule was changed for one. Nothing here belongs to anybody: numbers
are drawn, and their check digits computed.
"""

from __future__ import annotations

import base64
import random
import re
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

# What it makes may have words around the value that are no part of it: `tel:|+1 …|`.
Make = Callable[[random.Random], str]
EDGE = "|"

HEX, DIGITS = "0123456789abcdef", string.digits
ALNUM = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + string.digits


@dataclass(frozen=True)
class Example:
    """A text: `before + value + after`. `kind` is None, and `value` empty, where nothing should be replaced."""

    kind: str | None
    seen: bool
    form: str
    before: str
    value: str
    after: str

    @property
    def text(self) -> str:
        """The whole text."""
        return self.before + self.value + self.after


def examples(per_form: int, seed: int) -> Iterator[Example]:
    """Yield as many labelled texts of every format, and as many texts of each form that only looks like one."""
    draw = random.Random(seed)
    for kind, forms in FORMS.items():
        for seen, of_kind in zip((True, False), forms, strict=True):
            for form, make in of_kind.items():
                for _ in range(per_form):
                    made = make(draw)
                    # What brings its own words needs none that name it.
                    before, after = draw.choice(FRAMES["" if EDGE in made else kind] if kind in FRAMES else FRAMES[""])
                    left, value, right = _parts(made)
                    yield Example(kind, seen, form, before + left, value, right + after)
    for form, make in LOOK_ALIKES.items():
        for _ in range(per_form):
            before, after = draw.choice(FRAMES["other"])
            yield Example(None, False, form, before + make(draw) + after, "", "")


def _parts(made: str) -> tuple[str, str, str]:
    left, value, right = made.split(EDGE) if EDGE in made else ("", made, "")
    return left, value, right


# --- what values are made of ----------------------------------------------------------------------------------------


def _some(draw: random.Random, alphabet: str, length: int) -> str:
    return "".join(draw.choices(alphabet, k=length))


def _shaped(shape: str) -> Make:
    """Make a value of a shape: # is a digit, N one but 0, @ a capital, & a capital or digit, ? a small letter."""
    alphabets = {"#": DIGITS, "N": "123456789", "@": string.ascii_uppercase, "&": UPPER, "?": string.ascii_lowercase}
    return lambda draw: "".join(draw.choice(alphabets[c]) if c in alphabets else c for c in shape)


def _word(draw: random.Random) -> str:
    return draw.choice(WORDS)


def luhn_digit(digits: str) -> str:
    """Return the digit that makes the digits pass Luhn's check."""
    doubled = [int(d) * 2 - 9 * (int(d) > 4) for d in digits[::-2]]
    return str(-(sum(doubled) + sum(map(int, digits[-2::-2]))) % 10)


def _card(prefix: str, length: int, separator: str, groups: tuple[int, ...] = ()) -> Make:
    def make(draw: random.Random) -> str:
        body = prefix + _some(draw, DIGITS, length - len(prefix) - 1)
        return _grouped(body + luhn_digit(body), separator, groups)

    return make


def _grouped(text: str, separator: str, groups: tuple[int, ...]) -> str:
    pieces, place = [], 0
    for size in groups or (4,) * -(-len(text) // 4):
        pieces.append(text[place : place + size])
        place += size
    return separator.join(piece for piece in pieces if piece)


def _iban(country: str, shape: str, separator: str) -> Make:
    inner = _shaped(shape)

    def make(draw: random.Random) -> str:
        account = inner(draw)
        number = "".join(str(int(c, 36)) for c in account + country + "00")
        return _grouped(f"{country}{98 - int(number) % 97:02d}{account}", separator, ())

    return make


def _dni(draw: random.Random) -> str:
    number = draw.randrange(10**7, 10**8)
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def _nir(separator: str) -> Make:
    def make(draw: random.Random) -> str:
        month = f"{draw.randint(1, 12):02d}"
        number = f"{draw.choice('12')}{_some(draw, DIGITS, 2)}{month}{draw.randint(1, 95):02d}{_some(draw, DIGITS, 6)}"
        return _grouped(f"{number}{97 - int(number) % 97:02d}", separator, (1, 2, 2, 2, 3, 3, 2))

    return make


def _cpf(draw: random.Random) -> str:
    digits = [draw.randrange(10) for _ in range(9)]
    for _ in range(2):
        weights = range(len(digits) + 1, 1, -1)
        rest = sum(d * w for d, w in zip(digits, weights, strict=True)) * 10 % 11
        digits.append(rest % 10)
    text = "".join(map(str, digits))
    return f"{text[:3]}.{text[3:6]}.{text[6:9]}-{text[9:]}"


def _ahv(draw: random.Random) -> str:
    body = "756" + _some(draw, DIGITS, 9)
    check = -sum(int(d) * (3 if place % 2 else 1) for place, d in enumerate(body)) % 10
    return f"756.{body[3:7]}.{body[7:11]}.{body[11]}{check}"


def _ssn(draw: random.Random) -> str:
    area = draw.choice([number for number in range(1, 900) if number != 666])
    return f"{area:03d}-{draw.randint(1, 99):02d}-{draw.randint(1, 9999):04d}"


def _codice_fiscale(draw: random.Random) -> str:
    consonants = "BCDFGLMNPRSTVZ"
    text = f"{_some(draw, consonants, 6)}{_some(draw, DIGITS, 2)}{draw.choice('ABCDEHLMPRST')}{draw.randint(1, 31):02d}"
    text += f"{draw.choice('ABCDEFGH')}{_some(draw, DIGITS, 3)}"
    odd = (
        1,
        0,
        5,
        7,
        9,
        13,
        15,
        17,
        19,
        21,
        2,
        4,
        18,
        20,
        11,
        3,
        6,
        8,
        12,
        14,
        16,
        10,
        22,
        25,
        24,
        23,
    )  # A to Z, 0 to 9
    places = [int(c) if c.isdigit() else ord(c) - ord("A") for c in text]
    total = sum(odd[place] for place in places[0::2]) + sum(places[1::2])
    return text + chr(ord("A") + total % 26)


def _steuer_id(draw: random.Random) -> str:
    while True:
        digits = draw.sample(range(10), 9)
        digits.insert(draw.randrange(1, 10), draw.choice(digits))
        if digits[0]:
            break
    product = 10
    for digit in digits:
        product = ((digit + product) % 10 or 10) * 2 % 11
    text = "".join(map(str, digits)) + str((11 - product) % 10)
    return _grouped(text, " ", (2, 3, 3, 3))


def _jwt(draw: random.Random) -> str:
    parts = [base64.urlsafe_b64encode(b'{"a' + _some(draw, ALNUM, 12 + 9 * i).encode() + b'"}') for i in range(2)]
    return b".".join(part.rstrip(b"=") for part in parts).decode() + "." + _some(draw, ALNUM + "-_", 43)


def _pem(label: str) -> Make:
    def make(draw: random.Random) -> str:
        lines = "\n".join(_some(draw, ALNUM + "+/", 64) for _ in range(3))
        return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----"

    return make


def _prefixed(prefix: str, alphabet: str, length: int) -> Make:
    return lambda draw: prefix + _some(draw, alphabet, length)


def _v6(shape: str) -> Make:
    return lambda draw: "".join(_some(draw, HEX, 4).lstrip("0") or "1" if c == "h" else c for c in shape)


def _email(shape: str) -> Make:
    def make(draw: random.Random) -> str:
        text = shape
        while "%" in text:
            text = text.replace("%", _word(draw), 1)
        return text.replace("#", draw.choice(DIGITS))

    return make


def _url(shape: str) -> Make:
    return lambda draw: shape.replace("USER", _word(draw)).replace("PASS", _some(draw, ALNUM, 11))


_WIDE = str.maketrans(dict(zip(DIGITS, "０１２３４５６７８９", strict=True)))
WORDS = [
    "amber",
    "birch",
    "cedar",
    "dahlia",
    "ember",
    "fjord",
    "gorse",
    "heron",
    "ivory",
    "juniper",
    "kestrel",
    "larch",
    "maple",
    "nettle",
    "opal",
    "pine",
    "quartz",
]

FIRST = [
    "Amara",
    "Bjorn",
    "Chandra",
    "Dmitri",
    "Eleni",
    "Farid",
    "Greta",
    "Haruto",
    "Ines",
    "Jamal",
    "Katya",
    "Liam",
    "Mei",
    "Nadia",
    "Omar",
    "Priya",
]
LAST = [
    "Abara",
    "Bergman",
    "Castillo",
    "Demir",
    "Eriksen",
    "Fontaine",
    "Gupta",
    "Hughes",
    "Ivanova",
    "Jansen",
    "Kowalski",
    "Lindqvist",
    "Moreau",
]
TOWNS = ("Leeds LS1 4DY", "Springfield, IL 62704", "Cork", "Wellington 6011")

# --- the formats: seen, unseen --------------------------------------------------------------------------------------

_UNSEEN: Mapping[str, Mapping[str, Make]] = {
    "EMAIL": {
        "mailto": _email("mailto:|%.%@%.photography|?subject=hello"),
        "quoted local part": _email('|"% %"@%.org|'),
        "at and dot in square brackets": _email("%[at]%[dot]com"),
        "at and dot as words": _email("% at % dot com"),
        "umlaut in the name": _email("jörg.%@%.de"),
        "digits first": _email("00#%@%-mail.io"),
        "percent-encoded": lambda draw: f"user=|{_word(draw)}%40{_word(draw)}.org|&x=1",
        "html entity": lambda draw: f"{_word(draw)}.{_word(draw)}&#64;{_word(draw)}.net",
    },
    "PHONE": {
        "zero in brackets, slash": _shaped("+49(0)30/N######"),
        "nine digits in threes": _shaped("6## N## N##"),
        "japanese": _shaped("03-N###-####"),
        "singapore": _shaped("+65 N### ####"),
        "australian mobile": _shaped("04N# ### ###"),
        "danish pairs": _shaped("N# ## ## ##"),
        "spaces and slash": _shaped("tel. |030 / N## ## ##|"),
        "ten digits": _shaped("N##N######"),
    },
    "CARD": {
        "visa of 13": _card("4", 13, ""),
        "jcb": _card("3530", 16, " "),
        "unionpay of 19": _card("62", 19, "", ()),
        "lines": _card("4", 16, "\n"),
        "slashes": _card("52", 16, "/"),
        "mixed": lambda draw: _card("4", 16, " ")(draw).replace(" ", "-", 1),
    },
    "IBAN": {
        "italian": _iban("IT", "@" + "#" * 10 + "&" * 12, " "),
        "turkish": _iban("TR", "#" * 5 + "0" + "&" * 16, " "),
        "one space": lambda draw: re.sub(r"^(.{4})", r"\1 ", _iban("DE", "#" * 18, "")(draw)),
        "small and close": lambda draw: _iban("SE", "#" * 20, "")(draw).lower(),
        "en dashes": _iban("BE", "#" * 12, "–"),
        "underscores": _iban("PT", "#" * 21, "_"),
        "saint lucian": _iban("LC", "@@@@" + "&" * 24, " "),
    },
    "IP": {
        "defanged": lambda draw: f"203[.]0[.]113[.]{draw.randrange(1, 255)}",
        "v6 capitals": lambda draw: _v6("2001:db8:h:h::h")(draw).upper(),
        "v6 with prefix": _v6("|2001:db8:h:h::1|/64"),
        "in a url": lambda draw: f"http://|198.51.100.{draw.randrange(1, 255)}|:8080/status",
        "reverse name": lambda draw: f"{draw.randrange(1, 255)}.113.0.203.in-addr.arpa",
        "mac, dashes": lambda draw: "-".join(_some(draw, HEX, 2).upper() for _ in range(6)),
    },
    "SECRET": {
        "private token header": lambda draw: f"PRIVATE-TOKEN: |{_some(draw, ALNUM, 20)}|",
        "api key header": lambda draw: f"X-Api-Key: |{_some(draw, HEX, 32)}|",
        "openssh key": _pem("OPENSSH PRIVATE KEY"),
        "discord bot": lambda draw: f"M{_some(draw, ALNUM, 23)}.{_some(draw, ALNUM, 6)}.{_some(draw, ALNUM, 27)}",
        "aws secret, assigned": lambda draw: f"aws_secret_access_key = |{_some(draw, ALNUM + '/+', 40)}|",
        "airtable": lambda draw: f"pat{_some(draw, ALNUM, 14)}.{_some(draw, HEX, 64)}",
        "notion": _prefixed("ntn_", ALNUM, 46),
        "google refresh token": lambda draw: f"1//0g{_some(draw, ALNUM + '-_', 60)}",
        "hex of 32 alone": _prefixed("", HEX, 32),
    },
    "PASSWORD": {
        "option": lambda draw: f"mysql --password=|{_some(draw, ALNUM, 12)}| -u root",
        "in prose": lambda draw: f"my password is |{_word(draw)}{draw.randrange(100)}{_word(draw).title()}|",
    },
    "URL": {
        "ftp": _url("ftp://USER:PASS@files.example.org/pub"),
        "jdbc": _url("jdbc:postgresql://db.example.org/shop?user=USER&password=|PASS|"),
        "sas": _url("https://x.blob.example.net/c?sv=2026-01-01&sig=|PASSPASSPASSPASS|"),
        "smtp with an escaped sign": _url("smtps://USER%40example.org:PASS@mail.example.org:465"),
    },
    "NATIONAL_ID": {
        "italian codice fiscale": _codice_fiscale,
        "german tax number": _steuer_id,
        "indian aadhaar": _shaped("N### #### ####"),
        "swedish": _shaped("19N#0N1#-####"),
        "canadian sin": lambda draw: _grouped((n := "4" + _some(draw, DIGITS, 7)) + luhn_digit(n), " ", (3, 3, 3)),
        "nino, close": _shaped("PC######B"),
        "nie": lambda draw: "X" + f"{(n := draw.randrange(10**6, 10**7))}" + "TRWAGMYFPDXBNJZSQVHLCKE"[n % 23],
    },
}

FORMS: Mapping[str, tuple[Mapping[str, Make], Mapping[str, Make]]] = {
    "EMAIL": (
        {
            "plain": _email("%.%@%.org"),
            "plus": _email("%+%@%.example"),
            "underscore": _email("%_%@mail.%.co.uk"),
            "percent in brackets": _email("<|%.%##@%-%.museum|>"),
            "apostrophe": _email("o'%@%.ie"),
            "several dots": _email("%.%.%@it.%.gov.au"),
            "upper case": lambda draw: _email("%.%@%.COM")(draw).upper(),
            "umlaut domain": _email("%@%müller.de"),
            "punycode": _email("%@xn--%-kva.example"),
            "spelt at and dot": _email("% (at) % dot org"),
            "ip domain": lambda draw: f"{_word(draw)}@[192.0.2.{draw.randrange(1, 255)}]",
        },
        _UNSEEN["EMAIL"],
    ),
    "PHONE": (
        {
            "international, spaces": _shaped("+49 30 N######"),
            "north american": _shaped("(N##) N##-####"),
            "british national": _shaped("020 N### ####"),
            "digits": _shaped("+44N#########"),
            "dots": _shaped("+33.N.##.##.##.##"),
            "zero in brackets": _shaped("+44 (0)20 N### ####"),
            "double zero": _shaped("0041 44 N## ## ##"),
            "slash": _shaped("089/N## ## ##-#"),
            "extension": _shaped("+1 N##-N##-#### ext. ###"),
            "indian mobile": _shaped("+91 N####-#####"),
            "brazilian": _shaped("(11) 9N###-####"),
            "french national": _shaped("06 N# ## ## ##"),
            "no-break spaces": _shaped("+49\u00a0171\u00a0N######"),
            "dots, american": _shaped("N##.N##.####"),
            "tel uri": _shaped("tel:|+1-N##-N##-####|"),
            # mended after they had been measured unseen
            "toll free": _shaped("1-800-N##-####"),
            "russian": _shaped("8 (495) N##-##-##"),
            "full width": lambda draw: _shaped("+81 N# #### ####")(draw).translate(_WIDE),
        },
        _UNSEEN["PHONE"],
    ),
    "CARD": (
        {
            "visa, spaces": _card("4", 16, " "),
            "mastercard, dashes": _card("55", 16, "-"),
            "amex": _card("37", 15, ""),
            "amex, 4-6-5": _card("34", 15, " ", (4, 6, 5)),
            "diners, 4-6-4": _card("36", 14, " ", (4, 6, 4)),
            "mastercard 2-series": _card("2223", 16, ""),
            "dots": _card("4", 16, "."),
            "no-break spaces": _card("6011", 16, "\u00a0"),
            "maestro of 19": _card("6759", 19, " "),
            "two spaces": _card("51", 16, "  "),
            # mended after they had been measured unseen
            "full width": lambda draw: _card("4", 16, " ")(draw).translate(_WIDE),
            "with its date": lambda draw: f"|{_card('4', 16, ' ')(draw)}| 12/29",
        },
        _UNSEEN["CARD"],
    ),
    "IBAN": (
        {
            "german": _iban("DE", "#" * 18, " "),
            "british, close": _iban("GB", "@@@@" + "#" * 14, ""),
            "french": _iban("FR", "#" * 10 + "&" * 11 + "##", " "),
            "norwegian": _iban("NO", "#" * 11, " "),
            "maltese": _iban("MT", "@@@@" + "#" * 5 + "&" * 18, " "),
            "dutch, dots": _iban("NL", "@@@@" + "#" * 10, "."),
            "small letters": lambda draw: _iban("ES", "#" * 20, " ")(draw).lower(),
            "no-break spaces": _iban("PL", "#" * 24, "\u00a0"),
            "labelled": lambda draw: f"IBAN:|{_iban('AT', '#' * 16, '')(draw)}|",
        },
        _UNSEEN["IBAN"],
    ),
    "IP": (
        {
            "v4": lambda draw: f"203.0.113.{draw.randrange(1, 255)}",
            "v6": _v6("2001:db8::h:h:h"),
            "v4 with port": lambda draw: f"|198.51.100.{draw.randrange(1, 255)}|:{draw.randrange(1024, 65535)}",
            "v4 with mask": lambda draw: f"|10.{draw.randrange(256)}.{draw.randrange(256)}.0|/24",
            "v6 in full": _v6("2001:h:h:h:h:h:h:h"),
            "v6 in brackets": _v6("[|2a02:h::h|]"),
            "v4 in v6": lambda draw: f"::ffff:198.51.100.{draw.randrange(1, 255)}",
            "v6 with zone": _v6("fe80::h:h:h%eth0"),
            "mac": lambda draw: ":".join(_some(draw, HEX, 2) for _ in range(6)),
            # mended after they had been measured unseen
            "mac, dots": lambda draw: ".".join(_some(draw, HEX, 4) for _ in range(3)),
        },
        _UNSEEN["IP"],
    ),
    "SECRET": (
        {
            "openai": _prefixed("sk-", ALNUM, 32),
            "aws": _prefixed("AKIA", UPPER, 16),
            "github": _prefixed("ghp_", ALNUM, 36),
            "jwt": _jwt,
            "private key": _pem("PRIVATE KEY"),
            "sendgrid": lambda draw: f"SG.{_some(draw, ALNUM, 22)}.{_some(draw, ALNUM, 43)}",
            "digitalocean": _prefixed("dop_v1_", HEX, 64),
            "shopify": _prefixed("shpat_", HEX, 32),
            "telegram bot": lambda draw: f"{_some(draw, '123456789', 10)}:AA{_some(draw, ALNUM, 33)}",
            "vault": _prefixed("hvs.", ALNUM, 24),
            "databricks": _prefixed("dapi", HEX, 32),
            "slack hook": lambda draw: (
                f"https://hooks.slack.com/services/T{_some(draw, UPPER, 8)}/B{_some(draw, UPPER, 8)}/"
                + _some(draw, ALNUM, 24)
            ),
            "encrypted key": _pem("ENCRYPTED PRIVATE KEY"),
            "pgp key": _pem("PGP PRIVATE KEY BLOCK"),
            "aws secret alone": _prefixed("", ALNUM + "/+", 40),
            "hex of 64 alone": _prefixed("", HEX, 64),
            "basic header": lambda draw: (
                "Basic |" + base64.b64encode(f"{_word(draw)}:{_some(draw, ALNUM, 14)}".encode()).decode() + "|"
            ),
            # mended after they had been measured unseen
            "azure account key": lambda draw: (
                f"AccountKey=|{base64.b64encode(draw.randbytes(64)).decode()}|;EndpointSuffix=x"
            ),
            "npmrc": lambda draw: f"//registry.example.org/:_authToken=|{_some(draw, ALNUM, 36)}|",
            "heroku": lambda draw: f"HEROKU_API_KEY=|{_v6('hh-h-h-h-hhh')(draw)}|",
        },
        _UNSEEN["SECRET"],
    ),
    "PASSWORD": (
        {
            "password:": lambda draw: _some(draw, ALNUM + "!%", 12),
            "as words": lambda draw: f"{_word(draw)}-{_word(draw)}-{draw.randrange(100)}",
            "short": lambda draw: _some(draw, ALNUM, 8),
            # mended after they had been measured unseen
            "short name": lambda draw: f"pw |{_some(draw, ALNUM, 10)}|",
            "german": lambda draw: f"Passwort: |{_some(draw, ALNUM, 10)}|",
            "french": lambda draw: f"mot de passe : |{_some(draw, ALNUM, 10)}|",
            "environment": lambda draw: f"export DB_PASS='|{_some(draw, ALNUM, 14)}|'",
        },
        _UNSEEN["PASSWORD"],
    ),
    "URL": (
        {
            "https": _url("https://USER:PASS@db.example.org/x"),
            "postgresql": _url("postgresql://USER:PASS@10.0.0.5:5432/shop"),
            "redis without user": _url("redis://:PASS@cache.example.org:6379/0"),
            "mongodb": _url("mongodb+srv://USER:PASS@cluster0.example.net/test?retryWrites=true"),
            "token in the query": _url("https://api.example.org/v1/me?access_token=|PASSPASSPASS|"),
            "amqp": _url("amqps://USER:PASS@mq.example.org/%2f"),
            "signed": _url("https://files.example.org/a.pdf?X-Amz-Signature=|PASSPASSPASSPASS|&X-Amz-Expires=60"),
            # mended after they had been measured unseen
            "token as user": _url("https://|PASSPASSPASS|@git.example.org/a/b.git"),
            "curl": _url("curl -u |USER:PASS| https://api.example.org"),
        },
        _UNSEEN["URL"],
    ),
    "NATIONAL_ID": (
        {
            "us social security": _ssn,
            "spanish dni": _dni,
            "brazilian cpf": _cpf,
            "swiss ahv": _ahv,
            "french nir": _nir(" "),
            "french nir, close": _nir(""),
            "us social security, spaces": lambda draw: _ssn(draw).replace("-", " "),
            "spanish dni, dash": lambda draw: re.sub(r"(?=[A-Z])", "-", _dni(draw)),
            "british nino": _shaped("AB ## ## ## C"),
        },
        _UNSEEN["NATIONAL_ID"],
    ),
    "NAME": ({}, {"first and last": lambda draw: f"{draw.choice(FIRST)} {draw.choice(LAST)}"}),
    "ADDRESS": (
        {},
        {
            "street and town": lambda draw: (
                f"{draw.randrange(1, 180)} {_word(draw).title()} Street, {draw.choice(TOWNS)}"
            )
        },
    ),
}
FRAMES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("Please use ", " for me, thanks."),
        ("My details have changed to ", "; can you confirm?"),
        ("it still shows ", " on my account page"),
        ("Customer wrote: ", "\nPlease answer politely."),
        ('{"value": "', '", "checked": true}'),
    ),
    "PASSWORD": (("password: ", "\nit does not work"), ("the passphrase is: ", ", I think"), ('{"pwd": "', '"}')),
    "other": (
        ("Please look at ", " again."),
        ("The page says ", ", is that right?"),
        ("I noted ", "\nand nothing else."),
    ),
}


def _bad_card(draw: random.Random) -> str:
    number = _card("4", 16, " ")(draw)
    return number[:-1] + str((int(number[-1]) + 1) % 10)


# Sentences that hold none of it: whatever is replaced here is replaced wrongly.
LOOK_ALIKES: Mapping[str, Make] = {
    "order number": _shaped("order N####-####"),
    "invoice": _shaped("invoice INV-N#####"),
    "number of 10 digits": _shaped("case N#########"),
    "card that fails its check": _bad_card,
    "date": lambda draw: f"{draw.randint(1, 28):02d}.{draw.randint(1, 12):02d}.{draw.randint(1950, 2030)}",
    "date and time": lambda draw: (
        f"2026-{draw.randint(1, 12):02d}-{draw.randint(1, 28):02d}T"
        f"{draw.randrange(24):02d}:{draw.randrange(60):02d}:00Z"
    ),
    "times": lambda draw: f"{draw.randrange(10, 24)}:{draw.randrange(10, 60)}:{draw.randrange(10, 60)}",
    "version": lambda draw: f"version {draw.randrange(30)}.{draw.randrange(30)}.{draw.randrange(30)}",
    "version of four": lambda draw: (
        f"build {draw.randrange(1, 9)}.{draw.randrange(300, 900)}.{draw.randrange(99)}.{draw.randrange(9999)}"
    ),
    "price": lambda draw: f"{draw.randrange(1, 9)},{draw.randrange(100, 999)}.{draw.randrange(10, 99)} EUR",
    "isbn": lambda draw: f"ISBN 978-3-{_some(draw, DIGITS, 2)}-{_some(draw, DIGITS, 6)}-{draw.randrange(10)}",
    "uuid": _v6("hh-h-h-h-hhh"),
    "commit": lambda draw: f"commit {_some(draw, HEX, 40)}",
    "coordinates": lambda draw: f"{draw.uniform(-90, 90):.5f}, {draw.uniform(-180, 180):.5f}",
    "c++ names": lambda draw: f"std::{_word(draw)}::{_word(draw)}",
    "handle": lambda draw: f"@{_word(draw)} on the forum",
    "plain url": lambda draw: f"https://www.example.org/{_word(draw)}/{_word(draw)}?page={draw.randrange(99)}",
    "tracking number": _shaped("tracking 1Z&&&&&&##########"),
    "part number": _shaped("part @@-####-##"),
    "the word password": lambda draw: f"my password is {draw.choice(('wrong', 'too long', 'not accepted', 'expired'))}",
    "range": lambda draw: f"pages {draw.randrange(100, 200)}-{draw.randrange(200, 300)}",
    "long word": lambda draw: "-".join(_word(draw) for _ in range(4)),
    "hexadecimal colour": lambda draw: f"#{_some(draw, HEX, 6)}",
    "scientific": lambda draw: f"{draw.uniform(1, 9):.8f}e-{draw.randrange(10, 30)}",
    "sha-256 digest": lambda draw: f"sha256:{_some(draw, HEX, 64)}",
    "number of 9 digits": _shaped("reference N########"),
    "number of 11 digits": _shaped("ticket N##########"),
    "number of 12 digits, in fours": _shaped("serial N### #### ####"),
    "identifier": lambda draw: "".join(_word(draw).title() for _ in range(5)) + "Factory",
    "path": lambda draw: (
        f"/srv/{_word(draw)}/{_word(draw)}/{_word(draw)}-{draw.randrange(2000)}/log.{draw.randrange(9)}.gz"
    ),
    "sum": lambda draw: f"{draw.randrange(100, 999)} - {draw.randrange(10, 99)} - {draw.randrange(1000, 9999)}",
    "log line": lambda draw: (
        f"[{draw.randrange(10**6)}.{draw.randrange(10**6):06d}] eth0: {draw.randrange(999)} packets"
    ),
    "amount, swiss": lambda draw: (
        f"CHF {draw.randrange(1, 9)}'{draw.randrange(100, 999)}'{draw.randrange(100, 999)}.00"
    ),
    "article numbers": _shaped("articles ###-##, ###-##, ###-##"),
    "token count": lambda draw: f"tokens: {draw.randrange(10**6, 10**9)}",
}
