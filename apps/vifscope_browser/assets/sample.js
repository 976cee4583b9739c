// What the pages do by themselves: a step through the layers asks the server nothing.
(() => {
  const { maps } = window.vifscope;
  const LAYER_MS = 450; // of each layer when they play
  const ADDRESS_MS = 250; // browsers refuse more than a few addresses a second
  const view = { packed: null, panels: [], layer: 0, last: 0, looks: null };
  let playing = null, addressed = null;
  const at = (id) => document.getElementById(id);
  const set = (id, value) => window.dash_clientside.set_props(id, value);

  // Of what is shown, or of another sample in the same layer.
  const address = (but = {}) => {
    const shown = Object.entries({ ...view.packed.asked, layer: view.layer, ...but }).filter(([, value]) => value !== null);
    return `/sample?${new URLSearchParams(shown)}`;
  };

  const draw = () => {
    const { packed, layer, looks } = view;
    maps.draw(view.panels, packed, layer, looks);
    at("spine").style.setProperty("--layer", layer);
    at("said").textContent = [...packed.runs.map((run) => {
      const lit = (run.spotlights || {})[layer];
      const name = run.note ? `${run.name} (${run.note})` : run.name;
      return window.vifscope.spine.said({ ...run, name }, packed.metrics, layer) + (lit ? `, spotlights made from layer ${lit.mid}` : "");
    }), ...(packed.said ? [packed.said] : [])].join("  ·  ");
    at("panels").dataset.layer = layer; // as the slider's callback sets it again
    clearTimeout(addressed);
    addressed = setTimeout(() => {
      if (at("panels") && view.packed === packed) window.history.replaceState(window.history.state, "", address());
    }, ADDRESS_MS);
    ["previous", "next"].forEach((id) => set(id, { href: address({ sample: new URL(at(id).href).searchParams.get("sample"), token: null }) }));
  };

  // Draws a layer at once; the slider follows.
  const go = (layer) => {
    const asked = Math.min(Math.max(layer, 0), view.last);
    if (!at("panels") || asked === view.layer) return;
    view.layer = asked;
    draw();
    set("layer", { value: asked });
  };

  const stop = () => { clearInterval(playing); playing = null; };
  const save = async (panel, place, format) => {
    const { sample } = view.packed.asked, title = `${sample}, layer ${view.layer}: ${panel.name}`;
    let file = new Blob([maps.saved(panel, title)], { type: "image/svg+xml" });
    if (format === "png") {
      const picture = new Image();
      picture.src = URL.createObjectURL(file);
      await picture.decode();
      const canvas = maps.element("canvas", { width: picture.width, height: picture.height });
      canvas.getContext("2d").drawImage(picture, 0, 0);
      URL.revokeObjectURL(picture.src);
      file = await new Promise((done) => { canvas.toBlob(done); });
    }
    const link = maps.element("a", { href: URL.createObjectURL(file), download: `${sample}-layer-${view.layer}-${place}.${format}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  };

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    sample: {
      draw: (layer, packed, opacity, colours, scale, smooth, lights) => {
        const looks = { opacity, colours, scale, smooth: smooth.length > 0, lights };
        const fresh = packed !== view.packed || !at("panels").childElementCount;
        if (!fresh && layer === view.layer && JSON.stringify(looks) === JSON.stringify(view.looks)) return layer;
        const recoloured = fresh || colours !== view.looks.colours;
        if (playing !== null && packed.asked.sample !== view.packed.asked.sample) stop(); // as its button is new
        Object.assign(view, { packed, layer, looks });
        if (fresh) {
          view.panels = maps.build(at("panels"), packed);
          view.last = Math.max(...packed.runs.map((run) => run.curves.layer.length)) - 1;
        }
        if (recoloured) window.vifscope.spine.build(at("spine"), packed, packed.colours[colours], go, true);
        draw();
        return layer;
      },
      play: () => {
        if (playing !== null) { stop(); return ["▶", "false"]; }
        playing = setInterval(() => (at("play") ? go(view.layer >= view.last ? 0 : view.layer + 1) : stop()), LAYER_MS);
        return ["❚❚", "true"];
      },
      save: () => {
        const format = window.dash_clientside.callback_context.triggered[0].prop_id.split(".")[0];
        view.panels.forEach((panel, place) => { if (panel.values) save(panel, place, format); });
      },
      link: async () => {
        try {
          await navigator.clipboard.writeText(window.location.origin + address());
          return "Copied";
        } catch {
          return "Copy it from the address bar";
        }
      },
    },
    samples: { // the address follows what is asked for, so that the way back leads there
      address: (search, kind, size, verdict, sort, down, page, layer) => {
        const asked = { search, kind, size, verdict, sort, down: down.join(), page, layer };
        const shown = Object.entries(asked).filter(([name, value]) => value && !(name === "sort" && value === "sample_id"));
        if (window.location.pathname === "/samples") window.history.replaceState(window.history.state, "", `/samples?${new URLSearchParams(shown)}`);
      },
    },
    overview: {
      draw: (packed) => {
        const follow = (layer) => set("address", { href: `/samples?layer=${layer}` });
        return window.vifscope.spine.build(at("overview-spine"), packed, Object.values(packed.colours)[0], follow, false);
      },
    },
  });
  window.vifscope.step = (by) => { go(view.layer + by); return at("panels"); };
})();
