"use strict";
// Makes the tables sortable and filterable, and opens cards from the map. Without it the page is complete, and plainer.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const setOf = (row) => row.querySelector('a[href^="#set-"]')?.getAttribute("href").slice(5);
  const textOf = (row, column) => row.cells[column].textContent.trim();
  const numberOf = (row, column) => {
    const value = row.cells[column].querySelector("data")?.getAttribute("value");
    return value ? Number(value) : NaN;
  };

  // Sorting: a button in each heading, numbers down first and words up; what has no number comes last.
  const sortBy = (table, heading, numeric) => {
    const [first, second] = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
    const order = heading.getAttribute("aria-sort") === first ? second : first;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const column = heading.cellIndex;
    const byNumber = (a, b) => {
      const [x, y] = [numberOf(a, column), numberOf(b, column)];
      return Number.isNaN(x) || Number.isNaN(y) ? Number.isNaN(x) - Number.isNaN(y) : sign * (x - y);
    };
    const byText = (a, b) => sign * textOf(a, column).localeCompare(textOf(b, column), undefined, { numeric: true });
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(numeric ? byNumber : byText));
  };

  // Filtering: words that a row must hold, and one value of each column of few words.
  const addTools = (table) => {
    const rows = [...table.tBodies[0].rows];
    const words = make("input", { type: "search", placeholder: "words", autocomplete: "off" });
    const tools = make("div", { className: "tools" }, make("label", {}, "Filter ", words));
    const facets = [];
    for (const heading of table.tHead.rows[0].cells) {
      const column = heading.cellIndex;
      const numeric = Boolean(table.querySelector(`tbody td:nth-child(${column + 1}) > data`));
      const values = [...new Set(rows.map((row) => textOf(row, column)))].sort();
      if (!heading.textContent) continue;
      if (!numeric && values.length > 1 && values.length <= 12 && values.length < rows.length) {
        const choice = make("select", {}, make("option", { value: "", textContent: "all" }));
        choice.append(...values.map((value) => make("option", { value, textContent: value })));
        tools.append(make("label", {}, `${heading.textContent} `, choice));
        facets.push({ column, choice });
      }
      const button = make("button", { type: "button" }, ...heading.childNodes);
      button.addEventListener("click", () => sortBy(table, heading, numeric));
      heading.append(button);
    }
    const count = make("span", { ariaLive: "polite" });
    tools.append(count);
    const filter = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let n = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        const fits =
          wanted.every((word) => text.includes(word)) &&
          facets.every(({ column, choice }) => !choice.value || textOf(row, column) === choice.value);
        row.hidden = !fits;
        n += fits;
        if (setOf(row)) for (const one of all(`[data-set="${setOf(row)}"]`)) one.classList.toggle("out", !fits);
      }
      count.textContent = `${n} of ${rows.length}`;
    };
    tools.addEventListener("input", filter);
    table.parentElement.before(tools);
    filter();
  };

  // Cards open from the map, the table and the address; a row and its marks are lit together.
  const open = (hash) => {
    const card = document.getElementById(hash.slice(1))?.closest("details.card");
    if (!card) return;
    card.open = true;
    card.scrollIntoView({ block: "start" });
    card.querySelector("summary").focus({ preventScroll: true });
  };
  for (const link of all('a[href^="#set-"]')) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      history.replaceState(null, "", link.getAttribute("href"));
      open(link.getAttribute("href"));
    });
    const row = link.closest("tr") ?? document.querySelector(`#sets-table a[href="${link.getAttribute("href")}"]`)?.closest("tr");
    const lit = [row, ...all(`a.hit[href="${link.getAttribute("href")}"]`)].filter(Boolean);
    const over = link.closest("tr") ?? link;
    for (const [event, on] of [["pointerenter", true], ["pointerleave", false], ["focusin", true], ["focusout", false]])
      over.addEventListener(event, () => lit.forEach((one) => one.classList.toggle("near", on)));
  }
  for (const table of all("table.sortable")) addTools(table);
  addEventListener("hashchange", () => open(location.hash));
  open(location.hash);

  // Paper cannot be clicked: everything is open while it is printed.
  let closed = [];
  addEventListener("beforeprint", () => (closed = all("details:not([open])")).forEach((one) => (one.open = true)));
  addEventListener("afterprint", () => closed.forEach((one) => (one.open = false)));
})();
