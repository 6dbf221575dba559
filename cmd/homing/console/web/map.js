// The map: where regions and POPs are, who copies to whom, who acts for whom.
// Text is only ever set as textContent, and every element is kept from one
// state to the next under a key, so that animations do not start over.

const SVG = "http://www.w3.org/2000/svg";
const NORTH = 84; // degrees; the outline's y = 0
const BOTTOM = 152; // where the outline ends, near 60 S

// The outline's projection (cmd/homing/console/generate), in degrees of
// longitude at the equator.
const miller = (lat) => (1.25 * Math.log(Math.tan(Math.PI / 4 + (0.4 * lat * Math.PI) / 180)) * 180) / Math.PI;
const projectY = (lat) => miller(NORTH) - miller(Math.max(-80, Math.min(NORTH, lat)));

// Keyed makes children of a parent once and finds them again by key.
export class Keyed {
  constructor(parent, namespace) {
    this.parent = parent;
    this.namespace = namespace;
    this.elements = new Map();
    this.used = new Set();
  }
  begin() { this.used.clear(); }
  get(key, tag) {
    this.used.add(key);
    let e = this.elements.get(key);
    if (!e) {
      e = this.namespace ? document.createElementNS(this.namespace, tag) : document.createElement(tag);
      this.elements.set(key, e);
    }
    this.parent.appendChild(e); // in the order of asking
    return e;
  }
  end() {
    for (const [key, e] of this.elements) {
      if (!this.used.has(key)) { e.remove(); this.elements.delete(key); }
    }
  }
}

function set(e, attributes) {
  for (const [k, v] of Object.entries(attributes)) {
    if (e.getAttribute(k) !== String(v)) e.setAttribute(k, v);
  }
  return e;
}

// frame chooses the part of the world that is shown: from after the widest gap
// between longitudes, around everything, with a margin.
function frame(nodes, width, height) {
  const xs = nodes.map((n) => (((n.lon + 180) % 360) + 360) % 360).sort((a, b) => a - b);
  let start = xs[0] ?? 0, span = 0, gap = -1;
  xs.forEach((x, i) => {
    const next = i + 1 < xs.length ? xs[i + 1] : xs[0] + 360;
    if (next - x > gap) { gap = next - x; start = next % 360; span = 360 - gap; }
  });
  const ys = nodes.map((n) => projectY(n.lat));
  const top = Math.min(...ys, 60), bottom = Math.max(...ys, 70);
  // Room for labels: a sixth of the width to each side, at least 70 degrees in all.
  const scale = Math.max(width / 360, Math.min(width / Math.max(span * 1.32, 70), height / Math.max((bottom - top) * 1.75, 40)));
  const w = width / scale, h = height / scale;
  const left = start - (w - span) / 2;
  let y = (top + bottom) / 2 - h / 2;
  y = h >= BOTTOM ? (BOTTOM - h) / 2 : Math.max(0, Math.min(BOTTOM - h, y));
  const shift = ((left % 360) + 360) % 360; // the outline lies at 0 and again at 360
  return {
    scale, shift, y,
    at(lat, lon) {
      let x = (((lon + 180 - left) % 360) + 360) % 360;
      if (x > w + 20) x -= 360;
      return { x: x * scale, y: (projectY(lat) - y) * scale };
    },
  };
}

// spread moves markers apart that would cover each other; a fine line then
// leads to the true place. The same nodes always give the same picture.
function spread(nodes) {
  for (let round = 0; round < 80; round++) {
    for (let i = 0; i < nodes.length; i++) {
      for (let j = i + 1; j < nodes.length; j++) {
        const a = nodes[i], b = nodes[j];
        const want = a.radius + b.radius + (a.region && b.region ? 40 : 9); // between regions there is an arc to see
        let dx = b.x - a.x, dy = b.y - a.y, d = Math.hypot(dx, dy);
        if (d >= want) continue;
        if (d < 0.5) { const t = i * 2.4 + j; dx = Math.cos(t); dy = Math.sin(t); d = 1; }
        const push = (want - d) / d / 2;
        const wa = a.region ? 0.3 : 1, wb = b.region ? 0.3 : 1;
        a.x -= (dx * push * wa * 2) / (wa + wb); a.y -= (dy * push * wa * 2) / (wa + wb);
        b.x += (dx * push * wb * 2) / (wa + wb); b.y += (dy * push * wb * 2) / (wa + wb);
      }
    }
  }
}

const overlap = (a, b) =>
  Math.max(0, Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x)) * Math.max(0, Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y));

// place finds for a label the candidate that covers least.
function place(candidates, taken, width, height) {
  let best = candidates[0], cost = Infinity;
  candidates.forEach((c, i) => {
    let k = i * 1.5; // earlier candidates look better
    for (const t of taken) k += overlap(c, t) * (t.weight ?? 1);
    k += 60 * (Math.max(0, 4 - c.x) + Math.max(0, c.x + c.w - width + 4) + Math.max(0, 4 - c.y) + Math.max(0, c.y + c.h - height + 4));
    if (k < cost) { cost = k; best = c; }
  });
  taken.push({ ...best, weight: 4 }); // text upon text is the worst
  return best;
}

