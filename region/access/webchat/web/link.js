// A link keeps one user connected to the region that acts for the user, as the
// package comment of region/client says for the Go client.

import { connectionProof, epochName, fromBase64, loginProof, toBase64 } from "./bytes.js";
import { keyId, newId, random, sign } from "./keys.js";
import { open } from "./pipe.js";

const wireVersion = 1;
const clientVersion = 80003;
const answerLimit = 20000; // ms; longer than a region works on a request
const backoffMin = 200; // ms
const backoffMax = 30000; // ms
const maxRedirects = 3; // in a row, without a pause

export class Refusal extends Error {
  constructor(error) {
    super(error.hint ? `${error.message} (${error.hint})` : error.message);
    this.name = error.name || "";
    this.retryable = Boolean(error.retryable);
    this.redirect = error.redirect;
  }
}

const lost = () => new Refusal({ name: "unavailable", message: "the connection ended", retryable: true });

const sleep = (ms, signal) => new Promise((resolve) => {
  const t = setTimeout(resolve, ms);
  signal?.addEventListener("abort", () => {
    clearTimeout(t);
    resolve();
  });
});

// post makes a call that needs no connection: Register, Challenge and Login.
export async function post(host, method, body, uin) {
  const headers = { "Content-Type": "application/json" };
  if (uin) {
    headers["Homing-Uin"] = uin;
  }
  const r = await fetch(`${location.protocol}//${host}/homing.v1.IM/${method}`,
    { method: "POST", credentials: "omit", headers, body: JSON.stringify(body) });
  const answer = await r.json().catch(() => ({}));
  if (r.ok) {
    return answer;
  }
  const to = r.headers.get("Homing-Redirect");
  throw new Refusal({
    name: answer.code, message: answer.message || `${host} answers ${r.status}`, retryable: r.status >= 500,
    redirect: to ? { endpoints: to.split(",") } : undefined,
  });
}

// login exchanges a signed challenge for a ticket.
async function login(host, user) {
  const id = toBase64(await keyId(user.publicKey));
  for (let hops = 0; ; hops++) {
    try {
      const challenge = await post(host, "Challenge", { uin: user.uin, deviceKeyId: id }, user.uin);
      const signature = await sign(user.key, loginProof(challenge.region, user.uin, fromBase64(challenge.nonce)));
      return await post(host, "Login", { uin: user.uin, deviceKeyId: id, nonce: challenge.nonce, signature: toBase64(signature) }, user.uin);
    } catch (e) {
      if (!e.redirect || hops === maxRedirects) {
        throw e;
      }
      host = e.redirect.endpoints[0];
    }
  }
}

// Link's hooks: state(text, connected), ready(epoch), notice(), changed() when
// the user's record has to be saved.
export class Link {
  constructor(user, hooks, polling) {
    this.user = user;
    this.hooks = hooks;
    this.polling = polling;
    this.connection = random(16);
    this.world = "0";
    this.sequence = 0;
    this.pending = new Map();
    this.ends = new AbortController();
    this.pipe = null;
    this.waiters = [];
    this.epoch = "";
  }

  stop() {
    this.ends.abort();
    this.pipe?.close();
    this.drop();
  }

  // run connects, serves, and connects again until stop.
  async run() {
    let next = "";
    let failures = 0;
    let redirects = 0;
    while (!this.ends.signal.aborted) {
      // What worked last goes first; where the page came from is the last resort.
      const host = next || (failures < 2 && this.user.endpoint) || location.host;
      next = "";
      this.left = null;
      const began = performance.now();
      try {
        await this.serve(host);
        failures = performance.now() - began > 5000 ? 0 : failures + 1;
      } catch (e) {
        if (e.redirect && redirects < maxRedirects) {
          this.left = { redirect: e.redirect };
        } else if (["unauthenticated", "forbidden", "unsupported", "bad-input"].includes(e.name)) {
          this.hooks.state(`refused: ${e.message}`, false);
          return;
        } else {
          failures++;
          this.hooks.state(`not connected: ${e.message}`, false);
        }
      }
      this.drop();
      if (this.ends.signal.aborted) {
        return;
      }
      if (this.left?.redirect?.endpoints?.length) {
        redirects++;
        next = this.left.redirect.endpoints[0];
        this.world = this.left.redirect.worldVersion || this.world;
        this.hooks.state(`redirected to ${this.left.redirect.acting || next}`, false);
        continue;
      }
      redirects = 0;
      if (this.left?.delay) {
        this.hooks.state("the server asked to come back in a moment", false);
        await sleep(Math.random() * this.left.delay, this.ends.signal);
        continue;
      }
      const pause = Math.min(backoffMin * 2 ** failures, backoffMax);
      await sleep(pause / 2 + Math.random() * pause / 2, this.ends.signal);
    }
  }

