/* The plots of "Explore the records": each .explorer holds its data, its controls and a table.
   A point leads to its record's page, whose address the table knows; without one it leads nowhere. */
"use strict";

(() => {
  const ALL = "all";
  const HEIGHT = 440;
  const AXES = {
    lambda_max: "lambda_max (log scale)",
    normalised: "lambda_max, filters normalised (log scale)",
    val_top1: "validation top-1 (%)",
    val_loss: "validation loss",
    train_loss: "training loss",
  };
  const touch = matchMedia("(hover: none)");

  /* plotly reads a little HTML in labels */
  const plain = text => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;");
  const short = value => Number(value.toPrecision(4)).toString();
  const told = row => [row.record, `${row.net}, ${row.approach}, seed ${row.seed}`, row.training];

  function objects({columns, rows}) {
    return rows.map(row => Object.fromEntries(columns.map((name, i) => [name, row[i]])));
  }

  function values(rows, name) {
    const found = [...new Set(rows.map(row => String(row[name])))];
    return found.sort((a, b) => a.localeCompare(b, "en", {numeric: true}));
  }

  /* a filter lists what there is; with one value there is nothing to choose */
  function fill(select, rows) {
    const found = values(rows, select.dataset.filter);
    for (const value of [ALL, ...found]) select.add(new Option(value, value));
    select.value = found.includes("W4") ? "W4" : ALL;
    select.parentElement.hidden = found.length < 2;
  }

  function look(mark = {colour: "#808080", symbol: "x"}) {
    return {color: mark.colour, symbol: mark.symbol, size: 9, opacity: 0.85};
  }

  /* one trace for each approach */
  function points(rows, marks, {x}) {
    return values(rows, "approach").map(approach => {
      const own = rows.filter(row => row.approach === approach);
      return {
        type: "scatter", mode: "markers", name: plain(approach), marker: look(marks[approach]),
        x: own.map(row => row[x]), y: own.map(row => row.lost),
        customdata: own.map(row => row.record), hoverinfo: "text",
        text: own.map(row => [...told(row), `${row.compression}, ${row.when}`,
          `${AXES[x].replace(" (log scale)", "")} ${short(row[x])}, lost ${short(row.lost)} points`]
          .map(plain).join("<br>")),
      };
    });
  }

  /* one trace for each training */
  function curves(rows, marks, {y}) {
    const seen = new Set();
    return rows.map(row => {
      const first = !seen.has(row.approach);
      seen.add(row.approach);
      return {
        type: "scatter", mode: "lines+markers", name: plain(row.approach), legendgroup: row.approach,
        showlegend: first, x: row.epoch, y: row[y],
        marker: {...look(marks[row.approach]), size: 4}, line: {width: 1.5},
        customdata: row.epoch.map(() => row.record), hoverinfo: "text",
        text: row[y].map((value, i) => [...told(row), `epoch ${short(row.epoch[i])}: ` +
          `${AXES[y]} ${value === null ? "-" : short(value)}`].map(plain).join("<br>")),
      };
    });
  }

  const VIEWS = {
    points: {
      keep: (row, chosen) => row.when === chosen.when && row[chosen.x] !== null,
      traces: points, noun: "points",
      axes: chosen => [{type: "log", dtick: "D2", title: {text: AXES[chosen.x]}}, {title: {text: "top-1 lost (points)"}}],
    },
    curves: {
      keep: () => true, traces: curves, noun: "trainings",
      axes: chosen => [{title: {text: "epoch"}}, {title: {text: AXES[chosen.y]}}],
    },
  };

  /* the page's own colours, so that light and dark follow it */
  function layout([xaxis, yaxis]) {
    const style = getComputedStyle(document.documentElement);
    const colour = name => style.getPropertyValue(`--pst-color-${name}`).trim();
    const axis = {gridcolor: colour("border"), linecolor: colour("border"), zerolinecolor: colour("text-muted"), automargin: true};
    return {
      height: HEIGHT, autosize: true, hovermode: "closest", dragmode: touch.matches ? false : "zoom",
      margin: {l: 55, r: 10, t: 10, b: 50}, legend: {orientation: "h", y: -0.26},
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: {color: colour("text-base"), family: style.fontFamily || "sans-serif", size: 13},
      hoverlabel: {align: "left", bgcolor: colour("surface"), bordercolor: colour("border"), font: {color: colour("text-base")}},
      xaxis: {...axis, ...xaxis}, yaxis: {...axis, ...yaxis},
    };
  }

  function start(root) {
    const part = name => root.querySelector(`.explorer-${name}`);
    const data = JSON.parse(root.querySelector("script").textContent);
    const rows = objects(data);
    const view = VIEWS[root.dataset.view];
    const selects = [...root.querySelectorAll("select")];
    const pages = new Map([...root.querySelectorAll("table a")].map(a => [a.textContent, a.href]));
    const [plot, status] = [part("plot"), part("status")];

    function draw() {
      const chosen = Object.fromEntries(selects.map(select => [select.name, select.value]));
      const filters = selects.filter(select => select.dataset.filter).map(select => select.name);
      const kept = rows.filter(row => view.keep(row, chosen) &&
        filters.every(name => chosen[name] === ALL || String(row[name]) === chosen[name]));
      status.textContent = `${kept.length} of ${rows.length} ${view.noun} shown.`;
      return Plotly.react(plot, view.traces(kept, data.marks, chosen), layout(view.axes(chosen)),
        {displayModeBar: false});
    }

    /* a finger has no hover: its first touch tells the record and offers its page */
    function follow({points: [point]}) {
      const href = pages.get(point.customdata);
      if (href && !touch.matches) location.assign(href);
      if (!touch.matches) return;
      const name = document.createElement(href ? "a" : "span");
      name.textContent = point.customdata;
      if (href) name.href = href;
      status.replaceChildren("Record ", name);
    }

    selects.filter(select => select.dataset.filter).forEach(select => fill(select, rows));
    selects.forEach(select => select.addEventListener("change", draw));
    for (const name of ["controls", "plot", "status"]) part(name).hidden = false;
    part("static").hidden = true;
    draw().then(() => plot.on("plotly_click", follow));
    new ResizeObserver(() => Plotly.Plots.resize(plot)).observe(plot); // a sidebar folds, a phone turns
    new MutationObserver(draw).observe(document.documentElement, {attributeFilter: ["data-theme"]});
  }

  if (window.Plotly) document.querySelectorAll(".explorer").forEach(start);
})();