function around(n, w, h) {
  const r = n.radius + 5;
  const right = n.x + r, left = n.x - r - w, mid = n.y - h / 2, above = n.y - r - h + 3, below = n.y + r - 3, centre = n.x - w / 2;
  return [
    [right, mid, "start"], [left, mid, "end"], [centre, below + 3, "middle"], [centre, above - 3, "middle"],
    [right - 3, below - 2, "start"], [right - 3, above + 2, "start"], [left + 3, below - 2, "end"], [left + 3, above + 2, "end"],
    [right + 14, mid - h, "start"], [right + 14, mid + h, "start"], [left - 14, mid - h, "end"], [left - 14, mid + h, "end"],
  ].map(([x, y, anchor]) => ({ x, y, w, h, anchor, tx: anchor === "start" ? x : anchor === "end" ? x + w : x + w / 2 }));
}

// bow is an arc between two nodes, bent to its right so that both directions
// can be told apart.
function bow(a, b, bend) {
  const dx = b.x - a.x, dy = b.y - a.y, d = Math.hypot(dx, dy) || 1;
  const k = Math.max(bend * Math.min(d, 320), bend > 0.2 ? 40 : 22); // near neighbours need more
  const c = { x: (a.x + b.x) / 2 - (dy / d) * k, y: (a.y + b.y) / 2 + (dx / d) * k };
  const cut = (from, to, by) => {
    const l = Math.hypot(to.x - from.x, to.y - from.y) || 1;
    return { x: from.x + ((to.x - from.x) * by) / l, y: from.y + ((to.y - from.y) * by) / l };
  };
  const p = cut(a, c, a.radius + 4), q = cut(b, c, b.radius + 4);
  const f = (n) => n.toFixed(1);
  return {
    d: `M${f(p.x)} ${f(p.y)}Q${f(c.x)} ${f(c.y)} ${f(q.x)} ${f(q.y)}`,
    q, c, side: { x: -dy / d, y: dx / d },
    at: (t) => ({
      x: (1 - t) * (1 - t) * p.x + 2 * t * (1 - t) * c.x + t * t * q.x,
      y: (1 - t) * (1 - t) * p.y + 2 * t * (1 - t) * c.y + t * t * q.y,
    }),
  };
}

export class WorldMap {
  constructor(svg) {
    this.svg = svg;
    this.land = svg.querySelector("#land");
    this.grid = new Keyed(svg.querySelector("#graticule"), SVG);
    this.items = new Keyed(svg.querySelector("#world"), SVG);
    this.measure = document.createElement("canvas").getContext("2d");
  }

  textWidth(text, px, weight) {
    this.measure.font = `${weight} ${px}px ${getComputedStyle(document.body).fontFamily}`;
    return this.measure.measureText(text).width;
  }

  title(e, text) {
    let t = e.querySelector("title");
    if (!t) { t = document.createElementNS(SVG, "title"); e.appendChild(t); }
    if (t.textContent !== text) t.textContent = text;
  }

