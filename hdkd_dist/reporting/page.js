"use strict";

// Colours follow the page's, which follow the reader's light or dark mode.
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const NARROW = 600; // pixels, below which a legend at the side would leave no room for its chart

function themed(figure, width) {
  const axis = { gridcolor: color("--line"), linecolor: color("--line"), tickcolor: color("--line") };
  const layout = {
    ...figure.layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: color("--ink") },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: color("--muted"), activecolor: color("--ink") },
    hoverlabel: {
      ...figure.layout.hoverlabel,
      bgcolor: color("--card"), bordercolor: color("--line"), font: { color: color("--ink") },
    },
  };
  if (width < NARROW) {
    layout.legend = { ...layout.legend, orientation: "h", x: 0, y: -0.32, yanchor: "top" };
  }
  for (const name of Object.keys(layout)) {
    if (/^[xy]axis/.test(name)) layout[name] = { ...layout[name], ...axis };
  }
  const scales = {
    sequential: [[0, color("--card")], [1, color("--most")]],
    diverging: [[0, "#3b7dd8"], [0.5, color("--card")], [1, "#d8523b"]],
  };
  const data = figure.data.map((trace) =>
    trace.meta in scales ? { ...trace, colorscale: scales[trace.meta] } : trace);
  return { data, layout };
}

function draw(place) {
  const figure = themed(place.figure, place.clientWidth);
  return Plotly.react(place, figure.data, figure.layout, {
    responsive: true, displaylogo: false,
    displayModeBar: place.clientWidth < NARROW ? false : "hover",  // it would cover a title
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  });
}

// A chart is drawn when it comes into view: a page of fifty runs opens at once.
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    const data = target.querySelector("script");
    target.figure = JSON.parse(data.textContent);
    data.remove();
    draw(target);
  }
}, { rootMargin: "400px" });

const charts = [...document.querySelectorAll(".chart")];
charts.forEach((place) => seen.observe(place));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
  charts.filter((place) => place.figure).forEach(draw));

// A link to a folded run unfolds it.
function unfold() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") target.open = true;
}
addEventListener("hashchange", unfold);
unfold();

function sort(table, column, ascending) {
  const text = (row) => row.cells[column].dataset.order ?? row.cells[column].innerText;
  const number = (row) => {
    const value = parseFloat(text(row).replaceAll(",", ""));
    return Number.isNaN(value) ? -Infinity : value;
  };
  const compare = table.tHead.rows[0].cells[column].classList.contains("number")
    ? (a, b) => (number(a) > number(b)) - (number(a) < number(b))
    : (a, b) => text(a).localeCompare(text(b), undefined, { numeric: true });
  const rows = [...table.tBodies[0].rows].sort((a, b) => (ascending ? compare(a, b) : compare(b, a)));
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column, all) => {
    head.addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      all.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sort(table, column, ascending);
    });
  });
}
