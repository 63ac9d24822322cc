/* What the style sheet cannot do. Without scripts the pages lose nothing but these comforts. */

/* The theme names some of its buttons otherwise than they read, and leaves the sidebar nameless. */
function nameTheTheme() {
  document.querySelectorAll(".search-button-field").forEach(button => button.removeAttribute("aria-label"));
  // its icons are titled Light, Dark and System Settings; Font Awesome redraws them when it likes
  document.querySelectorAll(".theme-switch-button").forEach(
    button => button.setAttribute("aria-label", "Color mode: Light, Dark or System Settings"));
  const sidebar = document.querySelector("#pst-primary-sidebar");
  sidebar?.setAttribute("role", "region");
  sidebar?.setAttribute("aria-label", "Book");
}

/* A figure opens at its natural size, or as large as the window where that is more. */
function enlarge(figure, name) {
  const dialog = document.createElement("dialog");
  dialog.className = "enlarged";
  dialog.setAttribute("aria-label", name);
  const close = document.createElement("button");
  close.textContent = "Close";
  const { width, height } = figure.getBoundingClientRect();
  const fitted = Math.min(0.94 * innerWidth, (0.86 * innerHeight * width) / height);
  const large = figure.cloneNode(true);
  large.removeAttribute("class");
  large.removeAttribute("height");
  const widen = natural => { large.style.width = `${Math.max(fitted, natural)}px`; };
  widen(figure.naturalWidth ?? 1000);
  // by itself the picture is the wide drawing, also where the page shows the narrow one
  large.decode?.().then(() => widen(large.naturalWidth));
  dialog.append(close, large);
  dialog.addEventListener("click", () => dialog.close()); // Esc does the same by itself
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

function offerToEnlarge() {
  document.querySelectorAll("article .cell_output img, article .picture svg").forEach(figure => {
    const box = figure.closest(".picture") ?? figure;
    const name = figure.alt || box.getAttribute("aria-label");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "enlarge";
    button.textContent = "Enlarge the figure";
    button.addEventListener("click", () => enlarge(figure, name));
    box.after(button);
    figure.classList.add("can-enlarge");
    figure.addEventListener("click", event => event.target.closest("a") || enlarge(figure, name));
  });
}

document.addEventListener("DOMContentLoaded", nameTheTheme);
document.addEventListener("DOMContentLoaded", offerToEnlarge);
