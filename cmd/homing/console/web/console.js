// The page: reads one state per second from /events and shows it. Nothing here
// writes HTML; whatever a node calls itself is set as text.

import { Keyed, WorldMap } from "/map.js";

const $ = (id) => document.getElementById(id);
const map = new WorldMap($("map"));
const history = new Map(); // region -> messages/s, the last two minutes
const HISTORY = 120;
const LATE = 5; // seconds of lag from which a copy is shown as late
let newest = null; // the state shown
let arrived = 0; // when it came

/* Numbers for people. */
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const rate = (n) => (n > 0 && n < 100 ? tenth.format(n) : whole.format(n));
function age(s) {
  if (s === 0) return "0 s";
  if (s < 0.95) return s < 0.01 ? "<0.01 s" : `${s.toFixed(2)} s`;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
}
const plural = (n, one) => `${whole.format(n)} ${one}${n === 1 ? "" : "s"}`;
const sum = (list, f) => list.reduce((t, x) => t + f(x), 0);

function text(e, s) { if (e.textContent !== s) e.textContent = s; return e; }
function make(tag, cls, content) {
  const e = document.createElement(tag);
  if (cls) e.className = cls;
  if (content !== undefined) e.textContent = content;
  return e;
}
function chip(kind, content) { return make("span", "chip " + kind, content); }

/* How a copy stands: a class for colours, never the only sign. */
const BROKEN = new Set(["stalled", "diverged", "differs", "unreadable", "quarantine"]);
function grade(p) {
  if (BROKEN.has(p.state)) return "broken";
  if (p.state === "unknown") return "unknown";
  return p.state === "behind" || p.state === "bootstrap" || p.seconds >= LATE ? "late" : "live";
}
const WORSE = ["live", "late", "unknown", "broken"];
const worst = (pairs) => pairs.reduce((w, p) => {
  const a = WORSE.indexOf(grade(p)), b = w ? WORSE.indexOf(grade(w)) : -1;
  return a > b || (a === b && p.seconds > w.seconds) ? p : w;
}, null);

function regionClass(r) {
  if (r.acting !== r.id) return "away";
  if (!r.reachable) return "down";
  return r.fenced || !r.ready ? "fenced" : "";
}
function regionChip(r) {
  if (r.acting !== r.id) return chip("acts", `${r.acting} acts`);
  if (!r.reachable) return chip("bad", "no answer");
  if (r.fenced) return chip("warn", "fenced");
  return r.ready ? chip("good", "serving") : chip("warn", "starting");
}

/* The map's view of a state. */
function view(s) {
  const byRoute = new Map();
  for (const p of s.pairs) {
    const k = `${p.from} ${p.to}`;
    byRoute.set(k, [...(byRoute.get(k) ?? []), p]);
  }
  const arcs = [];
  const crowded = byRoute.size > 12; // then only what is late, and full copies, are labelled
  for (const [route, pairs] of byRoute) {
    const [from, to] = route.split(" ");
    const home = s.regions.find((r) => r.id === from);
    const nth = home ? home.backups.indexOf(to) + 1 : 0, full = pairs.some((p) => p.stream === "full");
    const w = worst(pairs), g = grade(w);
    arcs.push({
      key: `${from}-${to}`, from, to, cls: `${full ? "full " : ""}${g}`,
      text: g === "unknown" || (crowded && g === "live" && !full) ? "" : g === "broken" ? w.state : age(w.seconds),
      title: `${from} to ${to}${nth ? ` (backup ${nth})` : ""}: ` + pairs.map((p) => `${p.stream} ${p.state}, ${age(p.seconds)}, ${plural(p.records, "record")}`).join("; "),
    });
  }
  for (const r of s.regions) {
    if (r.acting === r.id) continue;
    arcs.push({ key: `acts-${r.id}`, acts: true, from: r.id, to: r.acting, cls: "acts", text: `${r.acting} acts for ${r.id}`, title: `${r.acting} acts for ${r.id}, term ${r.term}` });
  }
  const served = s.regions.map((r) => (r.acting === r.id ? `${r.title} serves itself` : `${r.acting} acts for ${r.title}`));
  const most = Math.max(1, ...s.pops.map((p) => p.connections));
  const sick = s.pops.filter((p) => !p.healthy).map((p) => p.id);
  return {
    summary: `World map: ${plural(s.regions.length, "region")}, ${plural(s.pops.length, "POP")}. ${served.join(", ")}. ` +
      `${sick.length ? "Not healthy: " + sick.join(", ") : "All POPs healthy"}. The tables below say the same.`,
    arcs,
    regions: s.regions.map((r) => {
      const away = r.acting !== r.id;
      return {
        key: "r:" + r.id, lat: r.lat, lon: r.lon, name: r.title || r.id, cls: regionClass(r),
        sub: away ? `term ${r.term}` : !r.reachable ? "no answer" : `${plural(r.users, "user")}, ${rate(r.messagesPerSecond)} msg/s`,
        subCls: away ? "away" : r.reachable ? "" : "bad",
        title: `${r.title} (${r.id}): acting ${r.acting}, term ${r.term}, backups ${r.backups.join(", ") || "none"}`,
      };
    }),
    pops: s.pops.map((p) => ({
      key: "p:" + p.id, lat: p.lat, lon: p.lon, near: p.near, name: p.title || p.id, share: p.connections / most,
      cls: !p.healthy ? "down" : p.drain ? "drain" : "",
      title: `${p.title} (${p.id}): ${p.healthy ? (p.drain ? "draining" : "healthy") : "not healthy"}, ${plural(p.connections, "connection")}`,
    })),
  };
}

