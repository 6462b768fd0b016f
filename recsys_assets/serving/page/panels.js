// Parts of the page besides the lists: messages, the dialogs, and the table of times.

import { Refusal } from "./api.js";
import { itemRow, make, nameOf, number } from "./lists.js";

export const at = (id) => document.getElementById(id);

/** Say something to everybody, readers of the screen and those who listen to it. */
export function say(sentence) {
  at("said").textContent = sentence;
}

/** Run what a person asked for; a refusal is shown, with the sentence of its problem document. */
export async function attempt(work) {
  at("notice").hidden = true;
  document.body.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    at("notice").textContent = error.message;
    at("notice").hidden = false;
  } finally {
    document.body.removeAttribute("aria-busy");
  }
}

/** Ask a person for the token of the service. */
export function askForToken(wrong) {
  const [dialog, field] = [at("asks"), at("token")];
  if (wrong) at("token-about").textContent = wrong;
  field.value = "";
  dialog.oncancel = (event) => event.preventDefault(); // without a token there is nothing to see
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(field.value);
  });
}

/** Show what is like an item. */
export function showAlike(item, items, shown) {
  at("alike-title").textContent = `Similar to ${nameOf(item, shown)}`;
  const rows = items.map((each) => itemRow(each, shown));
  at("alike-items").replaceChildren(...(rows.length ? rows : [make("li", {}, "No table lists an item like it.")]));
  at("alike").showModal();
}

/** The milliseconds of each step, `{step: milliseconds}`, the longest first, and of the whole request. */
export function showTimes(steps, whole) {
  const rows = Object.entries(steps).sort(([, one], [, other]) => other - one);
  at("times-about").textContent = rows.length
    ? `The answer was here after ${rounded(whole)} ms, with the way through the browser.`
    : `The answer was here after ${rounded(whole)} ms. The service does not tell the time of its steps.`;
  at("steps").replaceChildren(
    ...rows.map(([name, time]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, rounded(time)))),
  );
  at("steps").parentElement.tHead.hidden = !rows.length;
}

function rounded(milliseconds) {
  return number(Math.round(milliseconds * 100) / 100);
}
