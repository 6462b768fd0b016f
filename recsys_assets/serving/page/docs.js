// The page of the interface: every operation of openapi.json, what it takes, and what it answers.

import { get, onMissingToken } from "./api.js";
import { make } from "./lists.js";
import { askForToken, at, attempt } from "./panels.js";

const DEEPEST = 4; // levels of forms within forms that are listed

let components = {};

async function start() {
  onMissingToken(askForToken);
  await attempt(async () => {
    const described = await get("/openapi.json");
    components = described.components.schemas;
    at("operations").replaceChildren(...described.tags.map((group) => section(group, described.paths)));
  });
}

/** The operations of a group. */
function section({ name, description }, paths) {
  const found = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([, operation]) => operation.tags.includes(name))
      .map(([method, operation]) => shown(method.toUpperCase(), path, operation)),
  );
  return make("section", { className: "group" }, make("h2", {}, name), make("p", { className: "quiet" }, description), ...found);
}

function shown(method, path, operation) {
  const summary = make(
    "summary",
    {},
    make("strong", { className: "method" }, method),
    make("code", {}, path),
    make("span", { className: "quiet" }, firstSentence(operation.description)),
  );
  const body = operation.requestBody?.content["application/json"].schema;
  return make(
    "details",
    { className: "who", id: operation.operationId },
    summary,
    ...part("Parameters", operation.parameters?.length ? [table(operation.parameters.map(ofParameter))] : []),
    ...part("Body", body ? formOf(body) : []),
    ...part("Answer", Object.values(operation.responses[200].content).flatMap(({ schema }) => formOf(schema))),
    make("details", {}, make("summary", {}, "Refusals"), refusals(operation.responses)),
  );
}

function part(title, content) {
  return content.length ? [make("h3", {}, title), ...content] : [];
}

function ofParameter({ name, schema, required, description }) {
  return { name, schema, required, about: description ?? schema.description };
}

/** A form as tables: its own keys, then those of the forms within it; and an example. */
function formOf(schema) {
  const names = [...new Set(named(schema, DEEPEST))];
  const tables = names.map((name) => make("div", {}, make("h4", {}, name), keysOf(components[name])));
  const example = names.map((name) => components[name].examples?.[0]).find(Boolean);
  const code = make("pre", { tabIndex: 0, "aria-label": "Example", role: "group" }, JSON.stringify(example, null, 2));
  if (!names.length) return [make("p", {}, kindOf(schema))];
  return [...(example ? [code] : []), make("details", {}, make("summary", {}, "Keys"), ...tables)];
}

function keysOf({ properties = {}, required = [], additionalProperties }) {
  const rows = Object.entries(properties).map(([name, schema]) => ({
    name,
    schema,
    required: required.includes(name),
    about: schema.description,
  }));
  if (additionalProperties === true) rows.push({ name: "…", schema: {}, about: "columns that fields names" });
  return table(rows);
}

/** The names of the forms in a schema, down to a depth. */
function named(schema, depth) {
  if (!depth) return [];
  const name = schema.$ref?.split("/").pop();
  const inner = name ? Object.values(components[name].properties ?? {}) : within(schema);
  return [...(name && components[name].properties ? [name] : []), ...inner.flatMap((each) => named(each, depth - 1))];
}

function within({ anyOf = [], oneOf = [], items, additionalProperties }) {
  const further = typeof additionalProperties === "object" ? [additionalProperties] : [];
  return [...anyOf, ...oneOf, ...(items ? [items] : []), ...further];
}

function table(rows) {
  const head = ["Name", "Type", "Meaning"].map((title) => make("th", { scope: "col" }, title));
  const lines = rows.map(({ name, schema, required, about = "" }) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, make("code", {}, name), required ? " required" : ""),
      make("td", {}, kindOf(schema)),
      make("td", {}, plain(about)),
    ),
  );
  return make("table", { className: "keys" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...lines));
}

/** A type in words, with its limits. */
function kindOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  const either = [...new Set([...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].map(kindOf))];
  if (either.length) return either.join(" or ");
  if (schema.enum ?? schema.const) return (schema.enum ?? [schema.const]).join(", ");
  if (schema.items) return `list of ${kindOf(schema.items)}${limits(schema.minItems, schema.maxItems)}`;
  if (typeof schema.additionalProperties === "object") return `map to ${kindOf(schema.additionalProperties)}`;
  const [least, most] = [schema.minimum ?? schema.minLength, schema.maximum ?? schema.maxLength];
  return `${schema.type ?? "anything"}${limits(least, most)}`;
}

function limits(least, most) {
  if (least === undefined && most === undefined) return "";
  return most === undefined ? ` (from ${least})` : ` (${least ?? 0} to ${most.toLocaleString("en")})`;
}

/** The refusals of an operation. */
function refusals(responses) {
  const said = Object.entries(responses).filter(([status]) => status >= "400");
  return make("ul", {}, ...said.map(([status, { description }]) => make("li", {}, `${status}: ${description}`)));
}

/** A text without the marks of code. */
function plain(text) {
  return text.replaceAll("`", "");
}

function firstSentence(text) {
  return ` ${plain(text.split("\n")[0])}`;
}

await start();
