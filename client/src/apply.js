// Applies changes to a document without writing to it: what changes is copied once for each call, the rest is shared.

const isList = Array.isArray;
// As JSON.parse makes them: a Date or a Set, which a reviver or select() may have made, is a value.
export const isObject = (value) => value && Object.getPrototypeOf(value) === Object.prototype;
const { hasOwn } = Object;

const misfit = () => {
  throw new Error('does not fit');
};

/** Splits a JSON Pointer (RFC 6901, section 3). The first token is empty, for the document in its box. */
export function parsePointer(pointer) {
  const tokens = pointer.split('/');
  if (tokens[0] !== '') misfit();
  if (!pointer.includes('~')) return tokens;
  if (/~(?![01])/.test(pointer)) misfit();
  return tokens.map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function parseIndex(token, limit) {
  // "01", "1e0" and "-0" are no indices.
  return token < limit && !/^0.|\D|^$/.test(token) ? +token : misfit();
}

/** Returns a member or an item, which must be there. */
export function get(node, token) {
  if (isList(node)) return node[parseIndex(token, node.length)];
  return isObject(node) && hasOwn(node, token) ? node[token] : misfit();
}

// An assignment to __proto__ would change the prototype instead.
export function set(node, key, value) {
  if (key === '__proto__') Object.defineProperty(node, key, { value, writable: true, enumerable: true, configurable: true });
  else node[key] = value;
}

const equal = (a, b) => share(a, b) === a;

/** Applies a JSON Patch (RFC 6902). Throws if an operation does not fit; the document is never written to. */
export function applyPatch(document, patch) {
  // A single operation meets no container twice, except for a move.
  const box = { '': document }, copied = (patch[1] || patch[0]?.from) && new Set();
  let last; // token of the place that was looked up

  const lookUp = (path, write) => {
    const tokens = parsePointer(path);
    let node = box;
    last = tokens.pop();
    for (const token of tokens) {
      let child = get(node, token);
      if (write && !copied?.has(child)) {
        // With room for one item more: for a list that is full, splice would copy all items once again.
        if (isList(child)) (child = child.concat([0])).pop();
        else child = isObject(child) ? { ...child } : misfit();
        copied?.add(child);
        set(node, token, child);
      }
      node = child;
    }
    return node;
  };
  const read = (path) => get(lookUp(path), last);
  const put = (path, value, replace) => {
    // JSON has no undefined: an operation without a value.
    const node = value === undefined ? misfit() : lookUp(path, true);
    if (replace) get(node, last);
    if (!replace && isList(node)) node.splice(last === '-' ? node.length : parseIndex(last, node.length + 1), 0, value);
    else set(node, last, value);
  };
  const remove = (path) => {
    const node = lookUp(path, true), value = node === box ? misfit() : get(node, last);
    if (isList(node)) node.splice(last, 1);
    else delete node[last];
    return value;
  };

  for (const operation of patch) {
    const { op, path, from, value } = operation;
    try {
      if (op === 'add') put(path, value);
      else if (op === 'remove') remove(path);
      else if (op === 'replace') put(path, value, true);
      else if (op === 'move') put(path, from !== path && `${path}/`.startsWith(`${from}/`) ? misfit() : remove(from));
      else if (op === 'copy') {
        put(path, read(from));
        // Two places hold one value now: neither may be written to without a copy.
        copied?.clear();
      } else if (op !== 'test' || !equal(read(path), value)) misfit();
    } catch (cause) {
      throw new Error(`the patch does not fit: ${JSON.stringify(operation).slice(0, 200)}`, { cause });
    }
  }
  return box[''];
}

/** Applies a JSON Merge Patch (RFC 7396). */
export function applyMerge(document, patch) {
  if (!isObject(patch)) return patch;
  const merged = isObject(document) ? { ...document } : {};
  for (const key of Object.keys(patch)) {
    if (patch[key] === null) delete merged[key];
    else set(merged, key, applyMerge(hasOwn(merged, key) ? merged[key] : undefined, patch[key]));
  }
  return merged;
}

/** Returns a document equal to next that holds the parts of previous that have not changed. */
export function share(previous, next) {
  if (Object.is(previous, next)) return previous;
  if (isList(previous) && isList(next)) {
    const result = next.slice(), shift = previous.length - next.length;
    let tail = next.length;
    // From the end first, so that an item put in front renews one item and not all.
    if (shift) {
      while (tail > 0 && tail + shift > 0) {
        const old = previous[tail - 1 + shift], shared = share(old, next[tail - 1]);
        if (shared !== old) break;
        result[--tail] = shared;
      }
    }
    for (let i = 0; i < tail && i < previous.length; i++) result[i] = share(previous[i], next[i]);
    return !shift && result.every((item, i) => Object.is(item, previous[i])) ? previous : result;
  }
  if (!isObject(previous) || !isObject(next)) return next;
  const result = { ...next }, keys = Object.keys(next);
  let same = keys.length === Object.keys(previous).length;
  for (const key of keys) {
    if (hasOwn(previous, key)) set(result, key, share(previous[key], next[key]));
    same &&= hasOwn(previous, key) && Object.is(result[key], previous[key]);
  }
  return same ? previous : result;
}
