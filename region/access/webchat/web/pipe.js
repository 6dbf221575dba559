// A pipe carries envelopes to a region and back: see "Web" in the package
// comment of region/access. Both kinds are used alike: send(envelope), close(),
// and the two functions given to open.

const pollWait = 20000; // ms; proxies give up at 30 s
const answerLimit = 15000; // ms beyond it

const scheme = (http) => http + (location.protocol === "https:" ? "s:" : ":");

// open resolves when envelopes can be sent. onEnd is called once, unless close
// was.
export async function open(host, uin, polling, onEnvelope, onEnd) {
  if (!polling) {
    try {
      return await webSocket(host, uin, onEnvelope, onEnd);
    } catch {
      // Networks that break WebSockets let plain requests pass.
    }
  }
  return longPoll(host, uin, onEnvelope, onEnd);
}

function webSocket(host, uin, onEnvelope, onEnd) {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(`${scheme("ws")}//${host}/ws?uin=${uin}`);
    const late = setTimeout(() => ws.close(), 5000);
    let opened = false;
    let closed = false;
    ws.onopen = () => {
      clearTimeout(late);
      opened = true;
      resolve({
        kind: "WebSocket",
        send: (e) => ws.send(JSON.stringify(e)),
        close: () => {
          closed = true;
          ws.close();
        },
      });
    };
    ws.onmessage = (m) => onEnvelope(JSON.parse(m.data));
    ws.onclose = () => {
      clearTimeout(late);
      if (!opened) {
        reject(new Error(`${host} takes no WebSocket`));
      } else if (!closed) {
        onEnd();
      }
    };
  });
}

async function longPoll(host, uin, onEnvelope, onEnd) {
  const ends = new AbortController();
  let session = "";
  let waiting = [];
  let begun = false;
  let sending = Promise.resolve();
  const post = async (envelopes, wait) => {
    const r = await fetch(`${scheme("http")}//${host}/poll?uin=${uin}`, {
      method: "POST", credentials: "omit", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ session, wait_milli: wait, envelopes }),
      signal: AbortSignal.any([ends.signal, AbortSignal.timeout(wait + answerLimit)]),
    });
    if (!r.ok) {
      throw new Error(`${host} answers a poll with ${r.status}`);
    }
    const answer = await r.json();
    session = answer.session || session;
    answer.envelopes.forEach(onEnvelope);
    if (answer.over) {
      throw new Error("the session is over");
    }
  };
  const end = () => {
    if (!ends.signal.aborted) {
      ends.abort();
      onEnd();
    }
  };
  const listen = async () => {
    try {
      while (!ends.signal.aborted) {
        await post([], pollWait);
      }
    } catch {
      end();
    }
  };
  const flush = () => {
    // One request at a time, in order; what comes meanwhile goes with the next.
    sending = sending.then(async () => {
      if (waiting.length === 0 || ends.signal.aborted) {
        return;
      }
      const batch = waiting;
      waiting = [];
      try {
        await post(batch, 0);
      } catch {
        end();
        return;
      }
      if (!begun) {
        begun = true;
        listen();
      }
    });
  };
  return {
    kind: "long polling",
    send: (e) => {
      waiting.push(e);
      flush();
    },
    close: () => ends.abort(),
  };
}
