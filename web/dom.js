// A tree is built anew for every view and the page is changed only where it differs.

const SVG = new Set(["svg", "use", "path"]);
const HANDLERS = ["onclick", "onchange", "onsubmit", "onkeydown", "oninput"];

/**
 * Makes an element.
 * @param {string} spec tag and classes, as in `div.seat.turn`
 * @param {object} [props] attributes; `key`, `data` (an object), `class` and `on…` functions are special.
 *   `false`, `null` and `undefined` leave an attribute out.
 * @param {...any} children nodes, texts, arrays of them; empty values are skipped
 */
export function h(spec, props, ...children) {
  const [tag, ...classes] = spec.split(".");
  const node = SVG.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  const { key, data, class: more, ...rest } = props ?? {};
  if (key !== undefined) node.$key = String(key);
  if (more) classes.push(...String(more).split(" ").filter(Boolean));
  if (classes.length) node.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(data ?? {})) {
    if (value !== null && value !== undefined) node.dataset[name] = value;
  }
  for (const [name, value] of Object.entries(rest)) {
    if (typeof value === "function") node[name] = value;
    else if (value !== false && value !== null && value !== undefined) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children.flat(Infinity).filter((child) => child || child === 0));
  return node;
}

const isSame = (a, b) => a.nodeName === b.nodeName && a.$key === b.$key;

/** Changes `live` into `next`, keeping every node that can be kept: focus and animations stay. */
export function morph(live, next) {
  if (!isSame(live, next)) {
    live.replaceWith(next);
    return next;
  }
  if (live.nodeType === Node.TEXT_NODE) {
    if (live.data !== next.data) live.data = next.data;
    return live;
  }
  morphAttributes(live, next);
  morphChildren(live, next);
  return live;
}

// `style` belongs to the tickers, `open` and the value of a field to the user.
const isOurs = (name) => name !== "style" && name !== "open";

function morphAttributes(live, next) {
  for (const { name } of [...live.attributes]) {
    if (isOurs(name) && !next.hasAttribute(name)) live.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (isOurs(name) && live.getAttribute(name) !== value) live.setAttribute(name, value);
  }
  for (const name of HANDLERS) {
    if (live[name] !== next[name]) live[name] = next[name];
  }
}

function morphChildren(live, next) {
  const wanted = new Set();
  for (const child of next.childNodes) if (child.$key !== undefined) wanted.add(child.$key);
  const keyed = new Map();
  for (const child of [...live.childNodes]) {
    if (child.$key === undefined) continue;
    if (wanted.has(child.$key)) keyed.set(child.$key, child);
    else child.remove();
  }
  let cursor = live.firstChild;
  for (const child of [...next.childNodes]) {
    const found = child.$key === undefined ? cursor : keyed.get(child.$key);
    if (!found || !isSame(found, child)) {
      live.insertBefore(child, cursor);
      continue;
    }
    if (found === cursor) cursor = cursor.nextSibling;
    else live.insertBefore(found, cursor);
    morph(found, child);
  }
  while (cursor) {
    const gone = cursor;
    cursor = cursor.nextSibling;
    gone.remove();
  }
}

/** Draws `make()` into `root` before the next frame; any number of requests make one drawing. */
export function drawer(root, make) {
  let due = false;
  let stopped = false;
  const draw = () => {
    due = false;
    if (stopped) return;
    const hadFocus = root.contains(document.activeElement);
    const next = root.cloneNode(false);
    next.append(...[make()].flat(Infinity).filter(Boolean));
    morph(root, next);
    // A button that has done its work is gone; the keyboard must not start at the top of the page again.
    if (hadFocus && !root.contains(document.activeElement)) root.focus({ preventScroll: true });
  };
  const request = () => {
    if (due) return;
    due = true;
    if (document.hidden) setTimeout(draw, 50);
    else requestAnimationFrame(draw);
  };
  request.stop = () => { stopped = true; };
  return request;
}