/* Totals. */
function showTotals(s) {
  text($("zone"), s.world.zone);
  text($("total-users"), whole.format(sum(s.regions, (r) => r.users)));
  text($("total-messages"), rate(sum(s.regions, (r) => r.messagesPerSecond)));
  text($("total-pops"), whole.format(sum(s.pops, (p) => p.connections)));
  const w = worst(s.pairs);
  text($("worst-lag"), !w ? "–" : grade(w) === "unknown" ? "unknown" : age(w.seconds));
  text($("world-version"), "v" + s.world.version);
  text($("world-hash"), s.world.hash.slice(0, 8));
  $("world-hash").title = s.world.hash;
  const state = s.world.inForce ? (s.world.forced ? "forced" : "") : "not in force";
  text($("world-state"), state).hidden = !state;
  document.title = `${s.alarms.some((a) => a.severity === "critical") ? "(!) " : ""}Homing ${s.world.zone}`;
}

/* Regions. */
const cards = new Keyed($("regions"));
const SPARK = { w: 116, h: 36 };
function spark(svg, values) {
  const top = Math.max(1, ...values), n = values.length;
  const points = values.map((v, i) => `${((SPARK.w * (HISTORY - n + i)) / (HISTORY - 1)).toFixed(1)},${(SPARK.h - 2 - ((SPARK.h - 4) * v) / top).toFixed(1)}`);
  svg.querySelector("polyline").setAttribute("points", points.join(" "));
  const first = ((SPARK.w * (HISTORY - n)) / (HISTORY - 1)).toFixed(1);
  svg.querySelector("path").setAttribute("d", n > 1 ? `M${first},${SPARK.h}L${points.join("L")}L${SPARK.w},${SPARK.h}Z` : "");
  svg.setAttribute("aria-label", `messages per second over the last ${n} seconds, at most ${rate(Math.max(...values))}`);
}
function newCard() {
  const card = document.createDocumentFragment();
  const h = make("h3"); h.append(make("span"), make("code"), make("small"));
  const who = make("p", "who");
  const dl = make("dl", "numbers");
  for (const [k, label] of [["users", "users"], ["rate", "messages/s"], ["connections", "connections"]]) {
    const d = make("div"); const dd = make("dd"); dd.dataset.k = k;
    d.append(make("dt", "", label), dd); dl.append(d);
  }
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "spark"); svg.setAttribute("role", "img");
  svg.setAttribute("viewBox", `0 0 ${SPARK.w} ${SPARK.h}`); svg.setAttribute("preserveAspectRatio", "none");
  for (const tag of ["path", "polyline"]) svg.append(document.createElementNS(svg.namespaceURI, tag));
  const head = make("header"), body = make("div", "body");
  head.append(h, who); body.append(dl, svg);
  card.append(head, body, make("p", "loss"));
  return card;
}
function showRegions(s) {
  cards.begin();
  for (const r of s.regions) {
    const card = cards.get(r.id, "article");
    if (!card.firstChild) card.append(newCard());
    card.className = "panel region " + regionClass(r);
    card.dataset.region = r.id;
    card.dataset.acting = r.acting;
    text(card.querySelector("h3 span"), r.title || r.id);
    text(card.querySelector("h3 code"), r.id);
    text(card.querySelector("h3 small"), `term ${r.term}`);
    const others = s.regions.filter((o) => o.acting === r.id && o.id !== r.id).map((o) => o.id);
    const who = card.querySelector(".who");
    who.replaceChildren(regionChip(r), ...(others.length ? [" ", chip("acts", "acts for " + others.join(", "))] : []));
    for (const [k, v] of [["users", whole.format(r.users)], ["rate", rate(r.messagesPerSecond)], ["connections", whole.format(r.connections)]]) {
      text(card.querySelector(`[data-k=${k}]`), r.reachable ? v : "–");
    }
    spark(card.querySelector(".spark"), history.get(r.id));
    const loss = card.querySelector(".loss");
    loss.replaceChildren(...lossText(s, r));
  }
  cards.end();
}
function lossText(s, r) {
  const behind = r.worldVersion && r.worldVersion !== s.world.version ? [` · still at world v${r.worldVersion}`] : [];
  if (!r.loss) return [`Backups ${r.backups.join(", ") || "none"}`, ...behind];
  if (r.loss.single) return [make("b", "", "Single copy: "), "no backup is caught up", ...behind];
  return ["If it died now: ", make("b", "", `${age(r.loss.seconds)} / ${plural(r.loss.records, "record")}`), ` not yet in ${r.loss.backup}`, ...behind];
}

