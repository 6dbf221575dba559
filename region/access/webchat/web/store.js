// What this browser knows of its users: one record each, in IndexedDB, which
// can keep a key that scripts cannot read.

const ready = new Promise((resolve, reject) => {
  const open = indexedDB.open("homing", 1);
  open.onupgradeneeded = () => open.result.createObjectStore("users", { keyPath: "uin" });
  open.onsuccess = () => resolve(open.result);
  open.onerror = () => reject(open.error);
});

async function run(mode, act) {
  const db = await ready;
  return new Promise((resolve, reject) => {
    const tx = db.transaction("users", mode);
    const request = act(tx.objectStore("users"));
    tx.oncomplete = () => resolve(request.result);
    tx.onerror = tx.onabort = () => reject(tx.error);
  });
}

export const users = () => run("readonly", (s) => s.getAll());
export const save = (user) => run("readwrite", (s) => s.put(user));
