import { get, parsePointer, share } from './apply.js';
import { call, createCore } from './core.js';

const cores = new Set(); // those that are connected

// Equal options, functions by identity.
const optionsEqual = (a, b) => Object.keys({ ...a, ...b }).every((name) => a[name] === b[name] || (!a[name]?.call && !b[name]?.call && JSON.stringify(a[name]) === JSON.stringify(b[name])));

/** Keeps the JSON document at a URL of poll_sse up to date: see docs/client.md. */
export function live(address, { signal, onerror, initial, ...o } = {}) {
  const url = `${new URL(address, globalThis.document?.baseURI)}`;
  if (o.headers && !o.headers.call) o.headers = [...new Headers(o.headers)];
  // An element is what a page that was rendered on the server begins with.
  if (initial?.dataset) initial = { data: JSON.parse(initial.textContent), id: initial.dataset.id };
  const find = () => [...cores].find((known) => known._url === url && optionsEqual(known._options, o));
  let core = find() ?? createCore(url, o, initial);
  const root = view(() => core, (listener) => {
    cores.add((core = find() ?? core));
    return core._listen(listener, onerror, cores);
  });
  if (signal?.aborted) root.close();
  signal?.addEventListener('abort', root.close);
  return root;
}

// A document, or a part of its parent's.
function view(core, listen, choose, parent) {
  const offs = new Map(); // listeners to what takes them off
  let closed, seen, value;

  const getSnapshot = () => {
    const doc = parent ? parent.data : core()._doc;
    if (!parent) return doc;
    if (seen !== doc) {
      seen = doc;
      value = share(value, choose(doc));
    }
    return value;
  };
  const onChange = (listener) => {
    if (api.status === closed) return () => {};
    const own = (...told) => listener(...told); // the same function may subscribe twice
    offs.set(own, listen(own));
    return () => remove(own);
  };
  const remove = (listener, now) => {
    offs.get(listener)?.(now);
    offs.delete(listener);
  };
  const ended = () => /closed|failed/.test(api.status.state);

  const api = {
    get data() {
      return getSnapshot();
    },
    get id() {
      return core()._id;
    },
    get status() {
      return closed ?? (parent ? parent.status : core()._status());
    },
    get stats() {
      return core()._readStats();
    },
    get ready() {
      return (async () => {
        for await (const doc of api) return doc;
        throw new Error('closed');
      })();
    },
    subscribe(run) {
      let told, last;
      const off = onChange((change) => {
        const previous = last;
        last = getSnapshot();
        if (!change || (parent && told && Object.is(last, previous))) return;
        told = true;
        run(last, parent ? { type: 'snapshot', previous, id: change.id } : change);
      });
      // Only now it is known which core this is.
      told = core()._has;
      if (told) call(run, (last = getSnapshot()));
      return off;
    },
    onChange,
    getSnapshot,
    onStatus(run) {
      const off = onChange((change, statusToo) => statusToo && run(api.status));
      run(api.status);
      return off;
    },
    at(pointer) {
      const tokens = parsePointer(pointer);
      return api.select((doc) => {
        try {
          return tokens.reduce(get, { '': doc });
        } catch {
          // nothing there
        }
      });
    },
    select: (choose) => view(core, onChange, choose, api),
    reconnect: () => core()._reconnect(),
    close() {
      if (closed) return;
      closed = { state: 'closed', since: new Date() };
      for (const listener of [...offs.keys()]) {
        remove(listener, true);
        listener(undefined, true);
      }
    },
    async *[Symbol.asyncIterator]() {
      let wake, last = offs; // no document is this
      const off = onChange(() => wake?.());
      try {
        for (;;) {
          if (core()._has && last !== getSnapshot()) yield (last = getSnapshot());
          else if (ended()) {
            if (api.status.error) throw api.status.error;
            return;
          } else await new Promise((done) => (wake = done));
        }
      } finally {
        off();
      }
    },
    [Symbol.dispose ?? Symbol()]: () => api.close(),
  };
  return api;
}
