// The layer axis: a filmstrip of each run's maps above its metrics, on the same horizontal positions.
(() => {
  const { element, layersOf, most, paint, short } = window.vifscope.maps;

  // Each map over its own maximum, one beside the other, a clear column after each; `depth` places, of which a run of
  // fewer layers leaves the last ones clear.
  const strip = (run, depth, stops) => {
    const [, rows, cols] = run.shape, values = new Float32Array(depth * (cols + 1) * rows).fill(NaN);
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

  // The places of values between those that are null, neighbours together.
  const stretches = (values) => values.reduce((found, value, i) => {
    if (value !== null) (i && values[i - 1] !== null ? found[found.length - 1] : found[found.push([]) - 1]).push(i);
    return found;
  }, []);

  // One metric of all runs: 0 at the bottom, a unit of width a layer.
  const curves = (runs, metric, depth, marks) => {
    const end = marks[marks.length - 1], y = (value) => 1 - value / end;
    const line = (values, layers, drawn) => layers.map((layer, i) => (values[i] === null ? "" : drawn(layer + 0.5, y(values[i]), i && values[i - 1] !== null))).join(" ");
    const stroke = { fill: "none", "vector-effect": "non-scaling-stroke", "stroke-linecap": "round" };
    const rules = marks.map((mark) => element("svg:path", { ...stroke, class: "rule", d: `M 0 ${y(mark)} h ${depth}` }));
    const drawn = runs.flatMap(({ name, colour, curves: { layer, [metric]: values, [`${metric}_low`]: low, [`${metric}_high`]: high } }) => {
      const edge = (bound) => (i) => `${layer[i] + 0.5},${y(bound[i])}`;
      const bands = low ? stretches(low).map((known) => (known.length > 1
        ? element("svg:polygon", { fill: colour, opacity: 0.25, points: [...known.map(edge(high)), ...known.toReversed().map(edge(low))].join(" ") })
        : element("svg:path", { ...stroke, stroke: colour, opacity: 0.25, "stroke-width": 9, "stroke-linecap": "butt", d: `M ${edge(high)(known[0])} L ${edge(low)(known[0])}` }))) : [];
      const curve = element("svg:path", { ...stroke, stroke: colour, "stroke-width": 2, d: line(values, layer, (x, at, on) => `${on ? "L" : "M"} ${x} ${at}`) });
      Object.assign(curve, { values, run: name, metric });
      const points = element("svg:path", { ...stroke, stroke: colour, "stroke-width": 5, d: line(values, layer, (x, at) => `M ${x} ${at} h 0`) });
      return [...bands, curve, points];
    });
    return element("svg:svg", { viewBox: `0 0 ${depth} 1`, preserveAspectRatio: "none" }, ...rules, ...drawn);
  };

  // Fills `place` and returns the depth; chosen(layer) is called for a layer that is clicked and, where the pointer
  // `scrubs`, for each that it is drawn over.
  const build = (place, packed, stops, chosen, scrubs) => {
    const depth = Math.max(...packed.runs.map((run) => run.curves.layer.length));
    const row = (label, what, ...ticks) => element("div", { class: "row" }, element("div", { class: "label" }, label, ...ticks), what);
    const strips = packed.runs.filter((run) => run.maps).map((run) => {
      const name = element("b", { style: `color: ${run.colour}`, title: run.name }, run.name);
      return row(name, strip(run, depth, stops));
    });
    const valuesOf = (metric) => packed.runs.flatMap((run) => [...run.curves[metric], ...(run.curves[`${metric}_high`] || [])]);
    const measured = Object.entries(packed.metrics).filter(([metric]) => valuesOf(metric).some((value) => value !== null));
    const metrics = measured.map(([metric, label]) => {
      const known = valuesOf(metric);
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
    let pressed = null; // where: a finger that moves up or down scrolls the page
    area.addEventListener("pointerdown", (event) => {
      pressed = event.button === 0 ? event : null;
      if (!scrubs || !pressed || event.pointerType === "touch") return;
      area.setPointerCapture(event.pointerId);
      chosen(layerAt(event));
    });
    area.addEventListener("click", (event) => chosen(layerAt(event)));
    ["pointerup", "pointercancel"].forEach((end) => area.addEventListener(end, () => { pressed = null; }));
    area.addEventListener("pointermove", (event) => {
      const layer = layerAt(event), touches = event.pointerType === "touch";
      if (scrubs && pressed && !(touches && Math.abs(event.clientX - pressed.clientX) < 12)) chosen(layer);
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
