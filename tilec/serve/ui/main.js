// The page: which view is shown, the theme, the token.

import { Refused, signedIn, signIn } from "./api.js";
import { h, nothing } from "./dom.js";
import { configsView } from "./configs.js";
import { studiesView } from "./studies.js";
import { studyView } from "./study.js";
import { workersView } from "./workers.js";

const PAGES = [
  ["studies", "Studies"],
  ["workers", "Workers"],
  ["configs", "Tuned configs"],
];
const THEMES = ["auto", "light", "dark"];
const main = document.getElementById("main");
let leaving = null; // aborts what the shown view waits for

function view(path, signal) {
  const [page, id] = path;
  const failed = (error) => fail(error, signal);
  if (page === "studies" && id) return studyView(id, signal, failed);
  if (page === "studies") return studiesView(signal, failed);
  if (page === "workers") return workersView(signal, failed);
  if (page === "configs") return configsView(signal, failed);
  return nothing(
    "There is no such page.",
    h("p", {}, h("a", { href: "#/studies" }, "All studies")),
  );
}

function route() {
  const path = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decoded);
  if (!path.length) path.push("studies");
  leaving?.abort();
  leaving = new AbortController();
  for (const link of document.querySelectorAll("#pages a")) {
    const here = link.hash === `#/${path[0]}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = PAGES.find(([name]) => name === path[0])?.[1] ?? "Not found";
  document.title = `${title} · tilec tuning`;
  main.replaceChildren(view(path, leaving.signal));
  scrollTo(0, 0);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// What a view shows when the service says no, in place of itself.
function fail(error, signal) {
  if (signal.aborted) return;
  leaving.abort();
  if (error instanceof Refused && error.status === 401) {
    main.replaceChildren(signInForm(signedIn() ? error.message : ""));
    main.querySelector("input").focus();
    return;
  }
  if (!(error instanceof Refused)) console.error(error);
  const words = error instanceof Refused ? error.message : "This page has a fault.";
  main.replaceChildren(
    h(
      "div",
      { class: "card", role: "alert" },
      nothing(
        error.status === 404 ? "Not found" : "This can't be shown now",
        h("p", {}, words),
        h(
          "div",
          { class: "row centred" },
          h("button", { type: "button", onclick: route }, "Try again"),
          h("a", { href: "#/studies" }, "All studies"),
        ),
      ),
    ),
  );
}

function signInForm(problem) {
  const field = h("input", {
    type: "password",
    id: "token",
    autocomplete: "off",
    required: true,
    spellcheck: "false",
  });
  return h(
    "form",
    {
      class: "card narrow",
      onsubmit: (e) => {
        e.preventDefault();
        signIn(field.value.trim());
        tools();
        route();
      },
    },
    h("h1", {}, "Sign in"),
    h(
      "p",
      {},
      "This service asks for a token. One with the scope ",
      h("code", {}, "read"),
      " is enough. It is kept in this tab only.",
    ),
    problem ? h("p", { class: "problem", role: "alert" }, problem) : null,
    h("label", { for: "token" }, "Token"),
    field,
    h("button", { type: "submit", class: "primary" }, "Sign in"),
  );
}

function themed(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem("tilec-theme", theme);
}

function tools() {
  const theme = h(
    "select",
    { "aria-label": "Colours", onchange: (e) => themed(e.target.value) },
    ...THEMES.map((t) =>
      h("option", { selected: t === (localStorage.getItem("tilec-theme") ?? "auto") }, t),
    ),
  );
  const out = h(
    "button",
    {
      type: "button",
      class: "small",
      onclick: () => {
        signIn(null);
        tools();
        route();
      },
    },
    "Sign out",
  );
  document.getElementById("tools").replaceChildren(theme, ...(signedIn() ? [out] : []));
}

const stored = localStorage.getItem("tilec-theme");
if (THEMES.includes(stored)) themed(stored);
document
  .getElementById("pages")
  .append(...PAGES.map(([name, title]) => h("a", { href: `#/${name}` }, title)));
document.querySelector(".skip").addEventListener("click", (e) => {
  e.preventDefault();
  main.focus();
});
tools();
addEventListener("hashchange", route);
route();
