// Light or dark, the help, and the keys.
(() => {
  const themed = (theme) => { document.documentElement.dataset.theme = theme; };
  const remembered = window.localStorage.getItem("theme");
  if (remembered) themed(remembered);
  const press = (id) => { const found = document.getElementById(id); if (found) found.click(); };

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

  const KEYS = {
    ArrowLeft: () => window.vifscope.step(-1), ArrowRight: () => window.vifscope.step(1), " ": () => press("play"),
    j: () => press("next"), k: () => press("previous"), o: () => press("to-overview"), s: () => press("to-samples"),
    "?": () => press("help-button"), "/": () => { const field = document.getElementById("search"); if (field) field.focus(); },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, textarea, [role=slider], [role=combobox]")) return;
    if (KEYS[event.key] && !(event.target.matches("button") && event.key === " ")) { event.preventDefault(); KEYS[event.key](); }
  });
})();
