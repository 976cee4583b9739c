// Light or dark, the help, and the keys.
(() => {
  const themed = (theme) => { document.documentElement.dataset.theme = theme; };
  const remembered = window.localStorage.getItem("theme");
  if (remembered) themed(remembered);
  const press = (id) => { const found = document.getElementById(id); if (found) found.click(); return found; };

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

  // Each returns something where there was something to do; else the key keeps its own meaning, as to scroll.
  const KEYS = {
    ArrowLeft: () => window.vifscope.step(-1), ArrowRight: () => window.vifscope.step(1), " ": () => press("play"),
    j: () => press("next"), k: () => press("previous"), o: () => press("to-overview"), s: () => press("to-samples"),
    "?": () => press("help-button"), "/": () => { const field = document.getElementById("search"); if (field) field.focus(); return field; },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input:not([type=checkbox]), textarea, [role=slider], [role=combobox]")) return;
    if (event.target.matches("button, input") && event.key === " ") return;
    if (document.getElementById("help").open) return;
    if (KEYS[event.key] && KEYS[event.key]()) event.preventDefault();
  });
})();
