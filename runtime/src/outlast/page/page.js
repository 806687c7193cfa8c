// The page: shows what /events tells, changes what changed, and says when it hears nothing more.
// Whatever it shows is put there as text; nothing that a node says is ever read as markup.
"use strict";

const WAIT_S = 10;          // how long a question may stay open
const OLD_S = 5;            // without an answer for longer than this beyond that, what is shown is old
const SHAPES = {
  ok: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Zm3.6 5.2-4.2 5-2.9-2.6 1-1.1 1.8 1.6L10.400 5.200Z",
  busy: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Zm0 1.600v10.800A5.400 5.400 0 0 1 8 2.600Z",
  off: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Zm0 1.700a5.300 5.300 0 1 1 0 10.600A5.300 5.300 0 0 1 8 2.700Z",
  warn: "M8 1.200 15.400 14.400H.6ZM7.200 6v4.200h1.600V6Zm0 5.300v1.600h1.600v-1.600Z",
  bad: "M5.100 1h5.800L15 5.100v5.800L10.900 15H5.100L1 10.900V5.100Zm.9 3.900L4.900 6 6.900 8l-2 2L6 11.100l2-2 2 2L11.100 10l-2-2 2-2L10 4.900l-2 2Z",
};
const RANK = { bad: 0, warn: 1, busy: 2, off: 3, ok: 4 };
const MODES = { normal: "ok", degraded: "warn", maintenance: "busy", emergency: "bad" };
const GROUPS = [["services", "Services"], ["jobs", "Jobs"], ["subagents", "Sub-agents"], ["probes", "Health checks"], ["skills", "Skills"], ["external", "External services"], ["shed", "Shed in this mode"]];

const by = (id) => document.getElementById(id);
let told = null;            // what /events said last
let mark = "";              // what it is known by
let skew = 0;               // the node's clock minus ours, in milliseconds
let contact = 0;            // when the node answered last, by our clock
let trouble = "";           // why it did not, if it did not
const drawn = new Map();    // what each part of the page was drawn from
const unfolded = new Set(); // what a person opened

// Making elements: text goes in as text.

function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== "" && value != null) made.setAttribute(key, value);
  made.append(...children.flat(2).filter((child) => child !== "" && child != null));
  return made;
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const shape = (level) =>
  svg("svg", { class: `mark ${level}`, viewBox: "0 0 16 16", "aria-hidden": "true" },
    svg("path", { d: SHAPES[level] || SHAPES.off, fill: "currentColor", "fill-rule": "evenodd" }));

const badge = (level, word) => el("span", { class: `badge ${level}` }, shape(level), word);

const unseen = (text) => el("span", { class: "unseen" }, text);

function age(moment, asked = "") {
  return el("time", { datetime: moment, "data-age": " ago", "data-asked": asked }, ago(moment, " ago"));
}

const lasting = (moment) => el("time", { datetime: moment, "data-age": "-" }, ago(moment, "-"));

function ago(moment, end) {
  return span((Date.now() + skew - Date.parse(moment)) / 1000) + (end === "-" ? "" : end);
}

function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) if (s >= 2 * size) return `${Math.floor(s / size)} ${unit}`;
  return `${s} s`;
}

function clock(moment) {
  const at = new Date(Date.parse(moment));
  const today = new Date(Date.now() + skew).toDateString() === at.toDateString();
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  return today ? time : `${at.toLocaleDateString([], { month: "short", day: "numeric" })}, ${time}`;
}

const number = (value) => Number(value).toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });

// Draw a part again only if what it shows changed: where a person reads or has moved to stays as it is.

function draw(id, data, make) {
  const seen = JSON.stringify(data);
  if (drawn.get(id) === seen) return;
  drawn.set(id, seen);
  const held = document.activeElement?.closest?.("details")?.dataset.key;
  by(id).replaceChildren(...[make(data)].flat());
  if (held) [...by(id).querySelectorAll("details")].find((one) => one.dataset.key === held)?.firstChild.focus();
}

function fold(key, label, content) {
  const made = el("details", { open: unfolded.has(key) ? "open" : "", "data-key": key }, el("summary", {}, label), content);
  made.addEventListener("toggle", () => (made.open ? unfolded.add(key) : unfolded.delete(key)));
  return made;
}

// The parts of the page.

function nodesOf(doc) {
  const peers = Object.entries(doc.peers).sort(([a], [b]) => a.localeCompare(b));
  return [
    { name: doc.node, own: true, state: "told", why: "", overview: doc.self },
    ...peers.map(([name, peer]) => ({ name, own: false, ...peer })),
  ];
}

