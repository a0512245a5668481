// The plots of the page, and the map's controls: what a star is coloured by, which features are its axes, finding one.
"use strict";
(async () => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const narrow = innerWidth < 640;
  if (plots.weights) {
    const [weights] = await Bokeh.embed.embed_item(plots.weights.item);
    for (let number = 1; narrow; number++) { // names of lines that would stand on each other: the stronger stays
      const lines = weights.model.document.get_model_by_name(`lines ${number}`);
      if (lines === null) break;
      const { x, y, name, away } = lines.data;
      const kept = [];
      for (const row of [...x.keys()].sort((one, other) => Math.abs(y[other]) - Math.abs(y[one]))) {
        if (kept.every((other) => Math.abs(x[other] - x[row]) > 110 || y[other] * y[row] < 0)) kept.push(row);
      }
      const of = (values) => kept.map((row) => values[row]);
      lines.data = { x: of(x), y: of(y), name: of(name), away: of(away) };
    }
  }
  if (!plots.map) return;
  const view = [...await Bokeh.embed.embed_item(plots.map.item)][0];
  const page = view.model.document;
  const named = (name) => page.get_model_by_name(name);
  const stars = ["field", "members"].map(named).filter((each) => each !== null);
  const drawn = [named("cells"), ...stars].filter((each) => each !== null);
  const plot = named("map"), mapper = named("colour"), bar = named("bar"), found = named("found");
  const chosen = (id) => document.getElementById(id);
  const axes = { x: chosen("map-x"), y: chosen("map-y") };
  if (narrow) plot.height = 460;

  const place = (columns, row, axis) => columns[axes[axis] ? axes[axis].value : plots.map.shown[axis]][row];

  const find = () => {
    const text = chosen("map-find").value.trim().toLowerCase();
    const at = { x: [], y: [] };
    const told = [];
    for (const { data_source: { data } } of text ? stars : []) {
      data.star.forEach((star, row) => {
        if (star.toLowerCase() === text || data.group[row].toLowerCase() === text || (text.length > 5 && star.toLowerCase().includes(text))) {
          at.x.push(place(data, row, "x"));
          at.y.push(place(data, row, "y"));
          told.push(data.group[row] ? `${star} (${data.group[row]})` : star);
        }
      });
    }
    found.data = at;
    chosen("map-found").textContent = !text ? "" : told.length === 0 ? "no star or cluster of that name is on the map"
      : told.length === 1 ? told[0] : `${told.length} stars are ringed`;
  };

  for (const [axis, choice] of Object.entries(axes)) {
    if (choice) choice.addEventListener("change", () => {
      for (const each of stars) each.glyph[axis] = { field: choice.value };
      (axis === "x" ? plot.below : plot.left)[0].axis_label = choice.value.replaceAll("_", " ").toLowerCase();
      find();
    });
  }
  chosen("map-colour").addEventListener("change", (event) => {
    const column = event.target.value, [low, high] = plots.map.colours[column];
    mapper.setv({ low, high });
    if (bar) bar.title = column;
    for (const each of drawn) each.glyph.fill_color = { field: column, transform: mapper };
  });
  chosen("map-find").addEventListener("input", find);
})();
