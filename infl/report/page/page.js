"use strict";
// Makes the tables sortable and filterable and the map a way to the cards. Without it the page is complete, and plainer.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // Sorting: a button in each heading, once up, once down; what has no number comes last.
  const keyOf = (row, column, kind) => {
    const cell = row.cells[column];
    if (kind === "text") return cell.textContent.trim();
    return cell.dataset.key === "" ? NaN : Number(cell.dataset.key);
  };
  const compare = (a, b, kind, sign) => {
    if (kind === "text") return sign * a.localeCompare(b, undefined, { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return sign * (a - b);
  };
  const sortBy = (table, heading) => {
    const kind = heading.dataset.sort;
    const sorted = heading.getAttribute("aria-sort");
    const first = kind === "number" && heading.cellIndex > 0 ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = sorted === first ? other : first;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [keyOf(row, heading.cellIndex, kind), row]);
    keyed.sort(([a], [b]) => compare(a, b, kind, order === "ascending" ? 1 : -1));
    body.append(...keyed.map(([, row]) => row));
  };

  // Filtering: words that a row must hold, and one value of each column that has few.
  const facetOf = (row, column) => row.cells[column].dataset.facetKey ?? row.cells[column].textContent.trim();
  const addTools = (table) => {
    const rows = [...table.tBodies[0].rows];
    const what = table.dataset.what;
    const words = make("input", { type: "search", placeholder: "words", autocomplete: "off" });
    const tools = make("div", { className: "tools" }, make("label", {}, "Filter ", words));
    const facets = all("th[data-facet]", table).map((heading) => {
      const values = [...new Set(rows.map((row) => facetOf(row, heading.cellIndex)))].sort();
      const choice = make("select", {}, make("option", { value: "all", textContent: "all" }));
      values.forEach((value, k) => choice.append(make("option", { value: String(k), textContent: value })));
      if (values.length > 1) tools.append(make("label", {}, `${heading.dataset.facet} `, choice));
      return { column: heading.cellIndex, values, choice };
    });
    const count = make("span", { ariaLive: "polite" });
    tools.append(count);
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const filter = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let n = 0;
      for (const row of rows) {
        const fits =
          wanted.every((word) => texts.get(row).includes(word)) &&
          facets.every(
            ({ column, values, choice }) =>
              choice.value === "all" || facetOf(row, column) === values[Number(choice.value)],
          );
        row.hidden = !fits;
        n += fits;
        if (row.dataset.set) {
          spots.get(row.dataset.set)?.classList.toggle("out", !fits);
          cards.get(row.dataset.set).hidden = !fits;
        }
      }
      count.textContent = n === rows.length ? `${n} ${what}` : `${n} of ${rows.length} ${what}`;
      if (table.dataset.what === "sets") resetTabStop();
    };
    words.addEventListener("input", filter);
    for (const { choice } of facets) choice.addEventListener("change", filter);
    table.parentElement.before(tools);
    for (const heading of all("th[data-sort]", table)) {
      const button = make("button", { type: "button" }, ...heading.childNodes);
      button.addEventListener("click", () => sortBy(table, heading));
      heading.append(button);
    }
    filter();
  };

  // Cards open from the map, the table and the address.
  const cards = new Map(all("details.card").map((card) => [card.dataset.set, card]));
  const rowsOfSets = new Map(all("#sets-table tbody tr").map((row) => [row.dataset.set, row]));
  const open = (card) => {
    card.hidden = false;
    card.open = true;
    card.scrollIntoView({ block: "start" });
    card.querySelector("summary").focus({ preventScroll: true });
  };
  const openAddressed = () => {
    const card = document.getElementById(location.hash.slice(1))?.closest("details.card");
    if (card) open(card);
  };
  for (const link of all('a[href^="#set-"]')) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const id = link.getAttribute("href").slice(1);
      history.replaceState(null, "", `#${id}`);
      open(document.getElementById(id).closest("details.card"));
    });
  }
  addEventListener("hashchange", openAddressed);

  // The map: one stop of the Tab key, arrows inside it, a label at the mark that is pointed at or focused.
  const map = document.getElementById("map");
  const spots = new Map(all("a.spot").map((spot) => [spot.dataset.set, spot]));
  const shown = () => [...spots.values()].filter((spot) => !spot.classList.contains("out"));
  const centre = (spot) => {
    const box = all(".hit", spot).at(-1).getBoundingClientRect();
    return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
  };
  const resetTabStop = () => {
    const left = shown();
    const current = left.find((spot) => spot.getAttribute("tabindex") === "0") ?? left[0];
    for (const spot of spots.values()) spot.setAttribute("tabindex", spot === current ? "0" : "-1");
  };
  const tip = document.getElementById("tip");
  const point = (spot) => {
    const { name, summary } = labels.get(spot);
    tip.replaceChildren(make("strong", { textContent: name }), summary);
    tip.hidden = false;
    const at = centre(spot);
    const frame = map.parentElement.getBoundingClientRect();
    const left = Math.min(Math.max(0, at.x - frame.x - tip.offsetWidth / 2), frame.width - tip.offsetWidth);
    const above = at.y - frame.y - tip.offsetHeight - 14;
    tip.style.left = `${Math.max(0, left)}px`;
    tip.style.top = `${above >= 0 ? above : at.y - frame.y + 14}px`;
    rowsOfSets.get(spot.dataset.set)?.classList.add("near");
  };
  const leave = (spot) => {
    tip.hidden = true;
    rowsOfSets.get(spot.dataset.set)?.classList.remove("near");
  };
  const labels = new Map(
    [...spots.values()].map((spot) => {
      const title = spot.querySelector("title");
      const name = title.textContent;
      title.remove(); // else the browser shows it beside the label
      return [spot, { name, summary: spot.getAttribute("aria-label").slice(name.length + 2) }];
    }),
  );
  const step = (spot, key) => {
    const from = centre(spot);
    const ahead = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[key];
    const all = shown().filter((other) => other !== spot);
    if (key === "Home" || key === "End") return key === "Home" ? shown()[0] : shown().at(-1);
    let best = null;
    let least = Infinity;
    for (const other of all) {
      const to = centre(other);
      const along = (to.x - from.x) * ahead[0] + (to.y - from.y) * ahead[1];
      const aside = Math.abs((to.x - from.x) * ahead[1]) + Math.abs((to.y - from.y) * ahead[0]);
      if (along > 0 && along + 2 * aside < least) [best, least] = [other, along + 2 * aside];
    }
    if (best) return best;
    // Nothing further on: go round by number, so that every mark can be reached, those on top of each other too.
    const order = shown();
    const turn = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
    return order[(order.indexOf(spot) + turn + order.length) % order.length];
  };
  for (const spot of spots.values()) {
    spot.addEventListener("pointerenter", () => point(spot));
    spot.addEventListener("pointerleave", () => leave(spot));
    spot.addEventListener("focus", () => point(spot));
    spot.addEventListener("blur", () => leave(spot));
    spot.addEventListener("keydown", (event) => {
      if (event.key === "Escape") leave(spot);
      if (!["ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp", "Home", "End"].includes(event.key)) return;
      event.preventDefault();
      const next = step(spot, event.key);
      spot.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  }
  for (const [set, row] of rowsOfSets) {
    row.addEventListener("pointerenter", () => spots.get(set)?.classList.add("near"));
    row.addEventListener("pointerleave", () => spots.get(set)?.classList.remove("near"));
  }

  for (const table of all("table.sortable")) addTools(table);
  for (const hint of all(".script-only")) hint.hidden = false;
  openAddressed();

  // Paper cannot be clicked: everything is open while it is printed.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details:not([open])");
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of closed) one.open = false;
  });
})();