function levelOf(node) {
  if (!node.overview && node.state !== "silent") return "off";
  if (node.state === "silent") return node.sleeps ? "off" : "warn";
  const level = MODES[node.overview.mode] || "warn";
  return level === "ok" && !node.overview.ready ? "warn" : level;
}

function sentences(nodes) {
  const said = [];
  for (const node of nodes) {
    const level = levelOf(node), view = node.overview;
    if (level === "ok") continue;
    const why = view && view.reasons ? `: ${view.reasons.join("; ")}` : "";
    if (node.state === "silent") said.push([level, `${node.name} does not answer${node.sleeps ? "; it may be asleep" : ""}.`]);
    else if (!view) said.push([level, node.state === "older" ? `${node.name} is of an older version, and cannot tell how it is.` : `${node.name} is being asked.`]);
    else if (view.mode !== "normal") said.push([level, `${node.name} is in ${view.mode} mode${why}.`]);
    else said.push([level, `${node.name} takes no work now${why}.`]);
  }
  return said.sort(([a], [b]) => RANK[a] - RANK[b]);
}

function drawVerdict({ nodes }) {
  const said = sentences(nodes);
  const alerts = nodes.flatMap((node) => (node.overview?.alerts || []).map((alert) => ({ ...alert, node: node.name })));
  const well = nodes.length === 1 ? `${nodes[0].name} is well.` : nodes.length === 2 ? "Both nodes are well." : `All ${nodes.length} nodes are well.`;
  if (!said.length) said.push([alerts.length ? "warn" : "ok", alerts.length ? "The nodes run, and something needs you." : well]);
  const first = said.map(([level, text]) => el("p", { class: "sentence" }, shape(level), el("span", {}, text)));
  if (!alerts.length) return [...first];
  const list = alerts.map((alert) => {
    const now = alert.state === "now", [text, mend] = (alert.note || alert.name).split("; mend: ");
    return el("li", { class: now ? "bad" : "warn" }, shape(now ? "bad" : "warn"), el("p", {}, text),
      mend ? el("p", {}, el("strong", {}, "Mend: "), mend) : "",
      el("p", { class: "said" }, `${alert.node}, needs you ${now ? "now" : "soon"}`, alert.since ? [", for ", lasting(alert.since)] : ""));
  });
  return [...first, el("ul", { class: "alerts", "aria-label": "Alerts" }, list)];
}

function itemList(items, kind = "") {
  return el("ul", { class: `items${kind}` }, items.map((item) => {
    const level = item.level || "ok";
    const when = item.next ? ["next ", el("time", { datetime: item.next }, clock(item.next))] : level !== "ok" && item.since ? ["since ", el("time", { datetime: item.since }, clock(item.since))] : [];
    const note = item.note || when.length ? el("span", { class: "note" }, item.note || "", item.note && when.length ? ", " : "", when) : "";
    return el("li", {}, shape(level), el("span", { class: "what" }, el("span", { class: "name" }, item.name), note),
      el("span", { class: `state ${level}` }, item.state));
  }));
}

// What is well and has nothing to say takes little room; what is not has a line of its own, and comes first.
function group(node, label, items) {
  const plain = items.filter((item) => (item.level || "ok") === "ok" && !item.note && !item.next);
  const rows = items.filter((item) => !plain.includes(item)).sort((a, b) => RANK[a.level || "ok"] - RANK[b.level || "ok"]);
  const shown = plain.slice(0, 12), hidden = plain.slice(12);
  return el("div", {}, el("h4", {}, label), rows.length ? itemList(rows) : "", shown.length ? itemList(shown, " chips") : "",
    hidden.length ? fold(`${node} ${label}`, `${hidden.length} more, all well`, itemList(hidden, " chips")) : "");
}

