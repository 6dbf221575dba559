// The page. Whatever a person or a server wrote goes into it as text, never as
// markup.

import { Inbox, newUser } from "./inbox.js";
import { newKey } from "./keys.js";
import { Link, newId, post } from "./link.js";
import { save, users } from "./store.js";
import { toBase64 } from "./bytes.js";

const $ = (id) => document.getElementById(id);
const settleEvery = 5000; // ms; how often the region is asked what its backup holds, while messages are kept
const polling = new URLSearchParams(location.search).get("transport") === "poll";

let user, link, inbox;
let peer = "";
const unread = new Set();

function make(tag, text, ...children) {
  const e = document.createElement(tag);
  e.textContent = text;
  e.append(...children);
  return e;
}

function problem(e) {
  $("problem").textContent = e ? e.message : "";
  $("problem").hidden = !e;
}

// on runs a form's act; what goes wrong is shown. The form keeps its text then.
function on(id, act) {
  $(id).addEventListener("submit", async (event) => {
    event.preventDefault();
    problem(null);
    try {
      if (await act() !== false) {
        event.target.reset();
      }
    } catch (e) {
      problem(e);
    }
  });
}

async function showDoor() {
  $("door").hidden = false;
  const list = await users();
  $("known").hidden = list.length === 0;
  for (const u of list) {
    const b = make("button", `${u.nickname}${u.handle ? `, @${u.handle}` : ""}, ${u.uin} of ${u.region}`);
    b.dataset.uin = u.uin;
    b.addEventListener("click", () => enter(u));
    const li = make("li", "");
    li.append(b);
    $("users").append(li);
  }
}

async function register() {
  const nickname = $("nickname").value.trim();
  if (!nickname) {
    throw new Error("say your name");
  }
  const key = await newKey();
  const r = await post(location.host, "Register",
    { nickname, deviceKey: toBase64(key.publicKey), platform: "web", idempotencyKey: newId() });
  const u = newUser(r, key, nickname);
  await save(u);
  enter(u);
}

function enter(u) {
  user = u;
  inbox = new Inbox(user, store);
  $("door").hidden = true;
  $("room").hidden = false;
  link = new Link(user, {
    state: (text, connected) => {
      $("state").textContent = text;
      $("state").className = connected ? "on" : "";
    },
    ready: () => refresh(true),
    notice: () => refresh(false),
    changed: store,
  }, polling);
  link.run();
  draw();
  setInterval(() => {
    if (user.kept.length > 0 && link.open) {
      refresh(true);
    }
  }, settleEvery);
}

let stored = Promise.resolve();
function store() {
  stored = stored.catch(() => {}).then(() => save(user)).catch(() => {
    problem(new Error("this browser keeps nothing: its storage is full or forbidden"));
  });
  return stored;
}

async function refresh(fresh) {
  try {
    if (fresh) {
      await inbox.resend(link);
    }
    const before = new Set(user.messages.map((m) => m.id));
    await inbox.sync(link);
    for (const m of user.messages) {
      const p = inbox.peer(m);
      if (!before.has(m.id) && p !== peer && m.sender !== user.uin) {
        unread.add(p);
      }
    }
  } catch (e) {
    if (!e.retryable) {
      problem(e);
    }
  }
  draw();
}

// name returns what people call a UIN, asking once for each.
const asked = new Set();
function name(uin) {
  if (uin === user.uin) {
    return user.nickname;
  }
  if (!user.names[uin] && !asked.has(uin)) {
    asked.add(uin);
    link.call("Resolve", { uin }).then((r) => {
      if (r.account) {
        remember(r.account);
      }
    }).catch(() => asked.delete(uin));
  }
  return user.names[uin] || uin;
}

function remember(account) {
  // A handle may be known here before its owner's account has arrived.
  user.names[account.uin] = [account.nickname, account.handle && `@${account.handle}`].filter(Boolean).join(" ");
  store();
  draw();
}

function words(m) {
  const s = m.body?.system;
  if (s) {
    return `${s.event.replaceAll("-", " ")}${s.members?.length ? `: ${s.members.map(name).join(", ")}` : ""}`;
  }
  return m.body?.text ?? "a kind of message that this page does not know";
}

function draw() {
  $("me").textContent = `${user.nickname}${user.handle ? `, @${user.handle}` : ""}, ${user.uin} of ${user.region}`;
  $("handle").hidden = Boolean(user.handle);
  const list = inbox.conversations();
  if (peer && !list.some(([p]) => p === peer)) {
    list.unshift([peer, null]);
  }
  $("conversations").replaceChildren(...list.map(([p, last]) => {
    const b = make("button", unread.has(p) ? `${name(p)} ●` : name(p), make("small", last ? words(last) : ""));
    b.dataset.peer = p;
    if (p === peer) {
      b.setAttribute("aria-current", "true");
    }
    b.addEventListener("click", () => choose(p));
    return make("li", "", b);
  }));
  $("compose").hidden = !peer;
  if (!peer) {
    return;
  }
  $("peer").textContent = name(peer);
  const items = user.messages.filter((m) => inbox.peer(m) === peer).map((m) => {
    const li = make("li", words(m));
    li.dataset.id = m.id;
    if (m.body?.system) {
      li.className = "system";
      return li;
    }
    const at = new Date(Number(m.sentUnixMilli)).toLocaleTimeString();
    li.className = m.sender === user.uin ? "mine" : "";
    li.append(make("small", m.sender === user.uin ? at : `${name(m.sender)}, ${at}`));
    return li;
  });
  const there = new Set(user.messages.map((m) => m.clientMessageId));
  for (const k of user.kept) {
    if (k.request.to === peer && !there.has(k.request.clientMessageId)) {
      const li = make("li", k.request.body.text, make("small", "waits to be sent"));
      li.className = "mine waiting";
      items.push(li);
    }
  }
  $("messages").replaceChildren(...items);
  $("messages").scrollTop = $("messages").scrollHeight;
}

function choose(p) {
  peer = p;
  unread.delete(p);
  draw();
  $("text").focus();
}

// find turns "@handle" or a number into a UIN.
async function find(text) {
  const word = text.trim();
  if (/^[1-9][0-9]{0,19}$/.test(word)) {
    return word;
  }
  const handle = word.replace(/^@/, "").toLowerCase();
  if (!/^[a-z][a-z0-9_.]{2,31}$/.test(handle)) {
    throw new Error(`"${word}" is neither a handle nor a number`);
  }
  const r = await link.call("Resolve", { handle });
  remember(r.account);
  return r.account.uin;
}

on("register", register);
on("open", async () => choose(await find($("whom").value)));
on("group", async () => {
  const members = await Promise.all($("group-members").value.split(/[\s,]+/).filter(Boolean).map(find));
  const r = await link.call("CreateGroup", { name: $("group-name").value.trim(), members, idempotencyKey: newId() });
  user.names[r.uin] = $("group-name").value.trim();
  choose(r.uin);
  refresh(false);
});
on("handle", async () => {
  const r = await link.call("ClaimHandle", { handle: $("handle-name").value.trim().replace(/^@/, ""), idempotencyKey: newId() });
  user.handle = r.handle;
  store();
  draw();
});
on("compose", async () => {
  const text = $("text").value;
  $("text").value = "";
  const sent = inbox.send(link, peer, text);
  draw();
  await sent;
  await refresh(false);
  return false; // what was typed meanwhile stays
});

showDoor().catch(() => problem(new Error("this browser gives pages no storage; allow it, or leave private mode")));
