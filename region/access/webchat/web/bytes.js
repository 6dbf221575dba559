// Bytes as the wire wants them: see region/wire, "Proofs".

export const utf8 = (text) => new TextEncoder().encode(text);

export const toBase64 = (bytes) => btoa(String.fromCharCode(...bytes));

export const fromBase64 = (text) => Uint8Array.from(atob(text || ""), (c) => c.charCodeAt(0));

export function concat(...parts) {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

function u64(n) {
  const b = new Uint8Array(8);
  new DataView(b.buffer).setBigUint64(0, BigInt(n || 0));
  return b;
}

function str(bytes) {
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, bytes.length);
  return concat(length, bytes);
}

// raised of a missing or empty field is eight zero bytes.
const raised = (epoch) => (epoch?.raised ? fromBase64(epoch.raised) : new Uint8Array(8));

export const loginProof = (region, uin, nonce) =>
  concat(utf8("homing.login.v1\0"), str(utf8(region)), u64(uin), str(nonce));

export const connectionProof = (region, epoch, connection, nonce, uin) =>
  concat(utf8("homing.connection.v1\0"), str(utf8(region)), u64(epoch?.moves), u64(epoch?.counter), raised(epoch),
    str(connection), str(nonce), u64(uin));

// epochName tells epochs apart; their order is nobody's business here.
export const epochName = (epoch) => `${epoch?.moves || 0}/${epoch?.counter || 0}/${epoch?.raised || ""}`;
