// The chosen colours, before the first paint. The page works as well where nothing can be stored.
(() => {
  const root = document.documentElement;
  const stored = () => {
    try {
      return localStorage.getItem("retgen-theme");
    } catch {
      return null;
    }
  };
  const wear = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  wear(stored());
  document.addEventListener("DOMContentLoaded", () => {
    const select = document.getElementById("theme");
    select.value = root.dataset.theme ?? "system";
    select.addEventListener("change", () => {
      wear(select.value);
      try {
        localStorage.setItem("retgen-theme", select.value);
      } catch {
        // Private windows may refuse; the choice then lasts as long as the page.
      }
    });
  });
})();
