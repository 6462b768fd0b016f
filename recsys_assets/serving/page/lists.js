// Lists of items as elements of the page, and the differences between two lists.

/** An element with properties, attributes (`aria-…`, `data-…`) and children, which are elements or texts. */
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-")) element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** How columns of the items are shown: `title`, `link` and `terms` name one each, or are null. */
export function shownColumns(fields) {
  const names = Object.keys(fields).filter((name) => name !== "item_id");
  const is = (kind) => (name) => fields[name].includes(kind);
  const texts = names.filter((name) => /^(large_)?string/.test(fields[name]));
  const link = texts.find((name) => /(url|link)$/i.test(name)) ?? null;
  const title = texts.includes("title") ? "title" : (texts.find((name) => name !== link) ?? null);
  return { title, link, terms: names.filter(is("list")).find(is("string")) ?? null };
}

/** The text that names an item. */
export function nameOf(item, shown) {
  return (shown.title && item[shown.title]) || `Item ${item.item_id}`;
}

/**
 * What differs in a list from an earlier one: for each item `"new"`, or by how many places it rose among the items of
 * both lists (negative: fell). Items that only moved because others left or came are not counted.
 */
export function differences(before, after) {
  const was = before.map((item) => item.item_id);
  const is = after.map((item) => item.item_id);
  const [wasToo, isToo] = [new Set(was), new Set(is)];
  const place = new Map(was.filter((id) => isToo.has(id)).map((id, index) => [id, index]));
  const found = new Map(is.filter((id) => !wasToo.has(id)).map((id) => [id, "new"]));
  is.filter((id) => wasToo.has(id)).forEach((id, index) => {
    if (place.get(id) !== index) found.set(id, place.get(id) - index);
  });
  return { changes: found, gone: before.filter((item) => !isToo.has(item.item_id)) };
}

/** A row of a list: place, title, score, channels, and buttons that `actions` describes. */
export function itemRow(item, shown, { change, actions = [], news = "new" } = {}) {
  const name = nameOf(item, shown);
  const row = make("li", { className: change === undefined ? "" : "changed", "data-item": item.item_id });
  const buttons = actions.map(({ label, act }) =>
    make("button", { type: "button", onclick: () => act(item), "aria-label": `${label}: ${name}` }, label),
  );
  row.append(
    make("div", { className: "about" }, titleOf(item, name, shown), changeMark(change, news), termsOf(item, shown)),
    make("div", { className: "marks" }, scoreOf(item), ...channelMarks(item)),
    make("div", { className: "actions" }, ...buttons),
  );
  return row;
}

/** A row of what a person touched. */
export function touchedRow(event, shown) {
  const kind = event.label ? "liked" : "not liked";
  return make(
    "li",
    { className: event.told ? "changed" : "" },
    titleOf(event, nameOf(event, shown), shown),
    make("span", { className: `kind ${event.label ? "good" : "bad"}` }, event.told ? `${kind}, ${event.told}` : kind),
  );
}

function titleOf(item, name, shown) {
  const address = shown.link ? safeAddress(item[shown.link]) : null;
  if (!address) return make("span", { className: "title" }, name);
  return make("a", { className: "title", href: address, target: "_blank", rel: "noopener noreferrer" }, name);
}

/** An address of the web; other schemes, such as `javascript:`, are no links. */
function safeAddress(text) {
  try {
    return ["http:", "https:"].includes(new URL(text).protocol) ? text : null;
  } catch {
    return null;
  }
}

function termsOf(item, shown) {
  const terms = shown.terms ? item[shown.terms] : null;
  return terms?.length ? make("span", { className: "quiet terms" }, terms.join(", ")) : null;
}

function scoreOf(item) {
  if (item.score === undefined) return null;
  const likely = item.probability === undefined ? "" : `, probability ${number(item.probability)}`;
  return make("span", { className: "score", title: `score ${item.score}${likely}` }, number(item.score));
}

/** The channels that listed an item, each with its place there if the service says it. */
function channelMarks({ channels = [], explain }) {
  return channels.map((name) => {
    const place = explain?.channels[name]?.place;
    return make("span", { className: "mark" }, make("span", {}, name), place ? ` ${place}` : null);
  });
}

function changeMark(change, news) {
  if (change === undefined) return null;
  if (change === "new") return make("span", { className: "change" }, news);
  const [sign, word] = change > 0 ? ["▲", "up"] : ["▼", "down"];
  const places = Math.abs(change);
  return make("span", { className: "change", "aria-label": `${word} by ${places}`, role: "img" }, `${sign}${places}`);
}

/** A number with four significant digits. */
export function number(value) {
  return typeof value === "number" && Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "–";
}
