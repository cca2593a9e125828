// What tuning found: published configs, packages for other hosts, and what must not be tried again.

import { get } from "./api.js";
import { card, grid, h, none, nothing, said, studyLink } from "./dom.js";
import { config, prefixed, time, when } from "./format.js";
import { poll } from "./poll.js";

const WINNERS = [
  ["study", (s) => studyLink(s)],
  ["config", (s) => config(s.winner.config), "mono"],
  ["time", (s) => time(s.winner.time_ms), "number"],
  ["default", (s) => time(s.winner.provenance.default_ms), "number"],
  ["device", (s) => said(s.winner.provenance.device.name)],
  ["confirmed by", (s) => s.winner.provenance.worker, "mono"],
  ["key", (s) => s.winner.key.slice(0, 12), "mono"],
];
const PACKAGES = [
  ["package", (p) => p.id.slice(0, 24), "mono"],
  ["size", (p) => `${prefixed(p.size)}B`, "number"],
  ["made", (p) => when(p.created), "number"],
];
const BLOCKED = [
  ["kernel", (b) => b.kernel.slice(0, 12), "mono"],
  ["device", (b) => (b.device ?? "any").slice(0, 12), "mono"],
  ["toolchain", (b) => b.toolchain.slice(0, 12), "mono"],
  ["config", (b) => config(b.config), "mono"],
];

export function configsView(signal, failed) {
  const [published, packages, blocked] = [1, 2, 3].map(() => h("div", {}, none("Loading …")));
  const look = async () => {
    const paths = ["studies", "packages", "blocklist"];
    const [studies, shelf, block] = await Promise.all(paths.map((p) => get(p, signal)));
    const winners = studies.studies.filter((s) => s.winner);
    published.replaceChildren(table("Tuned configs", winners, "No study has a winner yet.", WINNERS));
    packages.replaceChildren(table("Packages", shelf, "No package was made yet.", PACKAGES));
    blocked.replaceChildren(table("Blocklist", block, "Nothing is blocked.", BLOCKED));
  };
  poll(look, signal, failed, 10);
  const exported = h("code", {}, "tilec tune export");
  return h(
    "div",
    {},
    h("h1", {}, "Tuned configs"),
    card("Winners of the newest studies", { class: "flush" }, published),
    card(
      "Packages",
      { class: "flush" },
      note("Bundles for other hosts, signed where the service has a key; made with ", exported, "."),
      packages,
    ),
    card(
      "Blocklist",
      { class: "flush" },
      note(
        "Configs that took two workers down, here or where a package comes from. ",
        "They are never leased again and are in every package.",
      ),
      blocked,
    ),
  );
}

function note(...words) {
  return h("p", { class: "quiet padded" }, ...words);
}

// A table from columns: [title, function of a row, class].
function table(name, rows, empty, columns) {
  if (!rows.length) return nothing(empty);
  const heads = columns.map(([title, , kind]) => [title, kind === "number" ? kind : null]);
  const cells = (row) => columns.map(([, of, kind]) => h("td", { class: kind }, of(row)));
  return grid(
    name,
    null,
    heads,
    rows.map((row) => h("tr", {}, cells(row))),
  );
}
