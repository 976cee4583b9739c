// Maps over their picture: a canvas of one pixel a patch, which the page enlarges, under boxes and spotlights.
window.vifscope = window.vifscope || {};
(() => {
  const BOX = "#ff5a1f";
  const BRANCHES = { prior: ["#00e5ff", ""], posterior: ["#ff4fd8", "6 4"] }; // of spotlights: colour, dashes
  const PATCH_PX = 32; // of a saved picture
  const NS = "http://www.w3.org/2000/svg";

  const element = (name, attributes = {}, ...children) => {
    const made = name.startsWith("svg:") ? document.createElementNS(NS, name.slice(4)) : document.createElement(name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    made.append(...children);
    return made;
  };

  const short = (value) => (value === null || Number.isNaN(value) ? "–" : String(Number(value.toPrecision(3))));
  const most = (values) => values.reduce((top, value) => (value > top ? value : top), 0); // NaN is never larger
  const sum = (values) => values.reduce((all, value) => all + value, 0);

  // A run's maps, [L][rows * cols], from the base64 of their float32 values.
  const layersOf = (run) => {
    const bytes = Uint8Array.from(atob(run.maps), (each) => each.charCodeAt(0));
    const values = new Float32Array(bytes.buffer), [depth, rows, cols] = run.shape;
    return Array.from({ length: depth }, (_, layer) => values.subarray(layer * rows * cols, (layer + 1) * rows * cols));
  };

  // The colour of a share in [0, 1], between the stops of a scale; clear where the share is NaN.
  const colourOf = (stops, share) => {
    if (Number.isNaN(share)) return [0, 0, 0, 0];
    const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1), low = Math.floor(at), high = Math.ceil(at);
    return [0, 1, 2].map((i) => stops[low][i] + (stops[high][i] - stops[low][i]) * (at - low)).concat(255);
  };
  const gradient = (stops) => stops.map((stop) => `rgb(${stop.join(" ")})`);

  // Draws values, row by row, `cols` in each, on a canvas of one pixel each, in the colours from `low` to `high`.
  const paint = (canvas, values, cols, low, high, stops) => {
    [canvas.width, canvas.height] = [cols, values.length / cols];
    const drawing = canvas.getContext("2d"), image = drawing.createImageData(canvas.width, canvas.height);
    values.forEach((value, i) => image.data.set(colourOf(stops, (value - low) / (high - low)), 4 * i));
    drawing.putImageData(image, 0, 0);
  };

  const difference = (base, other) => {
    const [all, whole] = [sum(base) || 1, sum(other) || 1];
    return Float64Array.from(other, (value, i) => value / whole - base[i] / all);
  };

  // The panels of a sample: one for each run that has maps, and of two runs their difference.
  const build = (place, packed) => {
    const runs = packed.runs.filter((run) => run.maps);
    const panels = runs.map((run) => ({ run, name: run.name, layers: layersOf(run) }));
    panels.forEach((panel) => { panel.overall = Math.max(...panel.layers.map(most)); });
    if (runs.length === 2) {
      const lies = ({ run }) => String([run.shape.slice(1), run.rect_px, run.size_px]);
      const [base, other] = panels, same = lies(base) === lies(other);
      panels.push({ run: base.run, name: `${other.name} less ${base.name}`, between: same ? [base.layers, other.layers] : null });
    }
    place.replaceChildren(...panels.map((panel) => {
      const { run } = panel, [wide, high] = run.size_px, [x0, y0, x1, y1] = run.rect_px;
      panel.canvas = element("canvas", { role: "img" });
      Object.assign(panel.canvas.style, { left: `${100 * x0 / wide}%`, top: `${100 * y0 / high}%`,
        width: `${100 * (x1 - x0) / wide}%`, height: `${100 * (y1 - y0) / high}%` });
      panel.marks = element("svg:svg", { viewBox: `0 0 ${wide} ${high}`, "aria-hidden": "true" });
      panel.boxes = run.boxes.map((box) => element("svg:rect", { x: box[0], y: box[1], width: box[2] - box[0],
        height: box[3] - box[1], fill: "none", stroke: BOX, "stroke-width": 2, "vector-effect": "non-scaling-stroke" }));
      panel.tip = element("div", { class: "tip", hidden: "" });
      panel.picture = element("img", { src: run.picture, alt: `Picture of sample ${packed.asked.sample}` });
      const shown = element("div", { class: "shown" }, panel.picture, panel.canvas, panel.marks);
      panel.stage = element("div", { class: "stage" }, shown, panel.tip);
      const ruler = element("div", { class: "ruler" }, element("i", { style: `width: ${100 * run.bar_px / wide}%` }), run.scale);
      panel.stage.addEventListener("pointermove", (event) => hover(panel, event));
      panel.stage.addEventListener("pointerleave", () => { panel.tip.hidden = true; });
      panel.stage.addEventListener("click", (event) => {
        const patch = patchAt(panel, event);
        if (patch && panel.layers) window.dash_clientside.set_props("patch-asked", { data: { run: packed.runs.indexOf(run), row: patch[0], col: patch[1] } });
      });
      panel.ends = [element("span"), element("i"), element("span")];
      const dot = panel.layers ? [element("i", { class: "dot", style: `background: ${run.colour}` })] : [];
      const bar = element("div", { class: "bar", "aria-hidden": "true" }, ...panel.ends);
      const made = element("figure", {}, element("figcaption", { title: panel.name }, ...dot, panel.name), panel.stage, ruler, bar);
      made.style.setProperty("--wide", wide);
      made.style.setProperty("--high", high);
      made.panel = panel;
      return made;
    }));
    return panels;
  };

  // VIF's spotlights at a layer: ellipses of one spread, the prior's whole, the posterior's dashed, and their centres.
  const lights = (run, layer, branches) => {
    const found = run.spotlights[layer] || {};
    return Object.keys(BRANCHES).filter((branch) => found[branch] && (branches === branch || branches === "both"))
      .flatMap((branch) => found[branch].flatMap(([x, y, rx, ry, weight]) => {
        const [colour, dashes] = BRANCHES[branch];
        const said = `${branch}, weight ${short(weight)}, spread ${short(rx)} × ${short(ry)} px`;
        const ellipse = element("svg:ellipse", { cx: x, cy: y, rx, ry, fill: "none", stroke: colour, "stroke-dasharray": dashes,
          "stroke-width": 1.5 + 2 * weight, opacity: Math.min(1, 0.5 + weight), "vector-effect": "non-scaling-stroke" });
        const point = (width, ink) => element("svg:path", { d: `M ${x} ${y} h 0`, stroke: ink, "stroke-width": width,
          "stroke-linecap": "round", "vector-effect": "non-scaling-stroke", "data-said": said });
        return [ellipse, point(9, "#111"), point(6, colour)];
      }));
  };

  // Draws one layer into the panels. looks: { opacity, colours, scale, smooth, lights }.
  const draw = (panels, packed, layer, looks) => {
    const at = (layers) => (layer < layers.length && !Number.isNaN(layers[layer][0]) ? layers[layer] : null);
    const together = Math.max(...panels.filter((panel) => panel.layers).map((panel) => most(at(panel.layers) || [])));
    panels.forEach((panel) => {
      const { canvas, run } = panel, single = Boolean(panel.layers);
      const both = single || !panel.between ? [] : panel.between.map(at);
      const values = single ? at(panel.layers) : both.length && both.every(Boolean) ? difference(...both) : null;
      canvas.hidden = !values;
      panel.values = values;
      panel.marks.replaceChildren(...panel.boxes, ...(single ? lights(run, layer, looks.lights) : []));
      if (!values) {
        const why = single || panel.between ? `Undefined in layer ${layer}.` : "The runs' maps lie differently: no difference.";
        panel.ends.forEach((end, i) => { end.textContent = i ? "" : why; end.style.background = "none"; });
        return;
      }
      const stops = packed.colours[single ? looks.colours : "RdBu_r"];
      const top = single ? { layer: most(values), all: panel.overall, both: together }[looks.scale] || 1
        : Math.max(most(values.map(Math.abs)), 0.01 / values.length); // equal maps differ by rounding: a hundredth of an even share
      const low = single ? 0 : -top;
      paint(canvas, values, run.shape[2], low, top, stops);
      Object.assign(canvas.style, { opacity: looks.opacity, imageRendering: looks.smooth ? "auto" : "pixelated" });
      Object.assign(panel, { low, top, stops, looks });
      panel.ends[0].textContent = short(low);
      panel.ends[1].style.background = `linear-gradient(to right, ${gradient(stops)})`;
      panel.ends[2].textContent = short(top);
      const sizes = values.map(Math.abs), peak = sizes.indexOf(most(sizes)), cols = run.shape[2];
      const place = peak < 0 ? "none" : `${short(values[peak])} in row ${Math.floor(peak / cols)}, column ${peak % cols}`;
      canvas.setAttribute("aria-label", `${panel.name}, layer ${layer}: largest ${place}`);
    });
  };

  const patchAt = ({ canvas, run }, event) => {
    const box = canvas.getBoundingClientRect(), [, rows, cols] = run.shape;
    const row = Math.floor((event.clientY - box.y) / box.height * rows), col = Math.floor((event.clientX - box.x) / box.width * cols);
    return row >= 0 && row < rows && col >= 0 && col < cols ? [row, col] : null;
  };

  // The place of a patch's weight among all: 1 is the largest; of equal ones the first in reading order.
  const rank = (values, i) => values.reduce((place, value, j) => place + (value > values[i] || (value === values[i] && j < i)), 1);

  const hover = (panel, event) => {
    const { tip, values, run, stage } = panel, patch = patchAt(panel, event);
    tip.hidden = !(patch && values);
    if (tip.hidden) return;
    const i = patch[0] * run.shape[2] + patch[1];
    const said = panel.layers ? [`weight ${values[i].toPrecision(4)}`, `rank ${rank(values, i)} of ${values.length}`]
      : [`share of the visual flow ${values[i] > 0 ? "+" : ""}${values[i].toPrecision(3)}`];
    const light = event.target.dataset.said;
    tip.textContent = [...(light ? [light] : []), ...said, `row ${patch[0]}, column ${patch[1]}`].join("\n");
    const box = stage.getBoundingClientRect(), x = event.clientX - box.x, y = event.clientY - box.y;
    tip.style.transform = `translate(${x > box.width / 2 ? `calc(${x - 12}px - 100%)` : `${x + 12}px`}, ${y > box.height / 2 ? `calc(${y - 8}px - 100%)` : `${y + 8}px`})`;
  };

  // A panel as it stands, as SVG text that needs nothing else: picture, map, marks, colour bar, and what it is.
  const saved = (panel, title) => {
    const { run, canvas, stops, looks } = panel, [wide, high] = run.size_px, [x0, y0, x1, y1] = run.rect_px;
    const unit = Math.max(wide, high) / 40;
    const image = (source, across, down, smooth, x, y, width, height, opacity) => {
      const copy = element("canvas", { width: across, height: down }), drawing = copy.getContext("2d");
      drawing.imageSmoothingEnabled = smooth;
      drawing.drawImage(source, 0, 0, across, down);
      return element("svg:image", { x, y, width, height, opacity, href: copy.toDataURL(), preserveAspectRatio: "none" });
    };
    const text = (x, y, anchor, said) => element("svg:text", { x, y, "font-size": unit, "font-family": "sans-serif", "text-anchor": anchor }, said);
    const ends = stops.map((stop, i) => element("svg:stop", { offset: i / (stops.length - 1), "stop-color": gradient([stop])[0] }));
    const made = element("svg:svg", { xmlns: NS, viewBox: `0 ${-2 * unit} ${wide} ${high + 6 * unit}`, width: 900, height: Math.round(900 * (high + 6 * unit) / wide) },
      element("svg:defs", {}, element("svg:linearGradient", { id: "scale" }, ...ends),
        element("svg:clipPath", { id: "edge" }, element("svg:rect", { width: wide, height: high }))),
      element("svg:rect", { y: -2 * unit, width: wide, height: high + 6 * unit, fill: "#fff" }),
      text(0, -unit / 2, "start", title),
      image(panel.picture, panel.picture.naturalWidth, panel.picture.naturalHeight, true, 0, 0, wide, high, 1),
      element("svg:g", { "clip-path": "url(#edge)" },
        image(canvas, canvas.width * PATCH_PX, canvas.height * PATCH_PX, looks.smooth, x0, y0, x1 - x0, y1 - y0, looks.opacity),
        ...[...panel.marks.children].map((mark) => mark.cloneNode())),
      element("svg:rect", { y: high + unit, width: wide, height: unit, fill: "url(#scale)" }),
      text(0, high + 3.2 * unit, "start", panel.ends[0].textContent), text(wide, high + 3.2 * unit, "end", panel.ends[2].textContent));
    return new XMLSerializer().serializeToString(made);
  };

  window.vifscope.maps = { build, draw, element, layersOf, most, paint, saved, short };
})();
