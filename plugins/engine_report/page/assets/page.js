"use strict";
// Fills the charts, and reads values out where the pointer or the arrow keys are. Texts from runs reach
// the page by textContent alone.
(async () => {
  const data = JSON.parse(document.getElementById("figures").textContent);
  const shown = new Set(data.runs.keys());
  const several = data.runs.length > 1;
  const tip = document.querySelector(".tip");
  const drawn = [];
  const LISTED = 12; // runs in a tip

  // The curves of a chart, one for each run that has it: steps ascending, values in the chart's unit.
  function seriesOf(chart) {
    const found = [];
    data.runs.forEach((run, number) => {
      if (chart.kind === "score") {
        const own = run.scores.filter((s) => s[0] === chart.stage && s[1] === chart.name);
        own.sort((a, b) => a[2] - b[2]);
        const column = (place) => own.map((score) => score[place]);
        if (own.length) {
          const value = column(3), finite = value.findLastIndex((v) => v !== null);
          found.push({
            run: number, step: column(2), value, low: column(4), high: column(5), lost: own[finite + 1]?.[2],
          });
        }
        return;
      }
      const stage = Object.hasOwn(run.stages, chart.stage) ? run.stages[chart.stage] : null;
      const figures = stage ? stage.curves.figures : {};
      if (!Object.hasOwn(figures, chart.name)) return;
      const own = figures[chart.name];
      const scaled = (values) => values.map((v) => (v === null ? null : v * chart.factor));
      found.push({
        run: number, step: stage.curves.step, value: scaled(own.value), low: scaled(own.low),
        high: scaled(own.high), marks: chart.marked ? stage.marks : [],
        lost: Object.hasOwn(stage.notFinite, chart.name) ? stage.notFinite[chart.name] : undefined,
      });
    });
    return found;
  }

  function pointsOf(series) {
    const points = [];
    for (const one of series) {
      if (!shown.has(one.run)) continue;
      one.step.forEach((step, i) => {
        const point = { run: one.run, step, value: one.value[i] };
        if (one.low.length) { point.low = one.low[i]; point.high = one.high[i]; }
        // A line would not show it.
        const near = [one.value[i - 1], one.value[i + 1]];
        if (point.value !== null && near.every((value) => value === null || value === undefined)) point.alone = 1;
        points.push(point);
      });
    }
    return points;
  }

  function marksOf(series) {
    return series.filter((one) => shown.has(one.run)).flatMap((one) => [
      ...(one.marks || []), ...(one.lost === undefined ? [] : [["not finite", one.lost]]),
    ].map(([kind, step]) => ({ run: one.run, kind, step })));
  }

  // Whether an axis is to be logarithmic: "x" or "y".
  const isLogarithmic = (axis) => document.querySelector(`[data-log="${axis}"]`).checked;

  async function draw(figure) {
    const chart = data.charts[Number(figure.dataset.chart)];
    const series = seriesOf(chart);
    const spec = structuredClone(data.templates[chart.kind]);
    const marks = marksOf(series);
    chart.thinned = chart.kind === "curve" && series.some((one) => one.low.length);
    const banded = series.some((one) => one.low.length);
    const points = pointsOf(series), alone = points.some((point) => point.alone);
    spec.layer = spec.layer.filter((layer) => {
      if (layer.data?.name === "marks") return marks.length > 0;
      if (layer.transform?.[0].filter === "datum.alone") return alone;
      return layer.mark.type !== "area" || banded;
    });
    const steps = [...series.flatMap((one) => one.step), ...marks.map((mark) => mark.step)];
    const ends = [steps, steps].map((all, i) => all.reduce((a, b) => (i ? Math.max(a, b) : Math.min(a, b))));
    const positive = (values) => values.every((value) => value === null || value > 0);
    const logarithmic = {
      x: isLogarithmic("x") && positive(steps),
      y: isLogarithmic("y") && series.every((one) => [one.value, one.low, one.high].every(positive)),
    };
    // A constant would lie on an axis without ticks.
    const values = series.flatMap((one) => [...one.value, ...one.low, ...one.high]).filter((v) => v !== null);
    const constant = values.every((value) => value === values[0]);
    const room = Math.abs(values[0]) / 20 || 1;
    for (const layer of spec.layer) {
      const { x, y } = layer.encoding;
      x.scale = logarithmic.x ? { type: "log", domain: ends, nice: false } : { ...x.scale, domain: ends };
      if (!y || !y.field) continue;
      y.title = `${chart.axis} `; // with a blank, as Vega fails for "constructor" and other members of objects
      if (logarithmic.y) y.scale = { type: "log" };
      if (constant) y.scale = { ...y.scale, domain: [values[0] - room, values[0] + room] };
      if (chart.format) y.axis = { ...y.axis, format: chart.format };
    }
    spec.datasets = { points, marks };
    const plot = figure.querySelector(".plot");
    // `ast`: expressions are interpreted, as the page's policy forbids to compile them.
    const options = { ast: true, renderer: "svg", actions: false, tooltip: false };
    const { view } = await drawChart(plot, spec, options);
    const one = { figure, chart, series, view, marked: marks.length > 0, at: null, off: new AbortController() };
    drawn.push(one);
    rest(one);
    follow(one);
  }

  const number = (value, decimals = null) => {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e9)) return value.toExponential(3);
    if (decimals !== null && size < 1e6) {
      return value.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
    }
    return value.toLocaleString("en", { maximumSignificantDigits: size >= 1e4 ? 6 : 4 });
  };

  function told(chart, one, i, ends = true) {
    if (one.value[i] === null) return one.lost !== undefined && one.step[i] >= one.lost ? "not finite" : "–";
    const share = chart.format === "~%";
    const as = (value) => (share ? number(value * 100) : number(value, chart.decimals));
    const spread = ends && one.low.length && one.low[i] !== one.high[i] && one.low[i] !== null;
    const unit = share ? "%" : chart.unit;
    const value = as(one.value[i]) + (spread ? ` (${as(one.low[i])} to ${as(one.high[i])})` : "");
    return unit ? `${value} ${unit}` : value;
  }

  // A value of many steps stands at the middle one of them.
  function at(chart, step) {
    return `${chart.thinned ? "around" : "at"} step ${number(step)}`;
  }

  // Without a pointer a single run's last value is shown.
  function rest({ figure, chart, series }) {
    const reading = figure.querySelector(".reading");
    reading.textContent = "";
    if (several || !series.length) return;
    const [one] = series;
    const last = one.value.findLastIndex((value) => value !== null);
    if (last >= 0) reading.textContent = `${told(chart, one, last, false)} ${at(chart, one.step[last])}`;
    if (one.lost !== undefined) reading.textContent += `, not finite since step ${number(one.lost)}`;
  }

  function nearest(steps, step) {
    let low = 0, high = steps.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (steps[middle] < step) low = middle + 1; else high = middle;
    }
    return low > 0 && step - steps[low - 1] <= steps[low] - step ? low - 1 : low;
  }

  // Where a step lies within the figure, in pixels.
  function place(one, step) {
    const svg = one.figure.querySelector("svg");
    const box = svg.getBoundingClientRect();
    const zoom = box.width / svg.viewBox.baseVal.width;
    const shift = svg.querySelector("g").transform.baseVal.consolidate().matrix;
    const own = one.figure.getBoundingClientRect();
    return {
      zoom, start: box.left + shift.e * zoom, left: box.left - own.left + (shift.e + one.view.scale("x")(step)) * zoom,
      top: box.top - own.top + shift.f * zoom, height: one.view.height() * zoom,
    };
  }

  function read(one, wanted, keyboard) {
    const seen = one.series.filter((s) => shown.has(s.run));
    if (!seen.length) return;
    const found = seen.map((s) => [s, nearest(s.step, wanted)]);
    const [closest] = [...found].sort((a, b) =>
      Math.abs(a[0].step[a[1]] - wanted) - Math.abs(b[0].step[b[1]] - wanted));
    const step = closest[0].step[closest[1]];
    one.at = step;
    const here = place(one, step);
    let cross = one.figure.querySelector(".cross");
    if (!cross) {
      cross = document.createElement("div");
      cross.className = "cross";
      one.figure.append(cross);
    }
    Object.assign(cross.style, { left: `${here.left}px`, top: `${here.top}px`, height: `${here.height}px` });
    const reading = one.figure.querySelector(".reading");
    const words = found.map(([s, i]) => told(one.chart, s, i));
    if (!several) {
      reading.textContent = `${words[0]} ${at(one.chart, step)}`;
      return;
    }
    reading.textContent = `step ${number(step)}`;
    if (keyboard) {
      reading.textContent += ": " + found.slice(0, LISTED).map(([s], i) =>
        `${data.runs[s.run].label} ${words[i]}`).join(", ");
    }
    tip.replaceChildren(...found.slice(0, LISTED).map(([s], i) => {
      const row = document.createElement("div");
      row.className = "row";
      const [swatch, label, value] = ["swatch", "", ""].map((name) => {
        const part = document.createElement("span");
        part.className = name;
        return part;
      });
      swatch.style.background = colour(s.run);
      label.textContent = data.runs[s.run].label;
      value.textContent = words[i];
      row.append(swatch, label, value);
      return row;
    }));
    if (found.length > LISTED) tip.append(`and ${found.length - LISTED} more`);
    tip.hidden = keyboard;
    if (keyboard) return;
    const own = one.figure.getBoundingClientRect();
    const x = own.left + window.scrollX + here.left + 12, width = tip.offsetWidth;
    const end = window.scrollX + document.documentElement.clientWidth - 8;
    tip.style.left = `${x + width > end ? Math.max(8, x - width - 24) : x}px`;
    tip.style.top = `${own.top + window.scrollY + here.top + 8}px`;
  }

  function colour(run) {
    return data.templates.curve.layer[0].encoding.color.scale.range[run];
  }

  function leave(one) {
    one.figure.querySelector(".cross")?.remove();
    tip.hidden = true;
    one.at = null;
    rest(one);
  }

  function follow(one) {
    const { signal } = one.off; // a chart that is drawn again has new listeners
    const plot = one.figure.querySelector(".plot");
    plot.addEventListener("pointermove", (event) => {
      const { start, zoom } = place(one, one.series[0].step[0]);
      read(one, one.view.scale("x").invert((event.clientX - start) / zoom), false);
    }, { signal });
    plot.addEventListener("pointerleave", () => leave(one), { signal });
    one.figure.addEventListener("blur", () => leave(one), { signal });
    one.figure.addEventListener("keydown", (event) => {
      const steps = [...new Set(one.series.filter((s) => shown.has(s.run)).flatMap((s) => s.step))]
        .sort((a, b) => a - b);
      if (!steps.length) return;
      const now = one.at === null ? steps.length : nearest(steps, one.at);
      const by = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: steps.length - 1 }[event.key];
      if (event.key === "Escape") leave(one);
      if (by === undefined) return;
      event.preventDefault();
      read(one, steps[Math.max(0, Math.min(steps.length - 1, by))], true);
    }, { signal });
  }

  for (const box of document.querySelectorAll("[data-run]")) {
    box.addEventListener("change", async () => {
      const run = Number(box.dataset.run);
      if (box.checked) shown.add(run); else shown.delete(run);
      for (const one of drawn) {
        const points = pointsOf(one.series), marks = marksOf(one.series);
        one.figure.classList.toggle("empty", !points.length);
        if (!points.length) continue; // a chart without points has no scales
        one.view.data("points", points);
        if (one.marked) one.view.data("marks", marks);
        await one.view.runAsync();
      }
    });
  }

  for (const box of document.querySelectorAll("[data-log]")) {
    box.addEventListener("change", async () => {
      for (const one of drawn.splice(0)) {
        one.view.finalize();
        one.off.abort();
        await draw(one.figure);
      }
    });
  }

  // Tables that are wider than the page can be scrolled by keys.
  function scrollable() {
    for (const box of document.querySelectorAll(".scroll")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0; else box.removeAttribute("tabindex");
    }
  }
  window.addEventListener("resize", scrollable);
  scrollable();

  // What is folded is printed, too.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const one of folded) one.open = true;
  });
  window.addEventListener("afterprint", () => { for (const one of folded) one.open = false; });

  for (const figure of document.querySelectorAll(".chart")) {
    try {
      await draw(figure);
    } catch (error) { // the others are drawn all the same
      figure.querySelector(".plot").textContent = `cannot be drawn: ${error.message}`;
    }
  }
  document.documentElement.dataset.drawn = "all";
})();
