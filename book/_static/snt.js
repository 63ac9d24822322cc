/* What the style sheet cannot do. Without scripts the pages lose nothing but these comforts. */

/* The theme names some of its buttons otherwise than they read, and leaves the sidebar nameless. */
function nameTheTheme() {
  document.querySelectorAll(".search-button-field").forEach(button => button.removeAttribute("aria-label"));
  document.querySelectorAll(".theme-switch").forEach(icon => {
    icon.removeAttribute("title");
    icon.setAttribute("aria-hidden", "true");
  });
  const sidebar = document.querySelector("#pst-primary-sidebar");
  sidebar?.setAttribute("role", "region");
  sidebar?.setAttribute("aria-label", "Book");
}

document.addEventListener("DOMContentLoaded", nameTheTheme);
