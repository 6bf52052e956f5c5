"""Personal data and keys are found where they were planted; what looks like them is left."""

from __future__ import annotations

import json
import time

import pytest
from engine_corpus.judge.scores.config import KINDS, PII
from engine_corpus.judge.scores.pii.processor import build, masked, spans_in

from engine import Text
from engine.testing import processed

# Of each text the part that is to be found stands between braces.
PLANTED = {
    "email": """Write to {jane.doe+news@mail.university.edu}.
<{john@acme.co.uk}>, ask him
mailto:{a_b@foo.io}
'{x@y.de}'
End mail {me@site.org}.Then go
{O_Brien-1@sub.domain.museum}\tand more
Grüße an {info@müller.example.fr}""",
    "phone": """call {+49 30 1234567} now
{+1 (212) 555-0187}
{+33 1 23 45 67 89},
{+12125550187}
reach us: {(212) 555-0187}
{212-555-0187}.
{1-800-555-0199}
{212.555.0187}
Tel.: {030 12345678}
phone: {2125550187}
Fax {030/1234567890}
Telefon {089 123 456 78}""",
    "ip": """from {93.184.216.34} port 22
http://{93.184.216.34}:80/x
root@{93.184.216.34}
{8.8.4.200}, {93.184.216.0}/24
host {2a00:1450:4001:81b::200e}.
[{2001:4860:4860::8888}]""",
    "address": """at {12 Main Street}, today
{1600 Pennsylvania Avenue} NW
live in {5 Park Drive, Salem, OR 97301}.
{221B Baker Street, London NW1 6XE}
{42 W. 5th Ave, Apt 3}
{10 Downing Street, London, SW1A 2AA}
{Hauptstraße 12, 10115 Berlin}
in der {Lange Straße 5}
{Karl-Marx-Str. 7}
Am {Feldweg 3, 80331 München}
{P.O. Box 123}
{Postfach 12 34}""",
    "key": """id {AKIAIOSFODNN7EXAMPLE}
{ghp_a1B2a1B2a1B2a1B2a1B2a1B2a1B2a1B2a1B2}
Stripe({sk_live_a1B2a1B2a1B2a1B2a1B2a1B2})
{eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U}
postgres://{bob:hunter2}@db.internal/x
api_key = '{a8Fh2kLm93Zq0PxY77Wd}'
"client_secret": "{a8Fh2kLm93Zq0PxY77Wd}"
export ACCESS_TOKEN={9b2f7c1e4d8a0f3b6e5c9d2a1f4b8e7c}""",
}
BLOCKS = [
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAx1x2x3x4\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF1xyzABCADabcdefg\n"
    "-----END PGP PRIVATE KEY BLOCK-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ",
]
NEAR_MISSES = """python 3.11.4, v1.2.3.4, version 120.0.60.99, Chrome/120.0.60.99, pkg==1.200.3.4
numpy-1.26.4-cp311-manylinux_2_17_x86_64.whl, lib@1.2.3, 1.2.3.4.5, "sections "8.2.4.44"
1.3.6.1.4.1.311, section 4.2.40.1, 10.0.0.1, 192.168.1.1, 127.0.0.1, 192.0.2.55, fe80::1, 2001:db8::1
commit da39a3ee5e6b4b0d3255bfef95601890afd80709, git show 3b18e512dba79e4c8300dd08aeb37f8e728b8dad
md5: d41d8cd98f00b204e9800998ecf8427e
sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=, uuid 550e8400-e29b-41d4-a716-446655440000
ISBN 978-3-16-148410-0, ISBN 0-306-40615-2, ISBN 978 3 16 148410 0, ISSN 2049-3630
2024-01-02 03:04:05, 2024-06-15T12:00:00+01:00, 12.06.2024, 06/12/2024, 1999-2024, 12:34:56
root@server, user@host:~$ ls, @app.route('/x'), @property, a@b.T, x@y.conj(), m@self.weights
icon@2x.png, git@github.com:owner/name.git, ssh://git@github.com/o/r, https://medium.com/@jane.doe/x
user@example.com, bob@mail.example.org, me@localhost, x@y.invalid, a@b.test
1234567890, 2,147,483,647, 3.14159265358979, 0xDEADBEEF, 555 123 4567 890 112, 4111 1111 1111 1111
+35236450.6, +1980-02-29 01:02:03, x = y +12345,
1e+1000000000, max_value=2147483648, 250 300 1024, 1-2-3
-212-555-01878, phone 12345, Tel. 1, mobile 2024, tel:path, aa:bb:cc:dd:ee:ff
ObjectIdentifier('2.5.29.37'), 2000:1, 3:4::5
In 2008 Wall Street fell. 2 Hard Drives, won 1 First Place, page 12 Main points, Parkplatz 3
3 Way Switch, Chapter 2 The Road to Ruin, 5 Highways, str. 5, registr. 12, $20 Main Street price
-----BEGIN RSA PRIVATE KEY----- starts, -----BEGIN PUBLIC KEY-----, PRIVATE KEY
token = next_token_from_stream, password = getpass.getpass(), cache_key = 'a8Fh2kLm93Zq0PxY77Wd'
https://user:password@host/, https://admin:admin@host/, https://${USER}:${PASS}@host/
secret_key = 'your-secret-key-here'
token_count=1234567890123456, sk-learn, ghp_short, AKIAshort, eyJ, key = 550e8400e29b41d4
""".splitlines()


