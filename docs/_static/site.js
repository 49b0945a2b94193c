// The name of the search button is its text, "Search Ctrl + K"; on a phone, where it has none, a label.
const nameButtons = () => {
  for (const button of document.querySelectorAll(".search-button-field")) {
    if (button.innerText.trim()) button.removeAttribute("aria-label");
    else button.setAttribute("aria-label", "Search");
  }
};
document.addEventListener("DOMContentLoaded", nameButtons);
window.addEventListener("resize", nameButtons);
