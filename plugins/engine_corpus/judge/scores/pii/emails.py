"""E-mail addresses (RFC 5322, section 3.4.1, without quotes and comments), found from their at signs.

What looks alike is left: hosts without a top-level domain in use (``root@server``), file names
(``icon@2x.png``), users in URLs and paths (``git@github.com:owner/name``), attributes in code
(``a@b.T``), and the names that RFC 2606 reserves for examples, which are nobody's
(``user@example.com``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_LOCAL = re.compile(r"[A-Za-z0-9._%+'-]{1,65}")
_LONGEST_LOCAL = 64
_DOMAIN = re.compile(r"[\w.-]{1,255}")
_LABEL = re.compile(r"[^\W_](?:(?:[^\W_]|-){0,61}[^\W_])?")
_FOREIGN = re.compile(r"[\w(\[@]|:[\w~./-]")
"""What no address is followed by: a longer name, a call or an index, the path of a remote place."""
_EXAMPLES = frozenset({"example.com", "example.net", "example.org"})
_COUNTRIES = """ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo
br bs bt bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er
es et eu fi fj fk fm fo fr ga gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id
ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly
ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om
pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss
st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu
wf ws ye yt za zm zw"""
_GENERIC = """academy aero agency app art asia bank berlin bio biz blog business cafe care cat center
church city cloud club com community company consulting coop design dev digital edu education email
energy engineering expert finance foundation fun gmbh global gov group health help hamburg host info ink
institute int international jobs koeln law legal life link live london ltd management marketing media
mil mobi museum name net network news nyc one online org page paris photo photography post press pro
productions pub school science services shop site social software solutions space store studio support
systems team tech technology tel today tokyo top tours training travel university ventures video vip
website wien wiki work works world wtf xyz zone"""
_TOP = frozenset(f"{_COUNTRIES} {_GENERIC}".split())
"""Top-level domains: of all countries (ISO 3166), and the generic ones that are used most."""

HINT = r"[A-Za-z0-9_%+-]@\w"
"""A pattern that is found in every text with an address, in the syntax of Rust's regex."""


def emails(text: str) -> Iterator[tuple[int, int]]:
    """The starts and ends of e-mail addresses."""
    at = text.find("@")
    while at >= 0:
        if (start := _start(text, at)) >= 0 and (end := _end(text, at)) >= 0:
            yield start, end
        at = text.find("@", at + 1)


def _start(text: str, at: int) -> int:
    """Where the name before an at sign begins; -1 if it is none, or a user in a URL."""
    backwards = _LOCAL.match(text[max(at - _LONGEST_LOCAL - 1, 0) : at][::-1])
    if not backwards or len(backwards[0]) > _LONGEST_LOCAL or backwards[0][0] in ".'":
        return -1
    name = backwards[0][::-1].rpartition("..")[2].lstrip(".%+'-")
    start = at - len(name)
    host = text[max(start - 255, 0) : start].rpartition("://")
    in_url = bool(host[1]) and not re.search(r"[\s/\"'<>]", host[2])
    return -1 if not name or in_url else start


def _end(text: str, at: int) -> int:
    """Where the host after an at sign ends; -1 if it is none of the internet."""
    match = _DOMAIN.match(text, at + 1)
    if not match:
        return -1
    labels = match[0].rstrip(".-").split(".")
    following = ""
    while len(labels) > 1 and labels[-1].lower() not in _TOP:
        if not labels[-1][:1].isupper():  # else a sentence begins here without a space
            return -1
        following = labels.pop()
    domain = ".".join(labels)
    end = at + 1 + len(domain)
    fits = len(labels) > 1 and all(_LABEL.fullmatch(label) for label in labels)
    reserved = ".".join(labels[-2:]).lower() in _EXAMPLES
    foreign = not following and _FOREIGN.match(text, end)
    return -1 if not fits or reserved or foreign else end