def _planted(kind):
    for line in PLANTED[kind].splitlines():
        text, expected = "", []
        for piece in line.replace("}", "{").split("{"):
            expected.append((kind, len(text), len(text) + len(piece)))
            text += piece
        yield text, expected[1::2]
    if kind == "key":
        for block in BLOCKS:
            yield f"a\n{block}\nb", [("key", 2, 2 + len(block))]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_planted_is_found_in_its_place(kind, topics):
    """Neither more nor less of it, and not by other kinds; also amid prose."""
    for text, expected in _planted(kind):
        assert spans_in(text) == expected, text
        prose = topics[3][:500] + "\n"
        shifted = [(kind, start + len(prose), end + len(prose)) for _, start, end in expected]
        assert spans_in(f"{prose}{text}\n{topics[4][:500]}") == shifted, text


@pytest.mark.parametrize("line", NEAR_MISSES)
def test_what_looks_like_personal_data_is_left(line):
    """Versions, hashes, checksums, ISBNs, dates, private addresses, code, reserved names."""
    assert [line[start:end] for _, start, end in spans_in(line)] == []


def test_of_the_standard_library_only_its_authors_are_found(library):
    """In 2 MB of code: their addresses, and not one of its numbers and names."""
    text = "\n".join(library("[a-m]*.py"))
    found = [(kind, text[start:end]) for kind, start, end in spans_in(text)]
    assert len(found) > 20
    others = [item for item in found if item[0] != "email"]
    assert {kind for kind, _ in others} <= {"ip"}  # examples in ipaddress
    assert len(others) <= 3
    assert ("email", "guido@python.org") in found or ("email", "mal@lemburg.com") in found


@pytest.mark.covers("processor/pii.action")
def test_actions_mask_drop_or_annotate(scored):
    """Spans are those of the text as it was, and null where nothing is found."""
    text = "Mail jane@acme.io or call +49 30 1234567, ß."
    spans = [
        {"kind": "email", "start": 5, "end": 17},
        {"kind": "phone", "start": 26, "end": 40},
    ]
    for action in ("mask", "drop", "annotate"):
        found, nothing = scored("pii", [text, "Nothing here."], action=action)
        assert json.loads(found.pop("pii_spans")) == spans
        assert nothing.pop("pii_spans") is None
        assert set(nothing.values()) <= {None}
        expected = {
            "mask": {"text": "Mail <EMAIL> or call <PHONE>, ß."},
            "drop": {"drop": "pii"},
            "annotate": {},
        }
        assert found == expected[action]
    record = Text(id="1", source="s", text=text)
    assert processed(build(PII(), None), [record])[0].text == "Mail <EMAIL> or call <PHONE>, ß."


@pytest.mark.covers("processor/pii.kinds")
def test_only_the_kinds_asked_for_are_looked_for(scored):
    """And each has its own placeholder."""
    text = "a@acme.io, +49 30 1234567, 93.184.216.34, 12 Main Street, AKIAIOSFODNN7EXAMPLE"
    places = dict(zip(("email", "phone", "ip", "address", "key"), text.split(", "), strict=True))
    for kind in KINDS:
        (row,) = scored("pii", [text], kinds=[kind])
        assert row["text"] == text.replace(places[kind], f"<{kind.upper()}>")
    (row,) = scored("pii", [text])
    assert row["text"] == "<EMAIL>, <PHONE>, <IP>, <ADDRESS>, <KEY>"


def test_of_overlapping_spans_the_more_certain_stays():
    """A password in a URL is a key, whatever it looks like."""
    text = "https://jane:93.184.216.34@db.acme.io/"
    assert masked(text, spans_in(text)) == "https://<KEY>@db.acme.io/"


def test_batches_find_what_single_texts_do(scored, library):
    """The patterns that hint at texts with something in them miss none."""
    planted = [text for kind in KINDS for text, _ in _planted(kind)]
    texts = [*planted, *library("[a-f]*.py"), *NEAR_MISSES, ""]
    for text, row in zip(texts, scored("pii", texts, action="annotate"), strict=True):
        told = [tuple(span.values()) for span in json.loads(row["pii_spans"] or "[]")]
        assert told == spans_in(text)


@pytest.mark.parametrize(
    "piece",
    [
        "a", "1", "@", "a@", "a.", "1.", "1 ", "+1", "eyJ", "eyJaaaaaaaa.", "Ab ", "1 Ab ", "://",
        "-----BEGIN RSA PRIVATE KEY-----", "://aaaaaaaaaaa", "api_key=", "2a00:", "sk-ant-", "(", "-",
        " ", "Straße 1", "tel 1", "1\n", "A", "+1(((", "P.O. Box ", "1 A1st ", "token='",
        "Abc 1 Street ",
    ],
)  # fmt: skip
def test_hostile_texts_take_linear_time(piece):
    """300,000 times one letter, and repeated beginnings: ten times as much takes ten times as long."""
    spans_in(piece * 10)
    took = []
    longer = 300_000 if len(piece) == 1 else 100_000
    for size in (longer // 10, longer):
        text = piece * (size // len(piece))
        start = time.process_time()
        spans_in(text)
        took.append(time.process_time() - start)
    assert took[1] < 25 * took[0] + 0.3


def test_spans_are_counted_for_the_card(scored):
    """By kind, with the number of documents."""
    import pyarrow as pa

    rows = scored("pii", ["a@acme.io b@acme.io", "x", "93.184.216.34"], action="annotate")
    step = build(PII(kinds=("email", "ip", "key")), None)
    told = step.summary(iter([pa.Table.from_pylist(rows[:2]), pa.Table.from_pylist(rows[2:])]))
    assert told == {"documents": 2, "spans": {"email": 2, "ip": 1, "key": 0}}
