"""The page works in a real browser without a network, in light and dark, on paper and on a phone."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import pypdfium2
import pytest
from support.made_runs import begun, made_run, score, step
from support.packages import lacks

READY = "document.documentElement?.dataset.drawn"
EVIL = (
    "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>\u2028'\"&"
)
STEPS = 1500


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    """Two runs with all that a page shows; every name and text of theirs is hostile."""
    made = tmp_path_factory.mktemp("runs")
    folders = []
    for number in range(2):
        stage = f"base {EVIL}"
        events = [begun(f"data {EVIL}", "prepare")]
        dropped = {f"as {EVIL}": 3}
        events.append(
            {"event": "documents", "stage": f"data {EVIL}", "source": EVIL, "read": 5,
             "dropped": dropped, "documents": 2, "held_out": 0, "bytes": 9, "licenses": {EVIL: 2},
             "tokens": 7}
        )  # fmt: skip
        events += [begun(stage), {"event": "plan", "stage": stage, "expected": {"steps": STEPS}}]
        for n in range(1, STEPS + 1):
            figures = {"lr": 1e-3 / n, "grad_norm": 1 + 1 / n, "memory": 2e9, f"kl/{EVIL}": n % 7}
            loss = 9.0 if n == 700 else 2 + number + 3 / math.sqrt(n)
            events.append(step(n, loss, stage, skipped=n == 700, **figures))
            if n == 900:
                back = {"event": "rolled_back", "stage": stage, "step": n, "reason": EVIL}
                events.append(back)
            if n % 500 == 0:
                named = {"evaluator": f"quiz {EVIL}", "metric": f"acc {EVIL}"}
                events.append(score(0.2 + n / 3000, n, stage, **named))
                events.append(
                    {"event": "sample", "stage": stage, "step": n, "prompt": EVIL, "text": EVIL}
                )
        events.append({"event": "warning", "stage": stage, "message": EVIL})
        spec = {"name": EVIL, "seed": number, EVIL: [EVIL, {EVIL: EVIL}]}
        folders.append(
            made_run(
                made / f"{number} <script>window.broken = 1<" / "run <b>",
                events, spec=spec, manifest={"machine": EVIL, EVIL: EVIL},
            )
        )  # fmt: skip
    return folders


@pytest.fixture(scope="module")
def pages(runs, tmp_path_factory) -> dict[str, Path]:
    """The page of one run, and that of both."""
    from engine_report.page.report import write_report

    folder = tmp_path_factory.mktemp("pages")
    write_report(runs[:1], folder / "one.html", False)
    write_report(runs, folder / "two.html", False)
    return {"one": folder / "one.html", "two": folder / "two.html"}


def pixels(png: bytes) -> set[bytes]:
    """The colours of the first column of a screenshot's rows, which is the page's background."""
    width, depth, kind = struct.unpack(">I4xBB", png[16:26])
    assert (depth, kind) in ((8, 2), (8, 6))
    size = 3 if kind == 2 else 4
    found, data, place = set(), b"", 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        if png[place + 4 : place + 8] == b"IDAT":
            data += png[place + 8 : place + 8 + length]
        place += 12 + length
    raw, stride = zlib.decompress(data), width * size + 1
    above = b"\0" * size
    for row in range(len(raw) // stride):
        head = raw[row * stride + 1 : row * stride + 1 + size]
        # The pixel to the left of the first counts as zeros, so half of the filters change nothing.
        mode = raw[row * stride]
        if mode in (2, 4):
            head = bytes((a + b) % 256 for a, b in zip(head, above, strict=True))
        elif mode == 3:
            head = bytes((a + b // 2) % 256 for a, b in zip(head, above, strict=True))
        above = head
        found.add(head[:3])
    return found


@pytest.mark.parametrize("name", ["one", "two"])
def test_nothing_is_asked_for_and_nothing_complained_of(opened, pages, name):
    """The page is the one request; its policy is never violated; all charts are drawn."""
    opened.screen(1280)
    opened.open(pages[name], READY)
    assert opened.requests() == [pages[name].as_uri()]
    assert opened.complaints() == []
    charts = opened.value("document.querySelectorAll('.chart').length")
    assert charts == 8  # loss, kl, grad_norm, lr, speed, memory, tokens, and a score
    assert opened.value("document.querySelectorAll('.chart svg').length") == charts
    plots = "[...document.querySelectorAll('.plot')]"
    assert opened.value(f"{plots}.every((p) => p.querySelector('.mark-line path[d]'))") is True


def test_the_policy_refuses_scripts_and_requests(opened, pages):
    """So a hole in the escaping would still run nothing."""
    opened.open(pages["one"], READY)
    image = "<img src=x onerror='window.broken = 1'>"
    opened.value(f'document.body.insertAdjacentHTML("beforeend", "{image}")')
    made = "Object.assign(document.createElement('script'), {text: 'window.broken = 1'})"
    opened.value(f"document.body.append({made})")
    refused = "fetch('https://example.com').then(() => 'came', () => 'refused')"
    assert opened.value(refused) == "refused"
    assert opened.value("'broken' in window") is False
    assert len([c for c in opened.complaints() if "Content Security Policy" in c]) >= 3


@pytest.mark.parametrize("name", ["one", "two"])
def test_hostile_names_stay_text(opened, pages, name):
    """In names of runs, stages, figures, evaluators and fields, in prompts, answers and messages."""
    opened.open(pages[name], READY)
    assert opened.value("'broken' in window") is False
    assert opened.value("document.querySelectorAll('img, b, iframe').length") == 0
    assert opened.value("document.scripts.length") == 3
    shown = EVIL.replace("\u2028", "\\u2028")  # as a terminal's messages show it
    assert opened.value("document.querySelector('.samples dd').textContent") == shown
    assert opened.value("document.querySelector('summary q').textContent") == shown
    text = opened.value("document.body.innerText")
    for told in ("KL divergence: ", "quiz ", "as ", "rolled back to step 900: "):
        assert f"{told}{shown}" in text
    opened.value("document.querySelector('.chart').focus()")
    opened.press("End")
    assert opened.value("'broken' in window") is False


def test_values_are_read_by_keys_and_by_the_pointer(opened, pages):
    """A chart has its last value; arrow keys and the pointer read others."""
    opened.screen(1280)
    opened.open(pages["one"], READY)
    reading = "document.querySelector('.chart .reading').textContent"
    assert opened.value(reading).startswith("2.0775 around step 1,49")
    opened.value("document.querySelector('.chart').focus()")
    opened.press("End")
    last = opened.value(reading)
    opened.press("ArrowLeft")
    assert opened.value(reading) != last
    opened.press("Escape")
    box = opened.value("document.querySelector('.plot').getBoundingClientRect().toJSON()")
    opened.point(box["x"] + box["width"] * 700 / STEPS, box["y"] + box["height"] / 2)
    opened.value("new Promise(requestAnimationFrame)")
    found = opened.value(reading)
    assert int(found.split("step ")[1].replace(",", "")) == pytest.approx(700, abs=80)


@pytest.fixture(scope="module")
def sparse(tmp_path_factory) -> Path:
    """A page of a stage that diverged: its figures and it have names that objects of JavaScript have,
    and one figure has a value at every second step only."""
    from engine_report.page.report import write_report

    folder = tmp_path_factory.mktemp("sparse")
    events = [begun("__proto__")]
    for n in (1, 2, 3, 4):
        seldom = {"constructor": 0.5 + n, "__proto__": n} if n % 2 else {}
        seldom["utilisation"] = 0.005 + n / 1000
        events.append(step(n, None if n > 2 else 2.00004 + n, "__proto__", **seldom))
        events.append(score(None if n > 2 else n / 4, n, "__proto__"))
    write_report([made_run(folder / "run", events)], folder / "page.html", False)
    return folder / "page.html"


def chart(name: str) -> str:
    """The chart of this title."""
    named = "c.querySelector('.name').textContent"
    return f"[...document.querySelectorAll('.chart')].find((c) => {named} === {name!r})"


def test_values_without_neighbours_are_points(opened, sparse):
    """As no line goes through them; a figure of any name is drawn like others."""
    opened.screen(1280)
    opened.open(sparse, READY)
    assert opened.complaints() == []
    points = "querySelectorAll('.mark-symbol path').length"
    for name in ("Proto", "Constructor"):
        assert opened.value(f"{chart(name)}.{points}") == 2
    assert opened.value(f"{chart('Loss')}.{points}") == 0
    reading = f"{chart('Constructor')}.querySelector('.reading').textContent"
    assert opened.value(reading) == "3.5 at step 3"


def test_readings_tell_units_and_what_is_not_finite(opened, sparse):
    """A loss has four digits after the point; after its last value nothing pretends to be one."""
    opened.screen(1280)
    opened.open(sparse, READY)
    reading = "querySelector('.reading').textContent"
    assert opened.value(f"{chart('Speed')}.{reading}") == "50 tokens per second at step 4"
    assert opened.value(f"{chart('Loss')}.{reading}") == "4.0000 at step 2, not finite since step 3"
    assert (
        opened.value(f"{chart('quiz: acc')}.{reading}") == "0.5 at step 2, not finite since step 3"
    )
    for name in ("Loss", "quiz: acc"):
        assert opened.value(f"{chart(name)}.querySelectorAll('.mark-rule line').length") >= 1
    opened.value(f"{chart('Loss')}.focus()")
    opened.press("End")
    assert opened.value(f"{chart('Loss')}.{reading}") == "not finite at step 4"


def test_ticks_are_whole_steps_and_distinct_shares(opened, sparse):
    """Also over few steps, and of a utilisation below one per cent."""
    opened.screen(1280)
    opened.open(sparse, READY)
    labels = "querySelectorAll('.role-axis-label')"
    for name, axis in (("Loss", 0), ("Utilisation", 1)):
        texts = f"[...{chart(name)}.{labels}[{axis}].querySelectorAll('text')]"
        told = opened.value(f"{texts}.map((text) => text.textContent)")
        if axis == 0:
            assert told == ["1", "2", "3", "4"]
        else:
            assert len(told) == len(set(told)) > 1
            assert all(one.endswith("%") for one in told)


def test_the_page_is_walked_through_by_keys(opened, pages):
    """From the link that skips to the content, by the sections and controls, to each chart."""
    opened.open(pages["two"], READY)
    active = "((e) => e.className || e.textContent.trim())(document.activeElement)"
    seen = []
    for _ in range(14):
        opened.press("Tab")
        seen.append(opened.value(active))
    assert seen[:3] == ["skip", "Overview", "Differences"]
    opened.value("document.querySelector('[data-run]').focus()")
    lines = "document.querySelectorAll('.chart .mark-line path[d]').length"
    before = opened.value(lines)
    opened.value("document.querySelector('[data-run]').click()")
    opened.value("new Promise((done) => setTimeout(done, 300))")
    assert opened.value(lines) < before
    charts = "[...document.querySelectorAll('.chart')]"
    assert opened.value(f"{charts}.every((chart) => chart.tabIndex === 0 && chart.ariaLabel)")


def test_axes_become_logarithmic(opened, pages):
    """On request, where all values are positive."""
    opened.open(pages["one"], READY)
    ticks = "document.querySelector('.chart .role-axis-label').textContent"
    linear = opened.value(ticks)
    opened.value("document.querySelector('[data-log=x]').click()")
    opened.value("new Promise((done) => setTimeout(done, 1500))")
    assert opened.value(ticks) != linear
    assert opened.complaints() == []


def test_light_dark_narrow_and_print(opened, pages):
    """Each has its colours, also in charts; nothing is wider than the window; all is printed."""
    opened.open(pages["two"], READY)
    label = "getComputedStyle(document.querySelector('.role-axis-label text')).fill"
    opened.screen(1280)
    light = opened.value(label)
    assert b"\xff\xff\xff" in pixels(opened.screenshot())
    opened.screen(1280, dark=True)
    assert opened.value(label) != light
    dark = pixels(opened.screenshot())
    assert b"\xff\xff\xff" not in dark
    opened.screen(800, dark=True, media="print")
    assert opened.value(label) == light
    colours = pixels(opened.screenshot())  # also of letters, as paper has its own margins
    assert b"\xff\xff\xff" in colours
    assert not colours & dark
    for width in (1280, 800, 360):
        opened.screen(width)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert opened.value(wide) == 0
        ends = "[...document.querySelectorAll('.plot svg')].map((s) => s.getBoundingClientRect().right)"
        assert max(opened.value(ends)) <= width
    opened.screen(1280)
    printed = pypdfium2.PdfDocument(opened.printed())
    text = "\n".join(page.get_textpage().get_text_bounded() for page in printed)
    for told in (
        "Differences of the specs",
        "Least and greatest values",
        "Peak memory",
        "Versions",
    ):
        assert told in text
    assert "in all" not in text
    assert text.count("Gradient norm") >= 3  # the chart, and what is folded


def test_a_missing_browser_fails_the_gate_only(monkeypatch):
    """Elsewhere the tests skip, with the name of the package."""
    monkeypatch.delenv("GATE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs the system package chromium"):
        lacks("chromium")
    monkeypatch.setenv("GATE", "1")
    with pytest.raises(pytest.fail.Exception, match="the gate has no chromium"):
        lacks("chromium")
