import { applyMerge, applyPatch, share } from './apply.js';
import { connection } from './connection.js';
import { LiveError } from './error.js';
import { tabs } from './tabs.js';

const grace = 3000; // before a connection that was lost is called lost
const linger = 1000; // after the last subscriber
const mostPending = 100; // changes that wait to be told
const hiddenAlone = 60000; // a hidden page over HTTP/1.1 that shares no connection gives its own back

const page = globalThis.document;

/** Runs a callback of the page; what it throws is reported and stops nobody. */
export const call = (run, ...values) => {
  try {
    run(...values);
  } catch (error) {
    (globalThis.reportError ?? console.error)(error);
  }
};

/** One document in this page: its connection, and those who listen. */
export const createCore = (url, o, initial) => {
  const listeners = new Map(); // to their onerror
  const stats = { events: 0, patches: 0, snapshots: 0, bytes: 0, connects: 0, resyncs: 0, since: new Date() };
  let status = { state: 'paused', since: stats.since }, read = (text) => JSON.parse(text);
  let documentBytes = 0, firstAt, depth = 0, pending = [], statusChanged, scheduled, running, alone, graceTimer, lingerTimer, hiddenTimer, registry;

  // ---- what is told

  const tell = () => {
    const changes = pending, told = statusChanged;
    pending = [];
    scheduled = statusChanged = false;
    const change = changes[1] ? { type: 'batch', changes, previous: changes[0].previous, id: core._id } : changes[0];
    for (const listener of [...listeners.keys()]) if (listeners.has(listener)) call(listener, change, told);
  };

  const schedule = () => {
    if (scheduled || depth || !(pending[0] || statusChanged)) return;
    scheduled = true;
    if (o.notify?.call) o.notify(tell);
    else if (o.notify === 'frame' && page && !page.hidden) requestAnimationFrame(tell);
    else tell();
  };

  const batch = (run) => {
    depth++;
    try {
      run();
    } finally {
      depth--;
      schedule();
    }
  };

  // ---- what comes

  const set = (part) => {
    const next = { ...status, ...part };
    if (part.state) {
      clearTimeout(graceTimer);
      if (part.state !== status.state) next.since = part.since ?? new Date();
      if (!part.error) next.error = next.retryAt = undefined;
    }
    if (JSON.stringify(next) === JSON.stringify(status)) return;
    status = next;
    statusChanged = true;
    core._say(['status', core._plainStatus(), core._id]);
    schedule();
  };

  const publish = (type, doc, id, patch) => {
    const previous = core._doc, known = core._has && core._id === id;
    if (!patch && core._has && o.share !== false) doc = share(previous, doc);
    core._doc = doc;
    core._id = id;
    core._has = true;
    if (/connecting|paused|offline/.test(status.state)) set({ state: 'live' });
    if (known && doc === previous) return;
    pending.push(patch ? { type, patch, previous, id } : { type: 'snapshot', previous, id });
    // However late a page is told, what waits stays small.
    if (pending.length > mostPending) pending = [{ type: 'snapshot', previous: pending[0].previous, id }];
    schedule();
  };

  const take = (kind, text, id, base) => {
    try {
      const value = read(text, kind);
      if (kind === 'snapshot') {
        stats.snapshots++;
        documentBytes = new TextEncoder().encode(text).length;
        firstAt ??= Date.now();
        publish(kind, value, id);
      } else {
        publish(kind, (kind === 'patch' ? applyPatch : applyMerge)(core._doc, value), id, value);
        stats.patches++;
      }
    } catch (cause) {
      throw new LiveError('data', url, { cause });
    }
    core._say([kind, text, id, base]);
  };

  // A clean end has no error. What was live gets some time to come back before a page shows a banner.
  const fail = (error, retryAt) => {
    const lost = () => set({ state: error?.fatal ? 'failed' : globalThis.navigator?.onLine === false ? 'offline' : 'connecting', error, reason: error?.kind, retryAt });
    clearTimeout(graceTimer);
    if (error?.fatal) core._private(); // a tab that opens after a login must not wait for this one
    // The document has come another way, and goes on to.
    if (error?.kind === 'buffered') set({ transport: 'long-poll' });
    else if (error?.fatal || /connecting|offline/.test(status.state)) lost();
    else graceTimer = setTimeout(lost, grace);
    // The page may connect anew in it.
    if (error) for (const onerror of new Set(listeners.values())) onerror && call(onerror, error);
  };

  // ---- who listens; sleep, network and visibility

  const go = async () => {
    if (o.reviver || (o.numbers ?? 'double') !== 'double') read = (await import('./numbers.js')).reader(o);
    if (!running || status.state === 'failed') return;
    if (status.state === 'paused') set({ state: 'connecting' });
    way._start();
  };
  const halt = () => {
    clearTimeout(hiddenTimer);
    // What has failed does not try again because it was hidden or frozen.
    if (running && status.state === 'failed') return;
    way._stop();
    set({ state: 'paused' });
  };
  const look = () => {
    clearTimeout(hiddenTimer);
    const after = o.hidden?.pauseAfter ?? (alone && o.hidden !== 'keep' && hiddenAlone);
    if (!page.hidden) {
      go();
      way._wake();
    } else if (after !== false) hiddenTimer = setTimeout(halt, Math.min(after, 2e9));
  };
  const heard = {
    visibilitychange: look,
    freeze: halt,
    pagehide: halt,
    resume: go,
    pageshow: ({ persisted }) => persisted && go(),
    online: () => way._wake(1),
  };
  // Those of the document pass the window on their way down.
  const hear = (method) => {
    for (const type in page && heard) globalThis[method](type, heard[type], true);
  };
  const stop = () => {
    running = false;
    hear('removeEventListener');
    halt();
    registry?.delete(core);
  };

  const core = {
    _url: url,
    _options: o,
    _id: initial?.id,
    _doc: initial?.data,
    _has: !!initial,
    _stats: stats,
    _set: set,
    _take: take,
    _publish: publish,
    _fail: fail,
    _batch: batch,
    _say() {},
    _status: () => status,
    _plainStatus: () => ({ ...status, error: undefined, transport: undefined }),
    _readStats: () => ({ ...stats, pollingBytes: firstAt ? documentBytes * (1 + Math.floor((Date.now() - firstAt) / (o.interval ?? 5000))) : 0 }),
    _listen(listener, onerror, cores) {
      registry = cores;
      clearTimeout(lingerTimer);
      listeners.set(listener, onerror);
      if (!running) {
        running = true;
        hear('addEventListener');
        go();
      }
      return (now) => {
        listeners.delete(listener);
        if (listeners.size || !running) return;
        if (now) stop();
        else lingerTimer = setTimeout(stop, linger);
      };
    },
    _reconnect() {
      if (!running) return;
      set({ state: 'connecting' });
      way._wake(2);
    },
    _forget() {
      core._id = undefined;
      stats.resyncs++;
    },
    // The document is this client's alone, and cookies are invisible here: only the page can tell whose it is.
    _private() {
      if (way === link || o.tabs?.key !== undefined) return;
      alone = true;
      way._leave(true);
      way = link;
      link._start();
    },
  };
  const link = connection(url, o, core);
  let way = link;
  if (page) {
    // Over HTTP/2 a browser has as many connections as it wants.
    const many = new URL(url).origin === location.origin && /^h[23]/.test(performance.getEntriesByType('navigation')[0]?.nextHopProtocol);
    way = ((many ? o.tabs === true : o.tabs !== false) && tabs(url, o, core, link)) || link;
    alone = way === link && !many;
  }
  return core;
};
