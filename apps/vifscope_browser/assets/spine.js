// The layer axis: a filmstrip of each run's maps above its metrics, on the same horizontal positions.
(() => {
  const { element, layersOf, most, paint, short } = window.vifscope.maps;

  // Each map over its own maximum, one beside the other, a clear column after each.
  const strip = (run, stops) => {
    const [depth, rows, cols] = run.shape, values = new Float32Array(depth * (cols + 1) * rows).fill(NaN);
    layersOf(run).forEach((map, layer) => {
      const top = most(map) || 1;
      map.forEach((value, i) => { values[(Math.floor(i / cols) * depth + layer) * (cols + 1) + i % cols] = value / top; });
    });
    const canvas = element("canvas", { class: "strip" });
    paint(canvas, values, depth * (cols + 1), 0, 1, stops);
    canvas.style.left = `${50 / (depth * (cols + 1))}%`; // half of the clear column stands before each map
    canvas.style.aspectRatio = `${depth * cols} / ${rows}`;
    return canvas;
  };

  // Even steps from 0 that reach `top`: two to five of them.
  const steps = (top) => {
    const unit = 10 ** Math.floor(Math.log10(top)), step = [0.2, 0.5, 1, 2].map((each) => each * unit).find((each) => top / each <= 4) || 5 * unit;
    return Array.from({ length: Math.ceil(top / step) + 1 }, (_, i) => i * step);
  };

  // One metric of all runs: 0 at the bottom, a unit of width a layer.
  const curves = (runs, metric, depth, marks) => {
    const end = marks[marks.length - 1], y = (value) => 1 - value / end;
    const line = (values, layers, drawn) => layers.map((layer, i) => (values[i] === null ? "" : drawn(layer + 0.5, y(values[i]), i && values[i - 1] !== null))).join(" ");
    const stroke = { fill: "none", "vector-effect": "non-scaling-stroke", "stroke-linecap": "round" };
    const rules = marks.map((mark) => element("svg:path", { ...stroke, class: "rule", d: `M 0 ${y(mark)} h ${depth}` }));
    const drawn = runs.flatMap(({ name, colour, curves: { layer, [metric]: values, [`${metric}_low`]: low, [`${metric}_high`]: high } }) => {
      const known = low ? layer.map((_, i) => i).filter((i) => low[i] !== null) : [];
      const edge = (bound) => (i) => `${layer[i] + 0.5},${y(bound[i])}`;
      const band = element("svg:polygon", { fill: colour, opacity: 0.25, points: [...known.map(edge(high)), ...known.reverse().map(edge(low))].join(" ") });
      const curve = element("svg:path", { ...stroke, stroke: colour, "stroke-width": 2, d: line(values, layer, (x, at, on) => `${on ? "L" : "M"} ${x} ${at}`) });
      Object.assign(curve, { values, run: name, metric });
      const points = element("svg:path", { ...stroke, stroke: colour, "stroke-width": 5, d: line(values, layer, (x, at) => `M ${x} ${at} h 0`) });
      return [...(low ? [band] : []), curve, points];
    });
    return element("svg:svg", { viewBox: `0 0 ${depth} 1`, preserveAspectRatio: "none" }, ...rules, ...drawn);
  };

  // Fills `place` and returns the depth; chosen(layer) is called for each layer that the pointer presses or is drawn over.
  const build = (place, packed, stops, chosen) => {
    const depth = Math.max(...packed.runs.map((run) => run.curves.layer.length));
    const row = (label, what, ...ticks) => element("div", { class: "row" }, element("div", { class: "label" }, label, ...ticks), what);
    const strips = packed.runs.filter((run) => run.maps).map((run) => {
      const name = element("b", { style: `color: ${run.colour}`, title: run.name }, run.name);
      return row(name, strip(run, stops));
    });
    const metrics = Object.entries(packed.metrics).map(([metric, label]) => {
      const known = packed.runs.flatMap((run) => [...run.curves[metric], ...(run.curves[`${metric}_high`] || [])]);
      const marks = steps(most(known) || 1), end = marks[marks.length - 1];
      const ticks = marks.map((mark) => element("span", { style: `top: ${100 - 100 * mark / end}%` }, short(mark)));
      return row(element("em", {}, label), curves(packed.runs, metric, depth, marks), ...ticks);
    });
    const every = depth <= 24 ? 1 : 4;
    const numbers = Array.from({ length: Math.ceil(depth / every) }, (_, i) => element("span", { style: `left: ${100 * (i * every + 0.5) / depth}%` }, String(i * every)));
    const axis = row("layer", element("div", { class: "numbers" }, ...numbers));
    const here = element("div", { class: "here" }), tip = element("div", { class: "tip", hidden: "" });
    const area = element("div", { class: "area" }, here, tip);
    place.replaceChildren(...strips, ...metrics, axis, area);
    place.style.setProperty("--depth", depth);
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", `Maps and metrics of layers 0 to ${depth - 1}: ${packed.runs.map((run) => run.name).join(", ")}`);

    const layerAt = (event) => {
      const box = area.getBoundingClientRect();
      return Math.min(Math.max(Math.floor((event.clientX - box.x) / box.width * depth), 0), depth - 1);
    };
    area.addEventListener("pointerdown", (event) => { area.setPointerCapture(event.pointerId); chosen(layerAt(event)); });
    area.addEventListener("pointermove", (event) => {
      const layer = layerAt(event);
      if (event.buttons) chosen(layer);
      tip.hidden = false;
      tip.textContent = packed.runs.map((run) => said(run, packed.metrics, layer)).join("\n");
      tip.style.transform = `translate(${layer > depth / 2 ? `calc(${event.offsetX - 12}px - 100%)` : `${event.offsetX + 12}px`}, ${event.offsetY}px)`;
    });
    area.addEventListener("pointerleave", () => { tip.hidden = true; });
    return depth;
  };

  // A run's metrics at a layer, in words.
  const said = (run, metrics, layer) => {
    const i = run.curves.layer.indexOf(layer);
    const told = Object.entries(metrics).map(([metric, label]) => `${label} ${short(i < 0 ? null : run.curves[metric][i])}`);
    return `${run.name}, layer ${layer}: ${told.join(", ")}`;
  };

  window.vifscope.spine = { build, said };
})();