  // draw shows the view: regions and POPs with what to say about each, arcs
  // with their class and text. See console.js, view().
  draw(view) {
    const box = this.svg.getBoundingClientRect();
    const width = Math.round(box.width), height = Math.round(box.height);
    if (!width || !height) return;
    set(this.svg, { viewBox: `0 0 ${width} ${height}`, "aria-label": view.summary });
    const places = [...view.regions, ...view.pops];
    if (!places.length) return;
    const f = frame(places, width, height);
    set(this.land, { transform: `scale(${f.scale}) translate(${-f.shift} ${-f.y})` });
    this.drawGrid(f, width, height);

    const nodes = places.map((p) => {
      const at = f.at(p.lat, p.lon);
      return { ...p, ...at, trueX: at.x, trueY: at.y, region: !p.near, radius: p.near === undefined ? 10 : 4 + 3.5 * Math.sqrt(p.share) };
    });
    spread(nodes);
    const byKey = new Map(nodes.map((n) => [n.key, n]));
    const s = this.items;
    s.begin();

    for (const n of nodes) {
      const home = n.near !== undefined && byKey.get("r:" + n.near);
      if (home) set(s.get("tie:" + n.key, "line"), { class: "tie", x1: n.x, y1: n.y, x2: home.x, y2: home.y });
    }
    const taken = nodes.map((n) => ({ x: n.x - n.radius - 2, y: n.y - n.radius - 2, w: 2 * n.radius + 4, h: 2 * n.radius + 4, weight: 4 }));
    const bows = [];
    for (const a of view.arcs) {
      const from = byKey.get("r:" + a.from), to = byKey.get("r:" + a.to);
      if (!from || !to) continue;
      const b = bow(from, to, a.acts ? 0.34 : 0.16);
      const e = set(s.get("arc:" + a.key, "path"), { class: "arc " + a.cls, d: b.d });
      this.title(e, a.title);
      if (a.acts) {
        const angle = (Math.atan2(b.q.y - b.c.y, b.q.x - b.c.x) * 180) / Math.PI;
        set(s.get("head:" + a.key, "path"), { class: "head", d: "M4 0L-10 -7L-7 0L-10 7Z", transform: `translate(${b.q.x} ${b.q.y}) rotate(${angle})` });
      }
      for (let t = 0.06; t < 0.97; t += 0.03) { const p = b.at(t); taken.push({ x: p.x - 3, y: p.y - 3, w: 6, h: 6, weight: a.acts ? 2 : 0.3 }); }
      if (a.text) bows.push({ a, b });
    }
    for (const n of nodes) {
      if (Math.hypot(n.x - n.trueX, n.y - n.trueY) > 4) {
        set(s.get("lead:" + n.key, "line"), { class: "leader", x1: n.x, y1: n.y, x2: n.trueX, y2: n.trueY });
        set(s.get("pin:" + n.key, "circle"), { class: "pin", cx: n.trueX, cy: n.trueY, r: 1.6 });
      }
    }
    for (const n of nodes) {
      const kind = n.region ? "m-region " : "m-pop ";
      this.title(set(s.get("mark:" + n.key, "circle"), { class: kind + n.cls, cx: n.x, cy: n.y, r: n.region ? 8 : n.radius.toFixed(1) }), n.title);
      if (n.region) set(s.get("core:" + n.key, "circle"), { class: "m-core " + n.cls, cx: n.x, cy: n.y, r: 3, "pointer-events": "none" });
      else if (n.cls === "down") set(s.get("x:" + n.key, "path"), { class: "cross", d: `M${n.x - 3} ${n.y - 3}l6 6m0 -6l-6 6` });
    }
    for (const n of nodes.filter((n) => n.region)) this.label(n, taken, width, height);
    for (const { a, b } of bows.sort((x, y) => (y.a.acts ? 1 : 0) - (x.a.acts ? 1 : 0))) {
      const px = a.acts ? 12 : 10.5, w = this.textWidth(a.text, px, a.acts ? 650 : 400) + 4, h = px + 4;
      // Beside the arc, on the side it is bent to where that is free.
      const off = 4 + (Math.abs(b.side.x) * w + Math.abs(b.side.y) * h) / 2;
      const at = (t, o) => { const p = b.at(t); return { x: p.x + b.side.x * o - w / 2, y: p.y + b.side.y * o - h / 2, w, h }; };
      const spots = [0.5, 0.4, 0.6, 0.3, 0.7].flatMap((t) => [at(t, off), at(t, -off)]);
      const c = place([...spots, ...[0.5, 0.3, 0.7].flatMap((t) => [at(t, 2.2 * off), at(t, -2.2 * off), at(t, 3.4 * off)])], taken, width, height);
      const e = set(s.get("lag:" + a.key, "text"), { class: a.acts ? "t-acts" : "t-lag " + a.cls, x: c.x + w / 2, y: c.y + h / 2 + px * 0.35, "data-arc": a.key });
      if (e.textContent !== a.text) e.textContent = a.text;
    }
    // Where it is too narrow for every name, the table below has them.
    for (const n of nodes) if (!n.region && (width >= 520 || n.cls === "down")) this.label(n, taken, width, height);
    s.end();
  }

  label(n, taken, width, height) {
    const name = n.region ? 14 : 11, sub = n.sub ? 11 : 0;
    const w = Math.max(this.textWidth(n.name, name, n.region ? 650 : 400), sub ? this.textWidth(n.sub, sub, 600) : 0) + 2;
    const h = name * 1.2 + (sub ? sub * 1.3 : 0);
    const c = place(around(n, w, h), taken, width, height);
    const e = set(this.items.get("name:" + n.key, "text"), { class: n.region ? "t-region" : "t-pop", x: c.tx, y: c.y + name, "text-anchor": c.anchor });
    if (e.textContent !== n.name) e.textContent = n.name;
    if (!sub) return;
    const u = set(this.items.get("sub:" + n.key, "text"), { class: "t-sub " + n.subCls, x: c.tx, y: c.y + name + sub * 1.3, "text-anchor": c.anchor });
    if (u.textContent !== n.sub) u.textContent = n.sub;
  }

  drawGrid(f, width, height) {
    this.grid.begin();
    let d = "";
    for (let lon = 0; lon < 720; lon += 30) {
      const x = (lon - f.shift) * f.scale;
      if (x > 0 && x < width) d += `M${x.toFixed(1)} 0V${height}`;
    }
    for (let lat = -60; lat < 84; lat += 20) {
      const y = (projectY(lat) - f.y) * f.scale;
      if (y > 0 && y < height) d += `M0 ${y.toFixed(1)}H${width}`;
    }
    set(this.grid.get("lines", "path"), { d: d || "M0 0" });
    this.grid.end();
  }
}
