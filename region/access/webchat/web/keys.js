// The device key: made here, kept by the browser, never readable by a script.

const kind = { name: "Ed25519" };

// newKey makes one, or throws where the browser has no Ed25519 (Chromium and
// Edge before 137, Firefox before 129, Safari before 17), or where the page came
// by plain HTTP from anywhere but this machine.
export async function newKey() {
  if (!window.isSecureContext) {
    throw new Error("a browser makes keys for pages by HTTPS only; ask for this page by https://");
  }
  let pair;
  try {
    pair = await crypto.subtle.generateKey(kind, false, ["sign", "verify"]);
  } catch {
    throw new Error("this browser cannot make Ed25519 keys; update it");
  }
  return { key: pair.privateKey, publicKey: new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey)) };
}

export async function keyId(publicKey) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", publicKey)).slice(0, 8);
}

export async function sign(key, bytes) {
  return new Uint8Array(await crypto.subtle.sign(kind, key, bytes));
}

export const random = (n) => crypto.getRandomValues(new Uint8Array(n));

export const newId = () => [...random(12)].map((b) => b.toString(16).padStart(2, "0")).join("");
