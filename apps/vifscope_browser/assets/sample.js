// What the page does by itself: a step through the layers asks the server nothing.
(() => {
  const top = (values) => values.flat(2).reduce((most, value) => Math.max(most, value), 0);
  const sum = (map) => map.flat().reduce((all, value) => all + value, 0) || 1;

  const ranks = (map) => {
    const cols = map[0].length;
    const order = map.flat().map((value, place) => [value, place]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    const found = map.map((row) => row.slice());
    order.forEach(([, place], rank) => { found[Math.floor(place / cols)][place % cols] = rank + 1; });
    return found;
  };

  const overlay = (run, layer, opacity, colours, smooth, zmax) => {
    const map = run.maps[Math.min(layer, run.maps.length - 1)];
    return { z: [map], customdata: [ranks(map)], opacity, colorscale: [colours], zmin: 0, zmax: zmax || 1, zsmooth: smooth };
  };

  const difference = (base, other, layer, opacity, colours, smooth) => {
    const [a, b] = [base, other].map((run) => run.maps[Math.min(layer, run.maps.length - 1)]);
    if (a.length !== b.length || a[0].length !== b[0].length) return { visible: false };
    const [all, whole] = [sum(a), sum(b)];
    const z = b.map((row, i) => row.map((value, j) => value / whole - a[i][j] / all));
    const most = z.flat().reduce((m, value) => Math.max(m, Math.abs(value)), 1e-9);
    return { z: [z], opacity, colorscale: [colours], zmin: -most, zmax: most, zsmooth: smooth,
      hovertemplate: "share of the visual flow %{z:+.4f}<extra></extra>" };
  };

  // VIF's spotlights at this layer: circles of one spread, the prior's whole, the posterior's dashed; a point at each
  // centre tells its weight.
  const BRANCHES = { prior: ["#00e5ff", "solid"], posterior: ["#ff4fd8", "dash"] };
  const spotlights = (run, layer, lights) => {
    const found = (run.spotlights || {})[layer] || {};
    const shown = Object.keys(BRANCHES).filter((branch) => found[branch] && (lights === branch || lights === "both"))
      .flatMap((branch) => found[branch].map(([x, y, radius, weight]) => ({ branch, x, y, radius, weight })));
    return {
      points: {
        x: [shown.map((light) => light.x)], y: [shown.map((light) => light.y)],
        "marker.color": [shown.map((light) => BRANCHES[light.branch][0])],
        text: [shown.map((light) => `${light.branch}, weight ${light.weight.toPrecision(2)}<br>spread ${light.radius.toPrecision(2)} px`)],
      },
      circles: shown.map(({ branch, x, y, radius, weight }) => ({
        type: "circle", x0: x - radius, x1: x + radius, y0: y - radius, y1: y + radius, opacity: Math.min(1, 0.35 + weight),
        line: { color: BRANCHES[branch][0], dash: BRANCHES[branch][1], width: 1 + 2 * weight },
      })),
    };
  };

  // Changes a plot in place, once Plotly has drawn it: much quicker than a new figure.
  const restyle = (plot, change, lit) => {
    if (!(plot && plot.data && plot.data.length)) return false;
    window.Plotly.restyle(plot, change, [0]);
    if (lit.circles.length || plot.lit) {
      plot.boxes = plot.boxes || plot.layout.shapes || [];
      plot.lit = lit.circles.length;
      window.Plotly.update(plot, lit.points, { shapes: [...plot.boxes, ...lit.circles] }, [1]);
    }
    return true;
  };

  const shown = (value) => (value === null || Number.isNaN(value) ? "–" : value.toPrecision(3));
  let now = 0; // the layer that is shown
  let drawing = 0; // how often maps were drawn
  const press = (id) => { const found = document.getElementById(id); if (found) found.click(); };

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    sample: {
      draw: (layer, packed, opacity, colours, scale, smooth, lights) => {
        const at = (run) => run.maps[Math.min(layer, run.maps.length - 1)];
        const soft = smooth.length ? "best" : false;
        const together = Math.max(...packed.runs.map((run) => top([at(run)])));
        const most = (run) => (scale === "all" ? top(run.maps) : scale === "both" ? together : top([at(run)]));
        const change = (place) => (place < packed.runs.length
          ? overlay(packed.runs[place], layer, opacity, packed.colourscales[colours], soft, most(packed.runs[place]))
          : difference(packed.runs[0], packed.runs[1], layer, opacity, packed.colourscales.RdBu_r, soft));
        drawing += 1;
        const mine = drawing; // a later call takes the place of one that still waits for its plots
        const tryAll = () => {
          const plots = [...document.querySelectorAll("#panels .js-plotly-plot")];
          const frames = document.querySelectorAll("#panels .map").length;
          if (mine !== drawing) return;
          const done = plots.length === frames
            && plots.every((plot, place) => restyle(plot, change(place), spotlights(packed.runs[place] || {}, layer, lights)));
          if (done) document.getElementById("panels").dataset.layer = layer;
          else setTimeout(tryAll, 15);
        };
        tryAll();
        return "";
      },
      mark: (layer, packed, row, head, grid) => {
        now = layer;
        document.getElementById("here").style.setProperty("--layer", layer);
        const asked = new URLSearchParams({ sample: packed.sample, layer });
        if (row !== null && row !== undefined) asked.set("token", row);
        if (head && head !== "mean") asked.set("head", head);
        if (grid && grid !== "0") asked.set("grid", grid);
        window.history.replaceState(window.history.state, "", `/sample?${asked}`);
        return packed.runs.map((run) => {
          const place = run.curves.layer.indexOf(layer);
          const value = (name) => shown(place < 0 ? null : run.curves[name][place]);
          const name = run.note ? `${run.name} (${run.note})` : run.name;
          const from = (run.spotlights[layer] || {}).mid;
          const lit = from === undefined ? "" : `, spotlights made from layer ${from}`;
          return `${name}, layer ${layer}: ratio ${value("visual_ratio")}, entropy ${value("visual_entropy")}, lift ${value("box_lift")}${lit}`;
        }).join("  ·  ");
      },
      play: (clicks, still) => [!still, still ? "❚❚" : "▶"],
      step: (ticks, layer, last) => (layer >= last ? 0 : layer + 1),
      scrub: (clicked, last) => Math.min(Math.max(Math.round(clicked.points[0].x), 0), last),
      save: (png, svg, sample, layer) => {
        const format = window.dash_clientside.callback_context.triggered[0].prop_id.split(".")[0];
        document.querySelectorAll("#panels .js-plotly-plot").forEach((plot, place) => window.Plotly.downloadImage(plot,
          { format, filename: `${sample}-layer-${layer}-${place}`, width: 720, height: 720, scale: 2 }));
        return "";
      },
      link: (clicks) => {
        const field = navigator.clipboard ? navigator.clipboard.writeText(window.location.href) : null;
        return field ? "Copied" : "Copy it from the address bar";
      },
    },
  });

  const themed = (theme) => { document.documentElement.dataset.theme = theme; };
  const remembered = window.localStorage.getItem("theme");
  if (remembered) themed(remembered);

  document.addEventListener("click", (event) => {
    if (event.target.id === "theme") {
      const dark = document.documentElement.dataset.theme
        ? document.documentElement.dataset.theme === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
      themed(dark ? "light" : "dark");
      window.localStorage.setItem("theme", dark ? "light" : "dark");
    }
    const help = document.getElementById("help");
    if (event.target.id === "help-button") help.showModal();
    else if (help && help.open && event.target === help) help.close();
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, textarea, [role=slider], [role=combobox]")) return;
    const slider = document.getElementById("layer");
    const go = (step) => { if (slider) window.dash_clientside.set_props("layer", { value: step }); now = step; };
    const last = document.querySelector("#spine .js-plotly-plot");
    const most = last && last.layout ? Math.round(last.layout.xaxis.range[1] - 0.6) : now;
    const keys = {
      ArrowLeft: () => go(Math.max(now - 1, 0)), ArrowRight: () => go(Math.min(now + 1, most)), " ": () => press("play"),
      j: () => press("next"), k: () => press("previous"), o: () => press("to-overview"), s: () => press("to-samples"),
      "?": () => press("help-button"), "/": () => { const field = document.getElementById("search"); if (field) field.focus(); },
    };
    if (keys[event.key] && !(event.target.matches("button") && event.key === " ")) { event.preventDefault(); keys[event.key](); }
  });
})();
