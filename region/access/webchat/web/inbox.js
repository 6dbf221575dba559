// A user's messages in this browser: what Sync brought, and what was sent and is
// not known to be held by the region's backup.

import { newId } from "./keys.js";

const maxMessages = 2000; // kept for each user; older ones are the region's to keep

export const newUser = (r, key, nickname) => ({
  uin: r.uin, nickname, region: r.region, ticket: r.ticket, expires: Number(r.ticketExpiresUnix),
  key: key.key, publicKey: key.publicKey, endpoint: "", snapshot: "", messages: [], kept: [], names: {},
});

export class Inbox {
  constructor(user, changed) {
    this.user = user;
    this.changed = changed;
    this.syncing = null;
    this.again = false;
    this.busy = new Set(); // of what is kept: being sent now
  }

  // sync fetches what is new. A call while one runs makes it go round once more.
  sync(link) {
    if (this.syncing) {
      this.again = true;
      return this.syncing;
    }
    this.syncing = (async () => {
      try {
        do {
          this.again = false;
          await this.pages(link);
        } while (this.again);
      } finally {
        this.syncing = null;
      }
    })();
    return this.syncing;
  }

  async pages(link) {
    for (let more = true; more;) {
      const page = await link.call("Sync", { snapshot: this.user.snapshot });
      this.apply(page, link.epoch);
      more = page.more;
      await this.changed(); // messages and snapshot are stored together
    }
  }

  apply(page, epoch) {
    const u = this.user;
    const known = new Set(u.messages.map((m) => m.id));
    for (const m of page.messages || []) {
      if (!known.has(m.id)) {
        u.messages.push(m);
      }
      if (m.body?.system?.event === "message-recalled") {
        const gone = u.messages.find((k) => k.id === m.body.system.message);
        if (gone) {
          gone.body = { system: { event: "recalled" } };
        }
      }
    }
    u.messages.splice(0, Math.max(u.messages.length - maxMessages, 0));
    if (page.account) {
      u.nickname = page.account.nickname || u.nickname;
      u.handle = page.account.handle || "";
    }
    u.snapshot = page.snapshot || u.snapshot;
    this.held(page.held, epoch);
  }

  // held forgets what the backup has: see region/wire, "What a failover may lose".
  held(mark, epoch) {
    if (!mark) {
      return;
    }
    const incarnation = BigInt(mark.incarnation || 0);
    const sequence = BigInt(mark.sequence || 0);
    this.user.kept = this.user.kept.filter((k) => {
      if (!k.mark || k.epoch !== epoch) {
        return true;
      }
      const of = BigInt(k.mark.incarnation || 0);
      if (of < incarnation) {
        delete k.mark; // what it acknowledged may be gone: send it again
      }
      return of !== incarnation || BigInt(k.mark.sequence || 0) > sequence;
    });
  }

  // send keeps a message and sends it. It throws the region's refusal.
  async send(link, to, text) {
    const kept = { request: { to, clientMessageId: newId(), body: { text } }, at: Date.now() };
    this.user.kept.push(kept);
    await this.changed();
    await this.deliver(link, kept);
  }

  async deliver(link, kept) {
    if (this.busy.has(kept)) {
      return;
    }
    this.busy.add(kept);
    try {
      const r = await link.call("Send", kept.request);
      kept.mark = r.mark;
      kept.epoch = link.epoch;
      if (!r.mark) {
        this.forget(kept);
      }
    } catch (e) {
      if (!e.retryable && e.name !== "unauthenticated") {
        this.forget(kept);
        await this.changed();
        throw e;
      }
    } finally {
      this.busy.delete(kept);
    }
    await this.changed();
  }

  forget(kept) {
    this.user.kept = this.user.kept.filter((k) => k !== kept);
  }

  // resend sends what nobody acknowledged, or another epoch did, in order.
  async resend(link) {
    for (const k of [...this.user.kept]) {
      if (!k.mark || k.epoch !== link.epoch) {
        await this.deliver(link, k);
      }
    }
  }

  // peer is whom a message is talked about with.
  peer(m) { return m.to === this.user.uin ? m.sender : m.to; }

  conversations() {
    const list = new Map();
    for (const m of this.user.messages) {
      const p = this.peer(m);
      list.delete(p);
      list.set(p, m);
    }
    return [...list].reverse();
  }
}
