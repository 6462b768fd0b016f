// The page: whom it asks about, what was told since, and how an answer and what it is compared with are shown.

import { get, onMissingToken, post } from "./api.js";
import { differences, itemRow, make, nameOf, shownColumns, touchedRow } from "./lists.js";
import { askForToken, at, attempt, say, showAlike, showTimes } from "./panels.js";

const TOUCHED = 30; // newest events that are shown
const OFFERED = 5; // users

// user: an id, or null for a pasted history; pasted and told: events {item_id, label} with the columns of their items.
// Of the told ones, those with `kept` were sent with POST /events; the others go with each request as its history.
const state = { user: null, pasted: [], told: [], shown: {}, rules: {}, kept: [], has: {}, before: null, looks: null };

async function start() {
  onMissingToken(askForToken);
  await attempt(async () => {
    const release = await get("/release");
    showRelease(release);
    const described = await get("/openapi.json");
    state.shown = shownColumns(release.fields);
    state.rules = await get("/scenes");
    state.kept = (await get("/releases")).others;
    state.has = { explain: "explain" in described.components.schemas.RecommendBody.properties };
    state.looks = release.events;
    await offerUsers();
    const asked = new URLSearchParams(location.search).get("user");
    if (asked) await showUser(asked);
  });
}

function showRelease(release) {
  const model = release.model ? `, ordered by ${release.model}` : "";
  const left = release.without.length ? `; without ${release.without.join(", ")}` : "";
  at("release").textContent =
    `Release ${release.release} of ${release.bizdate}: ${release.users.toLocaleString("en")} users, ` +
    `${release.items.toLocaleString("en")} items, ${release.channels.length} channels${model}${left}`;
}

async function offerUsers() {
  const { users } = await get("/users", { sample: OFFERED, seed: Math.floor(Math.random() * 2 ** 32) });
  const buttons = users.map((user) => make("button", { type: "button", onclick: () => chooseUser(user) }, `${user}`));
  at("offered").replaceChildren(...buttons);
}

function chooseUser(user) {
  at("user").value = user;
  return attempt(() => showUser(user));
}

async function showUser(user) {
  const path = `/users/${encodeURIComponent(user)}`;
  const found = await get(path, { size: TOUCHED, fields: fields().join(",") });
  Object.assign(state, { user: found.user_id, pasted: [], told: [], before: null });
  at("user").value = found.user_id;
  history.replaceState(null, "", `?user=${encodeURIComponent(found.user_id)}`);
  at("touched-about").textContent = found.known
    ? `${found.events} events, newest first`
    : "The release does not know this user: the list follows what is told, and is otherwise the most popular items.";
  await show(found.history);
}

async function showPasted(text) {
  const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
  const events = await Promise.all(lines.map(findItem));
  const missing = lines.filter((_, index) => !events[index]);
  Object.assign(state, { user: null, pasted: events.filter(Boolean), told: [], before: null });
  history.replaceState(null, "", location.pathname);
  at("touched-about").textContent = missing.length ? `Not found: ${missing.join(", ")}` : "pasted, newest first";
  await show([]);
}

/** The event that a line of a pasted history names, or null. */
async function findItem(line) {
  const disliked = line.startsWith("-");
  const query = disliked ? line.slice(1).trim() : line;
  if (!query) return null;
  const { items } = await get("/items", { query: query.slice(0, 200), size: 1, fields: fields().join(",") });
  return items.length ? { ...items[0], label: disliked ? 0 : 1 } : null;
}

/** Show what was touched, and ask for the list; `known` are the user's events in the release, newest first. */
async function show(known = state.known) {
  state.known = known;
  const told = state.told.map((event) => ({ ...event, told: event.kept ? "kept" : "told now" }));
  const events = [...told.reverse(), ...[...state.pasted].reverse(), ...known];
  at("touched-items").replaceChildren(...events.map((event) => touchedRow(event, state.shown)));
  at("touched").hidden = at("lists").hidden = false;
  at("forget").hidden = !unkept().length;
  at("keeps").hidden = state.user === null || !state.looks?.positive;
  offerOthers();
  await ask();
}

async function ask() {
  const other = others()[at("other").value];
  const begin = performance.now();
  const answer = await post("/recommend", body());
  showTimes(answer.steps ?? {}, performance.now() - begin);
  const { changes, gone } = state.before ? differences(state.before, answer.items) : { changes: new Map(), gone: [] };
  showItems("this", answer, changes, "new");
  at("other-side").hidden = !other;
  if (other) {
    const compared = await post(other.path, other.change(body()));
    at("other-title").textContent = other.label;
    showItems("other", compared, differences(answer.items, compared.items).changes, "only here");
  }
  say(sentenceOf(answer, changes, gone));
}