/* Tables. */
const pairRows = new Keyed($("pairs")), popRows = new Keyed($("pop-rows")), nodeRows = new Keyed($("node-rows"));
function cells(pairs) {
  if (!pairs.length) return [make("span", "quiet", "–")];
  return pairs.map((p) => {
    const g = grade(p), c = make("div", "cell " + g);
    c.dataset.pair = `${p.from} ${p.to} ${p.stream}`;
    c.append(make("span", "dot " + ({ late: "warn", broken: "bad", unknown: "none" }[g] ?? "")));
    if (g === "unknown") c.append("unknown");
    else c.append(age(p.seconds), make("span", "quiet", ` · ${whole.format(p.records)}`));
    if (p.state !== "live" && g !== "unknown") c.append(" ", make("small", "", p.state));
    if (p.stream.startsWith("to-") && p.stream !== "to-" + p.to) c.append(make("span", "quiet", " for " + p.stream.slice(3)));
    return c;
  });
}
function showPairs(s) {
  pairRows.begin();
  const nth = (id) => { const i = s.regions.findIndex((r) => r.id === id); return i < 0 ? s.regions.length : i; };
  const routes = [...new Set(s.pairs.map((p) => `${p.from} ${p.to}`))].sort((a, b) => {
    const [af, at] = a.split(" "), [bf, bt] = b.split(" ");
    return nth(af) - nth(bf) || nth(at) - nth(bt);
  });
  for (const route of routes) {
    const [from, to] = route.split(" ");
    const pairs = s.pairs.filter((p) => p.from === from && p.to === to);
    const home = s.regions.find((r) => r.id === from);
    const backup = home ? home.backups.indexOf(to) + 1 : 0;
    const row = pairRows.get(route, "tr");
    const th = make("th", "", from); th.scope = "row";
    const td = make("td", "", to);
    if (backup) td.append(make("span", "quiet", ` backup ${backup}`));
    const by = [pairs.filter((p) => p.stream === "full"), pairs.filter((p) => p.stream === "shared"), pairs.filter((p) => p.stream !== "full" && p.stream !== "shared")];
    row.replaceChildren(th, td, ...by.map((list) => { const e = make("td"); e.append(...cells(list)); return e; }));
  }
  pairRows.end();
}
function showPOPs(s) {
  const head = make("tr");
  for (const h of ["POP", "near"]) { const th = make("th", "", h); th.scope = "col"; head.append(th); }
  for (const h of ["conns", ...s.regions.map((r) => r.id)]) { const th = make("th", "n", h); th.scope = "col"; head.append(th); }
  $("pop-head").replaceChildren(head);
  popRows.begin();
  for (const p of s.pops) {
    const row = popRows.get(p.id, "tr");
    row.dataset.pop = p.id;
    const th = make("th"); th.scope = "row";
    th.append(make("span", "dot " + (!p.healthy ? "bad" : p.drain ? "warn" : "")), p.title || p.id, make("code", "", p.id));
    if (!p.healthy) th.append(" ", chip("bad", "down"));
    else if (p.drain) th.append(" ", chip("warn", "drain"));
    row.replaceChildren(th, make("td", "", p.near), make("td", "n", whole.format(p.connections)),
      ...s.regions.map((r) => make("td", "n" + (r.id === p.near ? " near" : ""), p.rttMillis[r.id] === undefined ? "–" : rate(p.rttMillis[r.id]))));
  }
  popRows.end();
}
function showNodes(s) {
  nodeRows.begin();
  for (const [kind, list] of [["dns", s.dns], ["ids", s.ids]]) {
    for (const n of list) {
      const row = nodeRows.get(`${kind} ${n.name}`, "tr");
      row.dataset.node = n.name;
      const th = make("th"); th.scope = "row";
      th.append(make("span", "dot " + (n.healthy ? "" : "bad")), n.name);
      if (!n.healthy) th.append(" ", chip("bad", "down"));
      th.append(make("code", "", n.address));
      row.replaceChildren(th, make("td", "n", rate(n.perSecond)));
    }
  }
  nodeRows.end();
}