function drawNode({ node, asked }) {
  const view = node.overview, level = levelOf(node);
  const word = node.state === "silent" ? "no answer" : !view ? (node.state === "older" ? "unknown" : "asking") : view.mode === "normal" && !view.ready ? "not ready" : view.mode;
  const top = el("div", { class: "top" }, el("h3", {}, node.name), el("span", { class: "tag" }, node.own ? "this node" : "peer"), badge(level, word));
  const parts = [top];
  if (node.state === "older") parts.push(el("p", { class: "why off" }, "Unknown, older version: ", node.why));
  if (node.state === "silent") {
    const shown = view ? ["What is shown here it said ", age(asked, node.name), "."] : [];
    parts.push(el("p", { class: `why ${level}` }, `${node.why.replace(/\.$/, "")}. `, ...shown));
  } else if (view?.reasons?.length) parts.push(el("p", { class: `why ${level}` }, view.reasons.join("; ")));
  if (!view) return el("article", { class: "card", "aria-label": node.name }, parts);
  const disk = view.disk || 0, full = disk > 95 ? "bad" : disk > 85 ? "warn" : "";
  const facts = [
    ["Up for", lasting(view.since), ""],
    ["Disk in use", `${number(disk)} %`, full],
    ["Tasks open", `${(view.tasks || 0) + (view.handoffs || 0)}`, ""],
    node.own ? ["Version", view.version, ""] : ["Last answer", asked ? age(asked, node.name) : "never", ""],
  ];
  parts.push(el("dl", { class: "facts" }, facts.map(([name, value, tone]) => el("div", {}, el("dt", {}, name), el("dd", { class: tone }, value)))));
  const groups = node.own ? GROUPS : [...GROUPS, ["channels", "Its channels"]];
  for (const [key, label] of groups) if (view[key]?.length) parts.push(group(node.name, label, view[key]));
  if (view.more) parts.push(el("p", { class: "quiet" }, `and ${view.more} more that it could not tell`));
  return el("article", { class: `card${node.state === "silent" ? " is-away" : ""}`, "aria-label": node.name }, parts);
}

function incident(one) {
  const over = Boolean(one.until);
  const level = over ? "ok" : "bad";
  const what = [one.kind, one.name].filter(Boolean).join(" ");
  const lasted = over && Date.parse(one.until) - Date.parse(one.at) >= 1000 ? `, over after ${span((Date.parse(one.until) - Date.parse(one.at)) / 1000)}` : "";
  return el("li", {}, shape(level),
    el("p", {}, el("strong", {}, what), one.what ? ` ${one.what.split("; mend: ")[0]}` : "", one.times > 1 ? el("span", { class: "seq" }, ` (${one.times} times)`) : ""),
    one.done || !over ? el("p", { class: `done ${level}` }, one.done || "", over ? "" : `${one.done ? "; " : ""}holds still`) : "",
    el("p", { class: "when" }, el("time", { datetime: one.at }, clock(one.at)), lasted, over ? unseen(", over") : ""));
}

function drawTimeline(incidents) {
  if (!incidents.length) return el("p", { class: "quiet" }, "Nothing failed within the last day.");
  const list = (some) => el("ol", { class: "timeline" }, some.map(incident));
  const older = incidents.slice(6);
  return [list(incidents.slice(0, 6)), older.length ? fold("timeline", `${older.length} before that`, list(older)) : ""].filter(Boolean);
}

function drawChannels({ channels, refused }) {
  const peers = Object.entries(channels);
  if (!peers.length) return el("p", { class: "quiet" }, "This node has no peers.");
  const made = peers.map(([peer, one]) => {
    const level = one.breaker === "closed" ? "ok" : one.breaker === "open" ? "bad" : "warn";
    const facts = [
      ["Sent", number(one.sent)], ["Received", number(one.received)], ["Waiting", number(one.queued), one.queued ? "warn" : ""],
      ["Gaps", number(one.gaps), one.gaps ? "warn" : ""], ["Repeats", number(one.repeats)],
      ...(one.hour?.tried ? [["Taken, last hour", `${number(100 * one.hour.success)} %`, one.hour.success < 0.8 ? "bad" : ""]] : []),
      ["Last heard", one.last_received ? age(one.last_received) : "never"],
    ];
    return el("div", { class: "sub" }, el("div", { class: "top" }, el("h3", {}, peer), badge(level, `breaker ${one.breaker}`)),
      one.last_error ? el("p", { class: "why warn" }, one.last_error) : "",
      el("dl", { class: "facts" }, facts.map(([name, value, tone]) => el("div", {}, el("dt", {}, name), el("dd", { class: tone || "" }, value)))));
  });
  const no = Object.entries(refused || {});
  if (no.length) made.push(el("p", { class: "sub quiet" }, `Refused at the door since the start: ${no.map(([why, count]) => `${why} ${count}`).join(", ")}`));
  return made;
}