/** The request for the list. */
function body() {
  const events = [...state.pasted, ...unkept()].map(({ item_id, label }) => ({ item_id, label }));
  const asked = { size: Number(at("size").value) || 20, fields: fields(), history: events };
  if (state.user !== null) asked.user_id = state.user;
  if (state.has.explain) asked.explain = true;
  return asked;
}

function fields() {
  return Object.values(state.shown).filter(Boolean);
}

/** Other requests that can be compared with this one: for each its label, how it changes the body, and its path. */
function others() {
  const found = {};
  const offer = (key, label, change, path = "/recommend") => (found[key] = { label, change, path });
  const own = ({ history }) => history.slice(0, state.pasted.length);
  if (unkept().length) offer("untold", "Without what was told", (asked) => ({ ...asked, history: own(asked) }));
  if (state.user !== null) offer("judged", "Before the online rows", (asked) => ({ ...asked, judged: true }));
  for (const scene of Object.keys(state.rules.scenes ?? {})) {
    offer(`scene ${scene}`, `Scene ${scene}`, (asked) => ({ ...asked, scene }));
  }
  for (const [layer, { variants }] of Object.entries(state.rules.layers ?? {})) {
    for (const name of Object.keys(variants)) {
      offer(`variant ${layer} ${name}`, `${layer}: ${name}`, (asked) => ({ ...asked, variants: { [layer]: name } }));
    }
  }
  for (const { release, bizdate } of state.kept) {
    offer(`release ${release}`, `Release ${release} of ${bizdate}`, (asked) => asked, `/releases/${release}/recommend`);
  }
  return found;
}

function offerOthers() {
  const chosen = at("other").value;
  const options = Object.entries(others()).map(([value, { label }]) => make("option", { value }, label));
  at("other").replaceChildren(make("option", { value: "" }, "nothing"), ...options);
  at("other").value = options.some((option) => option.value === chosen) ? chosen : "";
}

const SIMILAR = { label: "Similar", act: (item) => attempt(() => alike(item)) };
const TELL = [
  { label: "Like", act: (item) => tell(item, 1) },
  { label: "Dislike", act: (item) => tell(item, 0) },
];

function showItems(side, answer, changes, news) {
  const actions = side === "this" ? [...TELL, SIMILAR] : [SIMILAR];
  const row = (item) => itemRow(item, state.shown, { change: changes.get(item.item_id), actions, news });
  at(`${side}-items`).replaceChildren(...answer.items.map(row));
  at(`${side}-about`).textContent = `${answer.items.length} items, served by: ${answer.served_by}`;
  if (side === "this") state.items = answer.items;
}

function sentenceOf(answer, changes, gone) {
  if (!state.before) return `${answer.items.length} items are listed.`;
  const fresh = [...changes.values()].filter((change) => change === "new").length;
  const left = gone.length ? ` Gone: ${gone.map((item) => nameOf(item, state.shown)).join(", ")}.` : "";
  return `The list has changed: ${fresh} new, ${changes.size - fresh} moved.${left}`;
}

/** Tell the service that a person liked or disliked an item, and show how the list changes. */
function tell(item, label) {
  const place = state.items.findIndex((each) => each.item_id === item.item_id);
  return attempt(async () => {
    state.before = state.items;
    state.told.push({ ...item, label, kept: await keep(item, label) });
    await show();
    focusRow(place);
  });
}

/** Told events that go with each request. */
function unkept() {
  return state.told.filter((event) => !event.kept);
}

/** Send an event to be kept, if a person wants that and the service says how such an event looks; whether it was sent. */
async function keep(item, label) {
  const values = state.looks?.[label ? "positive" : "negative"];
  if (!at("keep").checked || at("keeps").hidden || !values) return false;
  const ids = { [state.looks.user]: state.user, [state.looks.item]: item.item_id };
  await post("/events", { events: [{ ...ids, ...values }] });
  return true;
}

/** The row that a button was in is gone: the focus goes to the one that took its place. */
function focusRow(place) {
  const rows = at("this-items").children;
  const row = rows[Math.min(Math.max(place, 0), rows.length - 1)];
  (row?.querySelector("button") ?? at("lists")).focus();
}

async function alike(item) {
  const { items } = await get(`/similar/${encodeURIComponent(item.item_id)}`, { size: 10, fields: fields().join(",") });
  showAlike(item, items, state.shown);
}

function onSubmit(id, work) {
  at(id).addEventListener("submit", (event) => {
    event.preventDefault();
    return attempt(work);
  });
}

onSubmit("by-user", () => showUser(at("user").value.trim()));
onSubmit("by-history", () => showPasted(at("history").value));
onSubmit("options", () => ask());
at("others").addEventListener("click", () => attempt(offerUsers));
at("size").addEventListener("change", () => {
  state.before = null; // a longer list is no news
  return attempt(ask);
});
at("other").addEventListener("change", () => attempt(ask));
at("forget").addEventListener("click", () => {
  state.before = state.items;
  state.told = state.told.filter((event) => event.kept);
  return attempt(() => show());
});
await start();