/* Alarms, and what a screen reader is told of at once. */
const alarmItems = new Keyed($("alarm-list"));
function showAlarms(s) {
  $("alarms").hidden = s.alarms.length === 0;
  alarmItems.begin();
  for (const a of s.alarms) {
    const li = alarmItems.get(`${a.severity} ${a.subject} ${a.text}`, "li");
    li.className = "alarm " + (["critical", "warning"].includes(a.severity) ? a.severity : "notice");
    const since = (Date.parse(s.time) - Date.parse(a.since)) / 1000;
    li.replaceChildren(make("span", "sev", a.severity), make("b", "", a.subject), make("span", "", a.text),
      make("span", "quiet", a.hint), make("span", "since quiet", since >= 0 && since < 1e8 ? `for ${age(Math.round(since))}` : ""));
  }
  alarmItems.end();
}
function announce(before, s) {
  const said = [];
  for (const r of s.regions) {
    const old = before?.regions.find((o) => o.id === r.id);
    if (old && old.acting !== r.acting) said.push(r.acting === r.id ? `${r.title} serves itself again` : `${r.acting} now acts for ${r.title}`);
  }
  const known = new Set((before?.alarms ?? []).map((a) => a.subject + a.text));
  for (const a of s.alarms) if (a.severity === "critical" && !known.has(a.subject + a.text)) said.push(`Alarm: ${a.subject}: ${a.text}`);
  if (said.length) text($("announce"), said.join(". "));
}

function show(s) {
  for (const r of s.regions) {
    const h = history.get(r.id) ?? [];
    h.push(r.messagesPerSecond);
    history.set(r.id, h.slice(-HISTORY));
  }
  announce(newest, s);
  newest = s;
  arrived = performance.now();
  showTotals(s); showAlarms(s); showRegions(s); showPairs(s); showPOPs(s); showNodes(s);
  map.draw(view(s));
  live();
}

/* The feed. A browser gives up on a refused stream, so the page tries again. */
function live() {
  const e = $("live"), old = !newest || performance.now() - arrived > 3500;
  e.className = old ? "off" : "on";
  document.body.classList.toggle("stale", old && newest !== null);
  text(e, old ? (newest ? "connection lost" : "connecting") : new Date(newest.time).toLocaleTimeString("en-GB"));
}
function listen() {
  const feed = new EventSource("/events");
  feed.addEventListener("state", (event) => show(JSON.parse(event.data)));
  feed.onerror = () => {
    if (feed.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  };
}
setInterval(live, 1000);
new ResizeObserver(() => newest && map.draw(view(newest))).observe($("map"));

/* Colours: as the system says, or as the person chose. */
const THEMES = ["auto", "dark", "light"];
function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  text($("theme"), name).setAttribute("aria-label", `Colours: ${name}. Press to change.`);
}
function remembered() { try { return localStorage.getItem("theme") ?? "auto"; } catch { return "auto"; } }
$("theme").addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf($("theme").textContent) + 1) % THEMES.length];
  try { localStorage.setItem("theme", next); } catch { /* private window: until the page closes */ }
  theme(next);
});
theme(THEMES.includes(remembered()) ? remembered() : "auto");
listen();
