// Draws the charts. It is bundled with Vega and tables.js.

for (const place of document.querySelectorAll("[data-chart]")) {
  vegaEmbed(place, JSON.parse(place.dataset.chart), { actions: false, renderer: "svg" });
}

// All of the page is printed.
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
