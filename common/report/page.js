// What moves in a report. All text is set as text, never as markup.
"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(find(id).textContent);
  const data = read("data");
  const body = find("table").tBodies[0];
  const thumbWidth = 160, thumbHeight = 120;

  // ---- the table

  const headings = [...document.querySelectorAll("th button[data-key]")];

  function valueOf(row, key) {
    if (key === "name") return row.querySelector("th").textContent.trim();
    const text = row.querySelectorAll("td[data-value]")[key].dataset.value;
    return text === "" ? null : isNaN(text) ? text : Number(text);
  }

  function compare(first, second) {
    if (typeof first === "number" && typeof second === "number") return first - second;
    return String(first).localeCompare(String(second), undefined, { numeric: true });
  }

  function sortBy(button) {
    const heading = button.closest("th");
    const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    headings.forEach((one) => one.closest("th").removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => [valueOf(row, button.dataset.key), row]);
    rows.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
    body.append(...rows.map(([, row]) => row));
  }

  headings.forEach((button) => button.addEventListener("click", () => sortBy(button)));

  find("find").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    for (const row of body.rows) row.hidden = !valueOf(row, "name").toLowerCase().includes(wanted);
    find("none").hidden = [...body.rows].some((row) => !row.hidden);
  });

  // ---- slices

  async function inflate(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  /** Returns the case with its image and maps as they are drawn. */
  async function load(index) {
    const entry = read(`case-${index}`);
    const layers = entry.layers;
    if (!layers) return { ...entry, count: 0, maps: {} };
    const image = new Image();
    image.src = layers.image;
    const names = Object.keys(layers.maps);
    const [, ...maps] = await Promise.all([image.decode(), ...names.map((name) => inflate(layers.maps[name]))]);
    const loaded = { ...entry, ...layers, image, maps: Object.fromEntries(names.map((name, i) => [name, maps[i]])) };
    loaded.closeUp = regionOf(loaded);
    return loaded;
  }

  const classMaps = (loaded) => ["label", "prediction"].filter((name) => loaded.maps[name]);

  /** Returns the part of all slices in which classes are, with a margin: [left, top, width, height] in pixels. */
  function regionOf(loaded) {
    const { rows, columns, count } = loaded;
    let left = columns, right = -1, top = rows, bottom = -1;
    for (const name of classMaps(loaded)) {
      const map = loaded.maps[name];
      for (let place = 0; place < map.length; place++) {
        if (!map[place]) continue;
        const column = place % columns, row = ((place - column) / columns) % rows;
        if (column < left) left = column;
        if (column > right) right = column;
        if (row < top) top = row;
        if (row > bottom) bottom = row;
      }
    }
    if (right < 0 || !count) return [0, 0, columns, rows];
    const margin = 0.25 * Math.max(right - left + 1, bottom - top + 1) + 2;
    left = Math.max(0, left - margin);
    top = Math.max(0, top - margin);
    return [left, top, Math.min(columns, right + 1 + margin) - left, Math.min(rows, bottom + 1 + margin) - top];
  }

  /**
   * Returns the outlines of a class in a slice as a path of closed lines, found by marching squares: for each square
   * between four pixels the line that parts those of the class, walked with the class on one side, so that they join.
   */
  function outline(map, offset, rows, columns, value, box) {
    const width = 2 * columns + 4;
    const next = new Map();
    const inside = (row, column) =>
      row >= 0 && row < rows && column >= 0 && column < columns && map[offset + row * columns + column] === value;
    for (let row = box[1] - 1; row <= box[3]; row++) {
      for (let column = box[0] - 1; column <= box[2]; column++) {
        const code = 8 * inside(row, column) + 4 * inside(row, column + 1)
          + 2 * inside(row + 1, column + 1) + 1 * inside(row + 1, column);
        if (code === 0 || code === 15) continue;
        const at = (x, y) => (2 * row + y + 2) * width + 2 * column + x + 2;
        const top = at(2, 1), right = at(3, 2), bottom = at(2, 3), left = at(1, 2);
        const lines = {
          8: [left, top], 4: [top, right], 2: [right, bottom], 1: [bottom, left],
          12: [left, right], 6: [top, bottom], 3: [right, left], 9: [bottom, top],
          7: [top, left], 11: [right, top], 13: [bottom, right], 14: [left, bottom],
          10: [left, top, right, bottom], 5: [top, right, bottom, left],
        }[code];
        for (let i = 0; i < lines.length; i += 2) next.set(lines[i], lines[i + 1]);
      }
    }
    const path = new Path2D();
    const x = (point) => (point % width) / 2 - 1, y = (point) => Math.floor(point / width) / 2 - 1;
    for (const first of next.keys()) {
      let point = first;
      path.moveTo(x(point), y(point));
      while (next.has(point)) {
        const following = next.get(point);
        next.delete(point);
        point = following;
        path.lineTo(x(point), y(point));
      }
      path.closePath();
    }
    return path;
  }

  /** Returns for every class in a slice of a map its bounding box, [left, top, right, bottom]. */
  function boxesOf(map, offset, rows, columns) {
    const boxes = new Map();
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const value = map[offset + row * columns + column];
        if (!value) continue;
        const box = boxes.get(value);
        if (!box) boxes.set(value, [column, row, column, row]);
        else {
          if (column < box[0]) box[0] = column;
          if (column > box[2]) box[2] = column;
          box[3] = row;
        }
      }
    }
    return boxes;
  }

  const heat = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];

  /** Draws a colour and an opacity for each pixel of a slice over what is there. */
  function paint(context, loaded, colourOf) {
    const { rows, columns } = loaded;
    const pixels = new ImageData(columns, rows);
    for (let place = 0; place < rows * columns; place++) {
      const colour = colourOf(place);
      if (colour) pixels.data.set(colour, 4 * place);
    }
    const canvas = document.createElement("canvas");
    canvas.width = columns;
    canvas.height = rows;
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(canvas, 0, 0);
    context.imageSmoothingEnabled = true;
  }

  /** Draws a slice as large as the canvas; `on` says what is shown. */
  function draw(canvas, loaded, slice, on, line) {
    const { rows, columns, tile, across, maps } = loaded;
    const [left, top, width, height] = on.closeUp ? loaded.closeUp : [0, 0, columns, rows];
    const context = canvas.getContext("2d");
    const across_ = canvas.width / width, down = canvas.height / height;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingQuality = "high";
    context.setTransform(across_, 0, 0, down, -left * across_, -top * down);
    const from = [(slice % across) * tile[1], Math.floor(slice / across) * tile[0]];
    context.drawImage(loaded.image, ...from, columns, rows, 0, 0, columns, rows);
    const offset = slice * rows * columns;
    if (on.uncertainty && maps.uncertainty) {
      paint(context, loaded, (place) => {
        const share = maps.uncertainty[offset + place] / 255;
        if (!share) return null;
        const step = Math.min(3, Math.floor(4 * share)), rest = 4 * share - step;
        const colour = heat[step].map((low, i) => low + rest * (heat[step + 1][i] - low));
        return [...colour, 255 * Math.min(1, 0.25 + 1.5 * share)];
      });
    }
    if (on.difference && maps.label && maps.prediction) {
      paint(context, loaded, (place) =>
        maps.label[offset + place] === maps.prediction[offset + place] ? null : [255, 45, 149, 190]);
    }
    const shown = classMaps(loaded).filter((name) => on[name]);
    const filled = shown.at(-1); // the prediction, if it is shown
    for (const name of shown) {
      for (const [value, box] of boxesOf(maps[name], offset, rows, columns)) {
        const { colour } = data.classes[value - 1] ?? { colour: "#ffffff" };
        if (on.hidden?.has(value)) continue;
        const path = outline(maps[name], offset, rows, columns, value, box);
        if (on.filled && name === filled) {
          context.globalAlpha = 0.35;
          context.fillStyle = colour;
          context.fill(path, "evenodd");
          context.globalAlpha = 1;
        }
        const scaled = new Path2D();
        scaled.addPath(path, new DOMMatrix([across_, 0, 0, down, -left * across_, -top * down]));
        context.save();
        context.setTransform(1, 0, 0, 1, 0, 0);
        context.lineJoin = "round";
        if (name === "label") context.setLineDash([4 * line, 3 * line]);
        for (const [style, thick] of [["rgb(0 0 0 / .55)", 2 * line], [colour, line]]) {
          context.strokeStyle = style;
          context.lineWidth = thick;
          context.stroke(scaled);
        }
        context.restore();
      }
    }
  }

  // ---- thumbnails

  const thumbs = [...document.querySelectorAll("button.thumb")];
  const rowOf = (element) => element.closest("tr");

  async function drawThumb(button) {
    const loaded = await load(rowOf(button).dataset.case);
    const [, , width, height] = loaded.closeUp;
    const canvas = button.querySelector("canvas");
    const scale = Math.max(thumbWidth / width, thumbHeight / (height * loaded.aspect));
    canvas.width = Math.round(2 * scale * width); // twice as fine as it is shown
    canvas.height = Math.round(2 * scale * height * loaded.aspect);
    draw(canvas, loaded, loaded.start, { prediction: true, label: !loaded.maps.prediction, filled: data.filled, closeUp: true }, 2);
  }

  const isReady = () => { document.documentElement.dataset.ready = "yes"; };
  const seen = new IntersectionObserver((entries) => {
    const near = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
    near.forEach((button) => seen.unobserve(button));
    Promise.all(near.map(drawThumb)).then(isReady);
  }, { rootMargin: "400px" });
  thumbs.forEach((button) => seen.observe(button));
  if (!thumbs.length) isReady();
  if (!find("viewer")) return;

  // ---- the opened case

  const viewer = find("viewer"), slider = find("slider"), canvas = find("slice"), strip = find("strip");
  const on = { label: true, prediction: true, uncertainty: false, difference: false, filled: data.filled, closeUp: true, hidden: new Set() };
  const switches = [
    ["label", "label", (loaded) => loaded.maps.label],
    ["prediction", "prediction", (loaded) => loaded.maps.prediction],
    ["uncertainty", "uncertainty", (loaded) => loaded.maps.uncertainty],
    ["difference", "difference", (loaded) => loaded.maps.label && loaded.maps.prediction],
    ["filled", "areas", (loaded) => classMaps(loaded).length],
    ["closeUp", "close-up", (loaded) => classMaps(loaded).length],
  ];
  let current = null, currentIndex = null, slice = 0;

  function checkbox(words, checked, change, swatch) {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = checked;
    box.addEventListener("change", () => { change(box.checked); show(); });
    const mark = document.createElement("span");
    mark.className = `swatch ${swatch.kind ?? ""}`;
    if (swatch.colour) mark.style.setProperty("--colour", swatch.colour);
    const text = document.createElement("span");
    text.append(...words);
    label.append(box, mark, text);
    return label;
  }

  function underlined(word) {
    const first = document.createElement("u");
    first.textContent = word[0];
    return [first, word.slice(1)];
  }

  function fillSwitches(loaded) {
    const legend = (fieldset) => fieldset.querySelector("legend");
    const own = switches.filter(([, , isThere]) => isThere(loaded)).map(([key, word]) => {
      const label = checkbox(underlined(word), on[key], (checked) => { on[key] = checked; }, { kind: `layer ${key}` });
      label.dataset.layer = key;
      return label;
    });
    find("layers").replaceChildren(legend(find("layers")), ...own);
    find("layers").hidden = !own.length;
    const classes = data.classes.map(({ name, colour }, i) => checkbox([name], !on.hidden.has(i + 1), (checked) => {
      if (checked) on.hidden.delete(i + 1);
      else on.hidden.add(i + 1);
    }, { colour }));
    find("classes").replaceChildren(legend(find("classes")), ...classes);
    find("classes").hidden = !classMaps(loaded).length;
  }

  function cell(kind, text) {
    const element = document.createElement(kind);
    element.textContent = text;
    if (kind === "th") element.scope = "row";
    return element;
  }

  function fillDetails(loaded) {
    find("viewer-title").textContent = loaded.name;
    find("viewer-values").textContent = loaded.values.map((pair) => pair.join(" ")).join("  ·  ");
    find("note").textContent = loaded.note;
    find("details").replaceChildren();
    if (!loaded.structures.length) return;
    let lines = [["", ...loaded.measures], ...loaded.structures];
    if (loaded.structures.length < loaded.measures.length) { // few structures stand side by side
      lines = lines[0].map((_, column) => lines.map((line) => line[column]));
    }
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const name of lines[0]) {
      const heading = cell("th", name);
      heading.scope = "col";
      head.append(heading);
    }
    const rows = table.createTBody();
    for (const [name, ...values] of lines.slice(1)) {
      rows.insertRow().append(cell("th", name), ...values.map((value) => cell("td", value)));
    }
    find("details").append(table);
  }

  /** Counts in every slice the pixels of classes and those in which label and prediction differ. */
  function countsOf(loaded) {
    const { label, prediction } = loaded.maps, size = loaded.rows * loaded.columns;
    const counts = [];
    for (let index = 0; index < loaded.count; index++) {
      let found = 0, wrong = 0;
      for (let place = index * size; place < (index + 1) * size; place++) {
        if (label?.[place] || prediction?.[place]) found++;
        if (label && prediction && label[place] !== prediction[place]) wrong++;
      }
      counts.push([found, wrong]);
    }
    return counts;
  }

  function drawStrip() {
    const ratio = devicePixelRatio, style = getComputedStyle(viewer);
    strip.width = strip.clientWidth * ratio;
    strip.height = strip.clientHeight * ratio;
    const context = strip.getContext("2d");
    const most = Math.max(1, ...current.counts.map(([found]) => found));
    const width = strip.width / current.count;
    current.counts.forEach(([found, wrong], index) => {
      const gap = Math.min(2 * ratio, 0.2 * width);
      for (const [number, colour] of [[found, "--bar"], [wrong, "--wrong"]]) {
        const height = (strip.height - 3 * ratio) * number / most;
        context.globalAlpha = index === slice ? 1 : 0.55;
        context.fillStyle = style.getPropertyValue(colour);
        context.fillRect(index * width + gap / 2, strip.height - 3 * ratio - height, width - gap, height);
      }
      if (index === slice) {
        context.fillStyle = style.getPropertyValue("--accent");
        context.fillRect(index * width + gap / 2, strip.height - 2 * ratio, width - gap, 2 * ratio);
      }
    });
  }

  function fit() {
    const [, , width, height] = on.closeUp ? current.closeUp : [0, 0, current.columns, current.rows];
    const ratio = width / (height * current.aspect);
    const room = find("slice").parentElement.clientWidth;
    const tall = Math.max(180, innerHeight - (innerWidth < 760 ? 330 : 230));
    const shownWidth = Math.min(room, tall * ratio);
    canvas.style.width = `${shownWidth}px`;
    canvas.style.height = `${shownWidth / ratio}px`;
    canvas.width = Math.round(shownWidth * devicePixelRatio);
    canvas.height = Math.round((shownWidth / ratio) * devicePixelRatio);
  }

  function show() {
    find("stage").hidden = !current.count;
    if (!current.count) return;
    fit();
    draw(canvas, current, slice, on, 1.6 * devicePixelRatio);
    slider.max = current.count - 1;
    slider.value = slice;
    const [found, wrong] = current.counts[slice];
    const several = current.count > 1;
    const parts = several ? [current.names[slice], `${slice + 1} of ${current.count}`] : [];
    if (current.maps.label && current.maps.prediction && found) {
      parts.push(`${(100 * wrong / found).toFixed(0)} % of what is found or labelled differs`);
    }
    const words = parts.join(", ");
    find("position").textContent = words;
    slider.setAttribute("aria-valuetext", words);
    canvas.setAttribute("aria-label", `${current.name}, ${words}`);
    strip.hidden = !several || !classMaps(current).length;
    slider.closest("label").hidden = !several;
    if (!strip.hidden) drawStrip();
  }

  function go(index) {
    if (!current.count) return;
    slice = Math.max(0, Math.min(current.count - 1, index));
    show();
  }

  async function open(index) {
    currentIndex = index;
    const loaded = await load(index);
    if (currentIndex !== index) return; // another one was asked for meanwhile
    current = { ...loaded, counts: countsOf(loaded) };
    slice = current.start ?? 0;
    fillSwitches(current);
    fillDetails(current);
    if (!viewer.open) {
      viewer.showModal();
      document.documentElement.classList.add("locked");
    }
    show();
    (current.count > 1 ? slider : find("close")).focus();
  }

  function step(by) {
    const indices = [...body.rows].filter((row) => !row.hidden && row.querySelector(".open")).map((row) => row.dataset.case);
    const place = indices.indexOf(currentIndex);
    open(indices[(place + by + indices.length) % indices.length]);
  }

  body.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) open(rowOf(button).dataset.case);
  });
  find("previous").addEventListener("click", () => step(-1));
  find("next").addEventListener("click", () => step(1));
  find("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("close", () => {
    document.documentElement.classList.remove("locked");
    body.querySelector(`tr[data-case="${currentIndex}"] button`)?.focus();
    current = null;
  });
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  slider.addEventListener("input", () => go(Number(slider.value)));
  strip.addEventListener("click", (event) => go(Math.floor(current.count * event.offsetX / strip.clientWidth)));
  canvas.addEventListener("wheel", (event) => {
    if (!current || current.count < 2 || event.ctrlKey) return;
    event.preventDefault();
    go(slice + Math.sign(event.deltaY));
  }, { passive: false });
  addEventListener("resize", () => { if (current) show(); });

  viewer.addEventListener("keydown", (event) => {
    if (!current || event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = { ArrowLeft: slice - 1, ArrowDown: slice - 1, ArrowRight: slice + 1, ArrowUp: slice + 1, Home: 0, End: current.count - 1 };
    if (event.key in moves) go(moves[event.key]);
    else if (event.key === "PageUp") step(-1);
    else if (event.key === "PageDown") step(1);
    else {
      const chosen = [...find("layers").querySelectorAll("label")].find((label) => label.textContent[0] === event.key.toLowerCase());
      if (!chosen) return;
      chosen.querySelector("input").click();
    }
    event.preventDefault();
  });
})();
