// One connection for all tabs. Messages are lists, [kind, value, id, base], as tabs of two releases may talk to each other:
// a follower sends hello (with its id), ping and again; the tab that leads sends document, snapshot, patch, merge, status, pong
// (with its id); a worker sends solo for a private document.

const askAfter = 3000, stealAfter = 6000; // ms of silence, while the page is visible

/** Answers a follower for the core that has the connection. */
export function answer(core, [kind, , id], post) {
  if (kind === 'ping') post(['pong', , core._id]);
  if (kind === 'again' || (kind === 'hello' && core._status().state === 'failed')) core._reconnect();
  if (kind !== 'hello') return;
  if (core._has && id !== core._id) post(core._options.numbers?.shared ? ['snapshot', JSON.stringify(core._doc), core._id] : ['document', core._doc, core._id]);
  post(['status', core._plainStatus(), core._id]);
}

// Takes what the leader sends. Returns whether the document is to be asked for.
function follow(core, [kind, value, id, base]) {
  const known = !id || id === core._id;
  if (kind === 'status') core._set(value);
  if (kind === 'pong' || kind === 'status') return !known;
  if (kind !== 'document' && kind !== 'snapshot' && base !== core._id) return !known;
  if (id && known) return;
  try {
    if (kind === 'document') core._publish(kind, value, id);
    else core._take(kind, value, id);
  } catch (error) {
    core._forget();
    core._fail(error);
    return true;
  }
}

const isFunction = (option) => option?.call;

// What the connection is made of: two tabs share one only if that is equal.
function shareName(url, { headers, events, credentials, numbers, tabs }) {
  let hash = 0n;
  for (const c of JSON.stringify([tabs?.key, isFunction(headers) || headers, events, credentials, `${numbers}`])) hash = (hash * 65599n + BigInt(c.codePointAt())) % 0x1fffffffffffffffn;
  return `poll-sse 1 ${hash} ${url}`;
}

/**
 * Shares a core's connection among the tabs that use the same name: the one that holds the lock of that name leads.
 * Without locks (plain HTTP) a SharedWorker leads, if there is one. Returns nothing if the connection cannot be shared.
 */
export function tabs(url, o, core, connection) {
  // What a function does cannot be told, nor told to a worker: only a key says that it does the same in each tab.
  const functions = [o.headers, o.numbers, o.reviver, o.fetch].filter(isFunction), { locks } = navigator, { key, worker: script } = o.tabs ?? {};
  const worker = !locks && globalThis.SharedWorker && !functions[0] && script;
  if (!(locks || worker) || (key === undefined && functions.some((option) => !option.shared))) return;
  const name = shareName(url, o);
  let channel, leads, release, request, timer, heard, workers = 0;
  const post = (message) => channel?.postMessage(message);
  const hello = () => post(['hello', , core._id]);

  const receive = ({ data: message }) => {
    const [kind] = message;
    if (leads) answer(core, message, post);
    else if (kind === 'solo') core._private();
    else if (!/hello|ping|again/.test(kind)) {
      heard = Date.now();
      core._batch(() => {
        if (follow(core, message)) hello();
        core._set({ transport: worker ? 'worker' : 'tab' });
      });
    }
  };

  const lead = (done) => {
    leads = true;
    release = done;
    connection._start();
  };
  const lock = (steal) => {
    request = new AbortController();
    locks.request(name, steal ? { steal } : { signal: request.signal }, () => new Promise(lead)).catch(({ name }) => {
      if (leads) {
        // Another tab took this one for dead.
        leads = false;
        connection._stop();
        heard = Date.now();
        hello();
        lock();
      } else if (name !== 'AbortError') lead(() => {}); // a frame in a sandbox may have no locks
    });
  };

  const open = () => {
    heard = Date.now();
    if (worker) {
      post(['bye']);
      channel = new SharedWorker(worker, name + workers++).port;
      post(['open', [url, { ...o, tabs: { key }, notify: 0 }]]);
    } else channel = new BroadcastChannel(name);
    channel.onmessage = receive;
    hello();
  };

  // A hidden page's timers are late, its messages are not: there are no pulses, and only a visible page asks and takes over.
  const look = () => {
    const silent = Date.now() - heard;
    if (leads || document.hidden || silent <= askAfter) return;
    if (silent <= stealAfter) return post(['ping']);
    if (worker) return open();
    heard = Date.now();
    request.abort();
    lock(true);
  };

  core._say = (message) => leads && post(message);
  const leave = (keep) => {
    clearInterval(timer);
    if (worker) post(['bye']);
    channel?.close();
    channel = null;
    if (leads) release();
    else request?.abort();
    if (!keep) connection._stop();
    leads = false;
  };
  return {
    _start() {
      if (channel) return;
      open();
      if (locks) lock();
      timer = setInterval(look, 1000);
    },
    _stop: () => leave(),
    /** Leaves the others for good; whether this tab leads or not, its connection is its own from now on. */
    _leave: leave,
    _wake(anew) {
      if (leads) connection._wake(anew);
      else post([anew > 1 ? 'again' : 'ping']);
    },
  };
}