function drawWork({ open, queue, recovered }) {
  const parts = [];
  if (open.length) {
    parts.push(el("div", { class: "sub" }, el("h3", {}, "In hand"), itemList(open.map((unit) => ({
      name: unit.what || unit.unit, state: unit.kind === "handoff" ? `at ${unit.peer}` : unit.peer ? `from ${unit.peer}` : unit.kind, level: "busy", note: unit.unit,
    })))));
  }
  if (queue.entries.length) {
    const list = queue.entries.map((entry) => el("li", {}, el("span", { class: "seq" }, `#${entry.seq}`),
      el("span", { class: "what" }, el("span", { class: "name" }, entry.text || "(no text)"),
        el("span", { class: "note" }, [entry.agent, entry.depends.length ? `after #${entry.depends.join(", #")}` : ""].filter(Boolean).join(", ")))));
    parts.push(el("div", { class: "sub" }, el("h3", {}, "QUEUE.md"), el("ul", { class: "items" }, list),
      queue.more ? el("p", { class: "quiet" }, `and ${queue.more} more`) : ""));
  }
  if (recovered.length) {
    const list = recovered.slice(-4).reverse().map((one) => ({ name: one.what, state: one.at ? clock(one.at) : "", level: "ok", note: one.unit }));
    parts.push(el("div", { class: "sub" }, el("h3", {}, "Recovered after a stop"), itemList(list)));
  }
  return parts.length ? parts : el("p", { class: "quiet" }, "Nothing is in hand, and nothing waits.");
}

function spark(curve) {
  const known = curve.points.filter((point) => point !== null);
  const peak = Math.max(...known), top = curve.unit === "%" ? Math.max(100, peak) : Math.max(peak * 1.15, 1);
  const x = (at) => ((at + 0.5) / curve.points.length) * 100, y = (value) => 28 - (value / top) * 26;
  const runs = [];
  curve.points.forEach((point, at) => {
    if (point === null) return;
    if (at === 0 || curve.points[at - 1] === null) runs.push([]);
    runs[runs.length - 1].push([x(at), y(point)]);
  });
  const line = runs.map((run) => `M${run.map(([a, b]) => `${a.toFixed(2)} ${b.toFixed(2)}`).join("L")}`).join("");
  const area = runs.map((run) => `M${run[0][0].toFixed(2)} 28L${run.map(([a, b]) => `${a.toFixed(2)} ${b.toFixed(2)}`).join("L")}L${run[run.length - 1][0].toFixed(2)} 28Z`).join("");
  const end = runs[runs.length - 1].slice(-1)[0];
  const label = `${curve.label}: ${number(curve.last)} ${curve.unit} now, at most ${number(peak)} in the last six hours`;
  return el("figure", { class: "card spark" }, el("figcaption", {}, curve.label),
    el("p", { class: "value" }, number(curve.last), curve.unit ? el("small", {}, ` ${curve.unit}`) : ""),
    svg("svg", { viewBox: "0 0 100 28", preserveAspectRatio: "none", role: "img", "aria-label": label }, svg("path", { class: "base", d: "M0 28H100" }),
      svg("path", { class: "area", d: area }), svg("path", { class: "line", d: line }), svg("path", { class: "now", d: `M${end[0].toFixed(2)} ${end[1].toFixed(2)}h.01` })),
    el("p", { class: "peak" }, `peak ${number(peak)}`));
}

function drawBackup(backup) {
  const commit = backup ? el("code", {}, backup.commit.slice(0, 12)) : "";
  const said = !backup ? "The workspace is in no git repository." : backup.elsewhere ? ["commit ", commit] : ["commit ", commit, " on this disk alone: push it somewhere"];
  const level = !backup ? "off" : backup.elsewhere ? "ok" : "warn";
  return el("div", { class: "card spark" }, el("h3", { class: "label" }, backup && !backup.elsewhere ? "Last commit" : "Last backup"),
    el("p", { class: "value" }, backup ? age(backup.at) : "none yet"), shape(level), el("p", { class: "long" }, said));
}

function drawFoot({ version, node }) {
  return el("p", {}, `Outlast ${version} on ${node}. This page only shows; orders are typed: `, el("code", {}, "outlast --help"));
}

// What changed, for whoever does not see the page.

function announce(before, after) {
  const said = [];
  const old = new Map(nodesOf(before).map((node) => [node.name, node]));
  for (const node of nodesOf(after)) {
    const was = old.get(node.name);
    if (!was) continue;
    if (levelOf(was) !== levelOf(node) || was.overview?.mode !== node.overview?.mode) said.push(sentences([node])[0]?.[1] || `${node.name} is well.`);
    const known = new Set((was.overview?.alerts || []).map((alert) => alert.name)), now = node.overview?.alerts || [];
    for (const alert of now) if (!known.has(alert.name)) said.push(`Alert on ${node.name}: ${alert.note}`);
    if (known.size > now.length) said.push(`An alert on ${node.name} is over.`);
    for (const [key] of GROUPS) {
      const states = new Map((was.overview?.[key] || []).map((item) => [item.name, item.level]));
      for (const item of node.overview?.[key] || [])
        if (states.has(item.name) && states.get(item.name) !== item.level) said.push(`${item.name} on ${node.name}: ${item.state}.`);
    }
  }
  if (said.length) by("news").textContent = said.slice(0, 4).join(" ");
}

