// What scrolls sideways can be reached, and scrolled, with the keyboard.
function focusable() {
  const regions = ".md-typeset__scrollwrap, .md-typeset__table, .md-typeset p:has(> img:only-child)";
  for (const region of document.querySelectorAll(regions)) {
    if (region.scrollWidth > region.clientWidth) {
      region.tabIndex = 0;
      region.setAttribute("role", "region");
      region.setAttribute("aria-label", "Scrolls sideways");
    }
  }
}
window.addEventListener("load", focusable);
window.addEventListener("resize", focusable);

// A page within a page says how tall it is.
window.addEventListener("message", ({ data, source }) => {
  for (const frame of document.querySelectorAll("iframe.tall")) {
    if (frame.contentWindow === source && data.height > 0) frame.style.height = `${data.height}px`;
  }
});