  // serve is one connection from its start to its end.
  async serve(host) {
    let over;
    const end = new Promise((resolve) => { over = resolve; });
    this.pipe = await open(host, this.user.uin, this.polling, (e) => this.receive(e), over);
    this.over = () => {
      this.pipe?.close();
      over();
    };
    const handshake = (async () => {
      try {
        await this.handshake();
      } catch (e) {
        if (e.name !== "unauthenticated" || this.renewed) {
          throw e;
        }
        // The region ends a connection whose ticket is not good: a new ticket, a
        // new connection.
        this.renewed = true;
        await this.renew(host);
        throw new Refusal({ name: "unavailable", message: "the ticket was renewed", retryable: true });
      }
    })();
    await Promise.race([handshake, end.then(() => { throw lost(); })]);
    this.renewed = false;
    this.user.endpoint = host;
    this.hooks.changed();
    this.open = true;
    this.hooks.state(`connected to ${this.region} by ${this.pipe.kind}${this.pop ? ` through ${this.pop}` : ""}`, true);
    this.waiters.splice(0).forEach((w) => w());
    this.hooks.ready(this.epoch);
    const beat = setInterval(() => this.ask("Heartbeat", { worldVersion: this.world }).catch(this.over), this.heartbeat * 1000);
    await end;
    clearInterval(beat);
    this.hooks.state("disconnected", false);
  }

  async handshake() {
    const hello = await this.ask("Hello", {
      wireVersion, uin: this.user.uin, clientVersion, platform: "web", worldVersion: this.world,
      deviceKeyId: toBase64(await keyId(this.user.publicKey)), ticket: this.user.ticket, connectionId: toBase64(this.connection),
    });
    if (hello.method === "Redirect") {
      throw new Refusal({ name: "wrong-region", message: "another region acts for this user", redirect: hello.body });
    }
    this.region = hello.body.region;
    this.pop = hello.body.pop;
    this.ownerEpoch = hello.body.epoch;
    this.epoch = epochName(this.ownerEpoch);
    this.world = hello.body.worldVersion || this.world;
    await this.prove(hello.body.nonce);
  }

  // prove signs a nonce of the server's.
  async prove(nonce, ticket) {
    const bytes = connectionProof(this.region, this.ownerEpoch, this.connection, fromBase64(nonce), this.user.uin);
    const reply = await this.ask("Reauth", { nonce, ticket, signature: toBase64(await sign(this.user.key, bytes)) });
    this.heartbeat = Math.max(reply.body.heartbeatSeconds || 1, 1);
  }

  async renew(host) {
    const r = await login(host, this.user);
    this.user.ticket = r.ticket;
    this.user.expires = Number(r.ticketExpiresUnix);
    this.hooks.changed();
  }

  // ask sends one request on this connection and returns the answer's envelope.
  ask(method, body) {
    return new Promise((resolve, reject) => {
      if (!this.pipe) {
        reject(lost());
        return;
      }
      const sequence = ++this.sequence;
      const late = setTimeout(() => {
        this.pending.delete(sequence);
        reject(lost());
      }, answerLimit);
      this.pending.set(sequence, { resolve, reject, late });
      this.pipe.send({ method, sequence, body });
    });
  }

  // call makes one call of homing.v1.IM, again until it is answered or limit has
  // passed; so a mutation needs its idempotency key.
  async call(method, body, limit = 30000) {
    const until = performance.now() + limit;
    for (let tries = 1; ; tries++) {
      try {
        await this.connected(until);
        return (await this.ask(method, body)).body || {};
      } catch (e) {
        if (!e.retryable || performance.now() > until || this.ends.signal.aborted) {
          throw e;
        }
        await sleep(Math.min(backoffMin * 2 ** tries, 5000), this.ends.signal);
      }
    }
  }

  connected(until) {
    if (this.open) {
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const t = setTimeout(() => reject(lost()), Math.max(until - performance.now(), 0));
      this.waiters.push(() => {
        clearTimeout(t);
        resolve();
      });
    });
  }

  receive(e) {
    if (e.response) {
      const p = this.pending.get(e.sequence);
      this.pending.delete(e.sequence);
      clearTimeout(p?.late);
      if (e.error) {
        p?.reject(new Refusal(e.error));
      } else {
        p?.resolve(e);
      }
      return;
    }
    switch (e.method) {
      case "Notice":
        this.hooks.notice();
        break;
      case "Redirect":
        this.left = { redirect: e.body };
        this.over();
        break;
      case "GoAway":
        this.left = e.error ? { delay: 1000 } : { delay: Math.max(e.body?.delayMilli || 0, 1) };
        this.over();
        break;
      case "Rehomed":
        this.region = e.body.region;
        this.ownerEpoch = e.body.epoch;
        this.epoch = epochName(this.ownerEpoch);
        this.fail();
        this.hooks.ready(this.epoch);
        break;
      case "Reauth":
        this.reprove(e.body.nonce).catch(this.over);
        break;
    }
  }

  // reprove answers a demand of the server's, with a new ticket when the old one
  // is about to end.
  async reprove(nonce) {
    const soon = Date.now() / 1000 + 300;
    if (!this.user.expires || this.user.expires < soon) {
      await this.renew(this.user.endpoint);
    }
    await this.prove(nonce, this.user.ticket);
  }

  // fail answers whoever waits: what became of it is not known.
  fail() {
    for (const p of this.pending.values()) {
      clearTimeout(p.late);
      p.reject(lost());
    }
    this.pending.clear();
  }

  drop() {
    this.open = false;
    this.pipe?.close();
    this.pipe = null;
    this.fail();
  }
}

export { newId };