function show(doc) {
  if (told) announce(told, doc);
  told = doc;
  const nodes = nodesOf(doc);
  draw("node", doc.node, (name) => `on ${name}`);
  draw("verdict-body", { nodes }, drawVerdict);
  showNodes(doc.asked);
  draw("timeline-body", doc.timeline, drawTimeline);
  draw("channels-body", { channels: doc.channels, refused: doc.refused }, drawChannels);
  draw("work-body", { open: doc.open, queue: doc.queue, recovered: doc.recovered }, drawWork);
  draw("metrics-body", { metrics: doc.metrics, backup: doc.backup }, (shown) => [drawBackup(shown.backup), ...shown.metrics.map(spark)]);
  draw("foot", { version: doc.self.version, node: doc.node }, drawFoot);
  const level = nodes.map(levelOf).sort((a, b) => RANK[a] - RANK[b])[0];
  document.title = `${level === "ok" ? "well" : sentences(nodes)[0][1].replace(/\.$/, "")} · Outlast on ${doc.node}`;
}

function showNodes(asked) {
  const body = by("nodes-body"), nodes = nodesOf(told);
  while (body.children.length > nodes.length) body.lastChild.remove();
  nodes.forEach((node, at) => {
    const id = `node-${at}`, place = by(id) || body.appendChild(el("div", { id }));
    draw(place.id, { node, asked: Boolean(asked[node.name]) }, () => drawNode({ node, asked: asked[node.name] }));
  });
  for (const time of document.querySelectorAll("time[data-asked]")) time.dateTime = asked[time.dataset.asked] || time.dateTime;
}

// Old or not: said by the clock here, because who is gone says nothing.

function tick() {
  for (const time of document.querySelectorAll("time[data-age]")) {
    const text = ago(time.dateTime, time.dataset.age);
    if (time.textContent !== text) time.textContent = text;
  }
  const silent = (Date.now() - contact) / 1000;
  const old = contact > 0 && (trouble !== "" ? silent > OLD_S : silent > WAIT_S + OLD_S);
  document.body.classList.toggle("is-old", old || trouble !== "");
  by("contact").textContent = !contact ? trouble || "connecting" : old ? `no answer for ${span(silent)}` : "live";
  const who = told ? told.node : "The node";
  const why = trouble ? ` (${trouble})` : "";
  const since = contact ? ` What is shown is ${span(silent)} old, of ${new Date(contact).toLocaleTimeString([], { hourCycle: "h23" })}.` : "";
  const text = old || (!contact && trouble) ? `${who} does not answer${why}.` : "";
  draw("old", text, () => (text ? el("p", {}, text, el("span", { id: "since", "aria-hidden": "true" }, since)) : []));
  if (text && by("since").textContent !== since) by("since").textContent = since;
}

async function ask() {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), (WAIT_S + 15) * 1000);
  try {
    const answer = await fetch(`/events?seen=${mark}&wait=${mark ? WAIT_S : 0}`, { signal: stop.signal, cache: "no-store", credentials: "same-origin" });
    if (answer.status === 401) throw new Error("the token is not right any more; on the node: outlast dashboard --with-token");
    const doc = await answer.json();
    if (!answer.ok) throw new Error(doc.error || `HTTP ${answer.status}`);
    skew = Date.parse(doc.now) - Date.now();
    contact = Date.now();
    trouble = "";
    mark = doc.mark;
    if (doc.self) show(doc);
    else if (told) { told.asked = doc.asked; showNodes(doc.asked); }
    return true;
  } catch (error) {
    trouble = error instanceof TypeError ? "it cannot be reached" : error.name === "AbortError" ? "it took too long" : error.message;
    return false;
  } finally {
    clearTimeout(timer);
    tick();
  }
}

async function run() {
  for (let failures = 0; ; ) {
    while (document.hidden) await new Promise((then) => document.addEventListener("visibilitychange", then, { once: true }));
    failures = (await ask()) ? 0 : failures + 1;
    await new Promise((then) => setTimeout(then, failures ? Math.min(10, failures) * 1000 : 250));
  }
}

setInterval(tick, 1000);
run();
